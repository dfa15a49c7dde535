"""A job that does its work in chunks, each with a receipt of its own, and one receipt for the whole.

A chunk that has its receipt is done, so a job that was killed goes on where it was, and its memory does not grow with its work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from scanloop.catalog import Catalog
from scanloop.execution.job import JobRun, RunIdentity, execute
from scanloop.execution.receipts import load_receipt, receipt_key
from scanloop.product_lines import ProductLine
from scanloop.settings import Settings
from scanloop.store import Store

Result = dict[str, Any]


def execute_in_chunks(
    body: Callable[[JobRun, int], Result],
    total: Callable[[Sequence[Result]], Result],
    identity: RunIdentity,
    *,
    settings: Settings,
    store: Store,
    catalog: Catalog,
    definition: ProductLine | None = None,
    lease: str | None = None,
) -> Result:
    """Run `body` for chunk 0, 1 and so on until a result says that nothing is `left`; then write the receipt of the whole, from `total`.

    Part `p` of a job has chunks `p.0000`, `p.0001` and so on. Each chunk takes the lease anew. Raises as `execute` does.
    """
    deployment: dict[str, Any] = {"settings": settings, "store": store, "catalog": catalog, "definition": definition, "lease": lease}
    results: list[Result] = []
    if load_receipt(store, receipt_key(identity.run_id, identity.job, identity.part)) is None:
        for number in count():
            chunk = replace(identity, part=f"{identity.part}.{number:04d}")

            def work(run: JobRun, number: int = number) -> Result:
                return body(run, number)

            results.append(execute(work, chunk, **deployment))
            if not results[-1]["left"]:
                break
    return execute(lambda _: total(results), identity, **deployment)
