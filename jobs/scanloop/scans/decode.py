"""Which reader takes which bytes. A format is a line in the table; it is found by what the bytes say, never by a file name."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scanloop.scans.content import PlaneScale, ScanContent
from scanloop.scans.dicom import is_dicom, read_dicom
from scanloop.scans.errors import ScanRefused
from scanloop.scans.jpeg import is_jpeg, read_jpeg_picture
from scanloop.scans.limits import MAX_FILE_BYTES
from scanloop.scans.png import is_png, read_png
from scanloop.scans.sidecar import is_set_name, name_planes, read_sidecar
from scanloop.scans.threat_report import Content
from scanloop.scans.tiff import inverted_pages, is_tiff, read_tiff

HEAD_BYTES = 132
"""What a format must be recognised by."""
PARSER_SURPRISES = (
    ValueError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    OSError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
)
"""What third-party parsers raise on bytes their authors did not expect. RuntimeError includes recursion and every codec of imagecodecs."""


@dataclass(frozen=True)
class Format:
    """One format of scans."""

    name: str
    """What the catalog calls it."""
    matches: Callable[[bytes], bool]
    """Whether the first HEAD_BYTES are of this format."""
    read: Callable[[bytes, bytes | None], Content]
    """Read the whole file, with its sidecar if it has one. Raises ScanRefused."""


def _with_sidecar(
    name: str, read_pages: Callable[[bytes], tuple[list[np.ndarray], int]], inverted_pages: Callable[[bytes], list[bool]] | None = None
) -> Callable[[bytes, bytes | None], ScanContent]:
    def read(content: bytes, sidecar: bytes | None) -> ScanContent:
        if sidecar is None:
            raise ScanRefused("sidecar_missing", f"A {name.upper()} export needs its sidecar, which says scanner, bag and planes.")
        about = read_sidecar(sidecar)
        pages, bits = read_pages(content)
        if is_set_name(about.dataset) and len(pages) == 1:
            pages *= len(about.planes)  # a grey picture among a research set's colours is the same in each
        planes = name_planes(pages, about.planes)
        inverted = inverted_pages(content) if inverted_pages else [False]
        of_plane = inverted if len(inverted) == len(planes) else inverted * len(planes)
        scales = {plane: PlaneScale(is_inverted=True) for plane, is_inverted in zip(planes, of_plane, strict=True) if is_inverted}
        return ScanContent(planes, dict.fromkeys(planes, bits), about.metadata(), name, scales)

    return read


FORMATS = (
    Format("dicom", is_dicom, lambda content, _: read_dicom(content)),
    Format("png", is_png, _with_sidecar("png", read_png)),
    Format("tiff", is_tiff, _with_sidecar("tiff", read_tiff, inverted_pages)),
    Format("jpeg", is_jpeg, _with_sidecar("jpeg", read_jpeg_picture)),
)
"""Every format, in the order they are tried. A DICOM preamble may hold anything (even a TIFF), so DICOM comes first."""


def read_scan(content: bytes, sidecar: bytes | None = None) -> Content:
    """Read received bytes as a scan, or as a report about scans. Bytes from outside are opened with this only inside a `Sandbox`.

    Raises:
        ScanRefused: they are no scan, or cannot be read correctly; `reason_code` tells the kind.
    """
    if len(content) > MAX_FILE_BYTES:
        raise ScanRefused("too_large", f"Expected at most {MAX_FILE_BYTES} bytes, found {len(content)}.")
    for candidate in FORMATS:
        if candidate.matches(content[:HEAD_BYTES]):
            try:
                return candidate.read(content, sidecar)
            except MemoryError:
                raise ScanRefused("memory_limit", "Reading it needs more memory than a scan may take.") from None
            except PARSER_SURPRISES as surprise:
                found = type(surprise).__name__
                raise ScanRefused("malformed", f"The {candidate.name} reader stopped at something unexpected: {found}.") from surprise
    raise ScanRefused("not_a_scan", "The bytes are no DICOM, DICOS, PNG, TIFF or JPEG file.")
