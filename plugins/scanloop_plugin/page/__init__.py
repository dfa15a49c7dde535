"""The Scanloop page: the loop of every product line at a glance, read-only."""
