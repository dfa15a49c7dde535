"""Validation: expectations on what intake wrote down. What fails goes to quarantine with the names of what it failed."""
