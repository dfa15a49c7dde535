"""The job that gets a release signed: asks the signer, waits a while, believes the signatures."""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa

from scanloop.catalog.tables import releases
from scanloop.errors import DataWrong, ObjectConflict, WorldUnavailable
from scanloop.execution import JobRun
from scanloop.release.requests import SigningAnswer, SigningRequest, read_answer, request_key
from scanloop.release.verify import verify_release
from scanloop.steps import step
from scanloop.store import open_store

POLL_S = 0.25


def publish_release(run: JobRun, product_line: str, release_id: str, *, wait_s: float) -> dict[str, Any]:
    """Have `release_id` signed. The result's `state` is `released` or `refused`.

    Raises:
        WorldUnavailable: the signer did not answer in time; the request stays open.
        DataWrong: there is no such release, or an answer says released and no signature does.
    """
    row = _release(run, product_line, release_id)
    request = SigningRequest(
        release_id, product_line, row["channel"], row["version"], row["model_id"], row["bundle_key"], row["bundle_sha256"], row["run_id"]
    )
    try:
        run.store.put_if_absent(request_key(release_id), request.to_bytes(), owner=release_id)
    except ObjectConflict:
        if run.store.get(request_key(release_id)) != request.to_bytes():
            raise DataWrong(f"{run.store.uri(request_key(release_id))} asks for something else than the catalog: it was forged.") from None
    step("release.after_request")
    run.add_input("release", release_id)
    answer = _wait_for_answer(run, release_id, wait_s)
    result = {"release_id": release_id, "product_line": product_line, "channel": row["channel"], "version": row["version"]}
    if answer.outcome == "refused":
        _update(run, row, {"state": "refused", "reason": answer.reason}, "release.refused")
        return {**result, "state": "refused", "reason": answer.reason, "target": None}
    channel = open_store(run.settings.channel_url)
    target = verify_release(channel, product_line, int(row["version"]), row["bundle_sha256"], run.workdir / "channel")
    step("release.after_verified")
    _update(run, row, {"state": "released", "target_path": target}, "release.released")
    return {**result, "state": "released", "reason": "", "target": target}


def _release(run: JobRun, product_line: str, release_id: str) -> dict[str, Any]:
    with run.catalog.read() as connection:
        row = connection.execute(sa.select(releases).where(releases.c.release_id == release_id)).mappings().one_or_none()
    if row is None or row["product_line"] != product_line:
        raise DataWrong(f"The catalog knows no release {release_id} of {product_line}.")
    return dict(row)


def _wait_for_answer(run: JobRun, release_id: str, wait_s: float) -> SigningAnswer:
    until = time.monotonic() + wait_s
    while True:
        answer = read_answer(run.store, release_id)
        if answer is not None:
            return answer
        if time.monotonic() >= until:
            raise WorldUnavailable(
                f"The signer did not answer within {wait_s:g} s; release {release_id} stays requested. Is `scanloop release sign` running?"
            )
        time.sleep(POLL_S)


def _update(run: JobRun, row: dict[str, Any], changes: dict[str, Any], action: str) -> None:
    run.publication.update("releases", key={"release_id": row["release_id"]}, expect={"state": row["state"]}, set=changes, action=action)
