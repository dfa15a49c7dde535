"""The catalog: what Scanloop knows, in PostgreSQL. Read here; written only by publications (scanloop.execution)."""

from scanloop.catalog.connection import Catalog

__all__ = ["Catalog"]
