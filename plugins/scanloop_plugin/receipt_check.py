"""Reads back the completion receipt that makes a job's result count."""

from __future__ import annotations

from typing import Any

from scanloop_plugin.job_spec import JobSpec
from scanloop_plugin.outcome import JobUnavailable, JobWrong, ReceiptMissing


def verified_result(job: JobSpec, run_id: str, part: str) -> dict[str, Any]:
    """The `result` of the job's receipt, after checking that the receipt is of this run, job and part.

    Raises:
        ReceiptMissing: the store has none.
        JobUnavailable: the store cannot be read now.
        JobWrong: what lies there is no receipt, or is another's.
    """
    from scanloop.errors import ScanloopError, WorldUnavailable
    from scanloop.execution.receipts import load_receipt, receipt_key
    from scanloop.settings import read_settings
    from scanloop.store import open_store

    key = receipt_key(run_id, job.name, part)
    try:
        store = open_store(read_settings().store_url)
        receipt = load_receipt(store, key)
    except WorldUnavailable as error:
        raise JobUnavailable(f"The receipt of {job.name} cannot be read: {error.message}") from error
    except ScanloopError as error:
        raise JobWrong(f"The receipt of {job.name} cannot be used: {error.message}") from error
    if receipt is None:
        raise ReceiptMissing(f"{job.name} ended well but left no receipt at {store.uri(key)}, so nothing it did counts.")
    found = (receipt.run_id, receipt.job, receipt.part)
    if found != (run_id, job.name, part):
        raise JobWrong(f"{store.uri(key)} is the receipt of {found}, expected {(run_id, job.name, part)}.")
    return receipt.result
