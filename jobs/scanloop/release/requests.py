"""What the publishing job and the signer say to each other, through two folders of the store.

    signing/requests/<release id>.json   written once by `release publish`
    signing/answers/<release id>.json    written once by `release sign`

Neither is believed: the signer authenticates everything a request names, and the job verifies the signatures on the channel before it believes an
answer.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

from scanloop.canonical import canonical_json
from scanloop.errors import DataWrong
from scanloop.store import Store

REQUESTS_PREFIX = "signing/requests/"
ANSWERS_PREFIX = "signing/answers/"
_RELEASE_ID = re.compile(r"^[a-z][a-z0-9_]{1,62}-[1-9][0-9]{0,8}-[0-9a-f]{12}$")
_MAX_BYTES = 1 << 16


@dataclass(frozen=True)
class SigningRequest:
    """A release that should be signed."""

    release_id: str
    """The row of the catalog that asks."""
    product_line: str
    """Whose release it is."""
    channel: str
    """Where it should appear."""
    version: int
    """Which number it should have."""
    model_id: str
    """The champion in it."""
    bundle_key: str
    """Store key of the manifest."""
    bundle_sha256: str
    """Digest of the manifest."""
    export_run_id: str
    """The run whose receipt vouches for bundle and parity."""
    format: int = 1
    """Version of this layout."""

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(asdict(self))


@dataclass(frozen=True)
class SigningAnswer:
    """What the signer decided."""

    release_id: str
    """The request."""
    outcome: Literal["released", "refused"]
    """What became of it."""
    reason: str
    """Why it was refused, else empty."""
    version: int | None = None
    """The number it was released under."""
    target_path: str | None = None
    """Where it is in the update repository."""

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(asdict(self))


def request_key(release_id: str) -> str:
    """Where the request for a release lies. Raises DataWrong if the id is not one."""
    if not _RELEASE_ID.match(release_id):
        raise DataWrong(f"{release_id[:80]!r} is not the id of a release.")
    return f"{REQUESTS_PREFIX}{release_id}.json"


def answer_key(release_id: str) -> str:
    """Where the answer for a release lies. Raises DataWrong if the id is not one."""
    return request_key(release_id).replace(REQUESTS_PREFIX, ANSWERS_PREFIX, 1)


def open_requests(store: Store) -> list[str]:
    """Release ids that are asked for and not answered; what is not named like a request is passed over."""
    answered = {stored.key.removeprefix(ANSWERS_PREFIX) for stored in store.list(ANSWERS_PREFIX)}
    names = [stored.key.removeprefix(REQUESTS_PREFIX) for stored in store.list(REQUESTS_PREFIX)]
    ids = [name.removesuffix(".json") for name in names if name.endswith(".json") and name not in answered]
    return sorted((release_id for release_id in ids if _RELEASE_ID.match(release_id)), key=_by_version)


def read_request(store: Store, release_id: str) -> SigningRequest:
    """Read a request; what it says is not checked yet, only its form. Raises DataWrong."""
    key = request_key(release_id)
    found = store.head(key)
    if found is None or found.size_bytes > _MAX_BYTES:
        raise DataWrong(f"{store.uri(key)} is missing or longer than {_MAX_BYTES} bytes.")
    content = _parsed(store, key)
    try:
        request = SigningRequest(**content)
    except TypeError:
        raise DataWrong(f"{store.uri(key)} does not have the fields of a signing request.") from None
    wrong = [name for name, kind in _KINDS.items() if type(getattr(request, name)) is not kind]
    if wrong or request.format != 1:
        raise DataWrong(f"{store.uri(key)}: {wrong[0] if wrong else 'format'} is not of the right kind.")
    if request.release_id != release_id:
        raise DataWrong(f"{store.uri(key)} asks for another release than its name says.")
    return request


def read_answer(store: Store, release_id: str) -> SigningAnswer | None:
    """The signer's answer, or None. Raises DataWrong if what lies there is none."""
    key = answer_key(release_id)
    if store.head(key) is None:
        return None
    try:
        answer = SigningAnswer(**_parsed(store, key))
    except TypeError:
        raise DataWrong(f"{store.uri(key)} does not have the fields of an answer.") from None
    if answer.release_id != release_id or answer.outcome not in ("released", "refused"):
        raise DataWrong(f"{store.uri(key)} is not an answer to its request.")
    return answer


_KINDS = {
    "release_id": str, "product_line": str, "channel": str, "version": int, "model_id": str, "bundle_key": str, "bundle_sha256": str,
    "export_run_id": str, "format": int,
}  # fmt: skip


def _parsed(store: Store, key: str) -> dict[str, Any]:
    try:
        content = json.loads(store.get(key))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise DataWrong(f"{store.uri(key)} is not a JSON object.")
    return content


def _by_version(release_id: str) -> tuple[str, int]:
    product_line, version, _ = release_id.rsplit("-", 2)
    return product_line, int(version)
