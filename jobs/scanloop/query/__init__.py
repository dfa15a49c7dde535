"""The query language: from text to a typed filter, and from that to SQL. See docs/queries.md."""
