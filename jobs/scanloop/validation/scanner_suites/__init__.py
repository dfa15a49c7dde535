"""Suites as YAML, one file a scanner model or kind of scan."""
