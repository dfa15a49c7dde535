"""Importers for research sets: their pictures become scans as delivered ones do, their boxes annotations. The rules are in docs/imports.md."""
