"""What the DAGs share: assets, the table of jobs, defaults, tags. Nothing here runs at import."""
