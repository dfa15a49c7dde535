"""Parquet in memory: the same table gives the same bytes, and reading starts no threads.

A process of pyarrow 26.0.1 that ends soon after its threads began to read is aborted ("terminate called without an active exception"), one in
seven of them on a busy machine: a job that did its work would count as crashed. Small files gain nothing by threads.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


def read_table(data: bytes) -> pa.Table:
    """Read a Parquet file. Raises pyarrow.ArrowException, OSError: it is none."""
    import pyarrow.parquet as pq

    return pq.ParquetFile(io.BytesIO(data), pre_buffer=False).read(use_threads=False)


def write_table(table: pa.Table) -> bytes:
    """A Parquet file of a table, zstd. One version of pyarrow gives the same bytes for equal tables."""
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", compression_level=3, version="2.6", data_page_version="1.0", row_group_size=65536)
    return sink.getvalue()
