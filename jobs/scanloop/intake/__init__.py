"""Intake: what sites deliver becomes scans in the catalog, or quarantine with a reason. Nothing is dropped."""
