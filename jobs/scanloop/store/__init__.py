"""The store of everything kept: a folder or S3, one behaviour."""

from scanloop.store.base import Store, StoredObject
from scanloop.store.opening import open_store

__all__ = ["Store", "StoredObject", "open_store"]
