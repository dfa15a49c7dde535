"""What is done with freed memory, and when garbage is searched for."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from scanloop.allocator import collection_paused, keep_freed_memory, keeping_environment

FAULTS = """
import resource, sys
import numpy as np
{prepare}
def use():
    for _ in range(20):
        planes = [np.ones(3_000_000, np.uint8) for _ in range(8)]
        del planes
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(prepare: str, **environment: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(prepare=prepare)], env=environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_memory_of_one_picture_serves_the_next() -> None:
    page_faults = _faults("")
    assert page_faults > 1000
    assert _faults("from scanloop.allocator import keep_freed_memory; assert keep_freed_memory()") < page_faults / 10
    assert _faults("", **keeping_environment()) < page_faults / 10
    assert keep_freed_memory()


def test_collection_is_paused_and_goes_on_even_after_an_error() -> None:
    assert gc.isenabled()
    with collection_paused():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), collection_paused():
        print(1 / 0)
    assert gc.isenabled()
    gc.disable()
    try:
        with collection_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
