from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from scanloop.parquet import read_table, write_table

TABLE = pa.table({"name": ["a", "b"] * 500, "boxes": [[1.0, 2.0], None] * 500})
SCRIPT = """
import pyarrow as pa
from scanloop.parquet import read_table, write_table
data = write_table(pa.table({"a": ["x"] * 10, "b": list(range(10))}))
for _ in range(8):
    read_table(data)
"""


def test_a_table_comes_back_and_equal_tables_have_equal_bytes():
    data = write_table(TABLE)
    assert read_table(data).equals(TABLE)
    assert write_table(pa.table(TABLE.to_pydict())) == data


@pytest.mark.parametrize("data", [b"", b"PAR1", write_table(TABLE)[:-9]])
def test_what_is_no_parquet_is_an_arrow_error(data):
    with pytest.raises((pa.ArrowException, OSError)):
        read_table(data)


def test_a_process_that_read_a_table_ends_as_it_should():
    """With pyarrow's own threads one in seven is aborted on a busy machine."""

    def run(_):
        return subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=False).returncode

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(run, range(40))) == {0}
