"""Raw files of the made-up scanner Orbis: a header, a description in JSON, and the planes as plain numbers.

| bytes | what |
|---|---|
| 8 | `ORBISRAW` |
| 2 | version, 1 |
| 2 | planes |
| 4 | rows |
| 4 | columns |
| 2 | bits of a number that count, 9 to 16 |
| 2 | bytes of the description |
| 4 | CRC-32 of everything behind the header |
| ... | the description: a JSON object with `planes` (their names) and `serial`, `site`, `bag`, `view`, `time` |
| ... | the planes, one after the other, row by row, as 16-bit numbers |

All numbers are little-endian. Bright is air.
"""

from __future__ import annotations

import json
import struct
import zlib
from datetime import UTC, datetime

import numpy as np

from scanloop.scans.content import ScanContent, ScanMetadata, clean_text
from scanloop.scans.errors import ScanRefused
from scanloop.scans.limits import check_plane_sizes

name = "orbis"
"""As the entry point is called."""
_MAGIC = b"ORBISRAW"
_HEADER = struct.Struct("<8sHHIIHHI")


def matches(head: bytes) -> bool:
    """Whether a file that begins with these bytes is one."""
    return head.startswith(_MAGIC)


def read(content: bytes, sidecar: bytes | None) -> ScanContent:
    """Read a whole file; a sidecar adds nothing. Raises ScanRefused."""
    del sidecar
    if len(content) < _HEADER.size:
        raise ScanRefused("truncated", f"Expected a header of {_HEADER.size} bytes, found {len(content)}.")
    _, version, planes, height_px, width_px, bits, about_bytes, checksum = _HEADER.unpack_from(content)
    if version != 1 or not 9 <= bits <= 16:
        raise ScanRefused("unsupported_encoding", f"Expected version 1 and 9 to 16 bits, found version {version} and {bits} bits.")
    # Sizes first: nothing may be allocated for what a header only claims.
    expected = _HEADER.size + about_bytes + check_plane_sizes(planes, height_px, width_px, bits)
    if len(content) != expected:
        code = "truncated" if len(content) < expected else "polyglot"
        raise ScanRefused(code, f"Expected {expected} bytes, found {len(content)}.")
    if zlib.crc32(content[_HEADER.size :]) != checksum:
        raise ScanRefused("malformed", "The file fails its checksum.")
    names, metadata = _described(content[_HEADER.size : _HEADER.size + about_bytes])
    if len(names) != planes:
        raise ScanRefused("malformed", f"The description names {len(names)} planes, the header {planes}.")
    pixels = np.frombuffer(content, "<u2", offset=_HEADER.size + about_bytes).reshape(planes, height_px, width_px).astype(np.uint16)
    return ScanContent(dict(zip(names, pixels, strict=True)), dict.fromkeys(names, bits), metadata, name)


def _described(text: bytes) -> tuple[list[str], ScanMetadata]:
    """Names of planes, and what is known about the scan. Only what is asked for is taken: who was at the machine stays in the file."""
    try:
        about = json.loads(text)
        moment = datetime.fromisoformat(about["time"]) if about.get("time") else None
        names = [str(plane) for plane in about["planes"]]
        texts = {field: clean_text(about.get(field, "")) for field in ("serial", "site", "bag", "view")}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ScanRefused("malformed", "The description is not the JSON object expected.") from None
    if len(set(names)) != len(names):
        raise ScanRefused("malformed", "The description names a plane twice.")
    if moment is not None:
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    return names, ScanMetadata(manufacturer="Orbis", model="Raw", issuer=texts["site"], acquired_at=moment, **texts)
