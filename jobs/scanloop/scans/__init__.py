"""Scans as values: what a scanner delivered, read safely, kept at full depth, and made visible."""
