"""How large a scan may be. Checked by arithmetic on what headers announce, before anything is allocated."""

from __future__ import annotations

from scanloop.scans.errors import ScanRefused

MAX_FILE_BYTES = 256 << 20
"""Received bytes of one scan; a compressed multi-view export stays far below."""
MAX_SIDE_PX = 16384
"""Rows or columns of a plane. Line scanners have up to 2,000 detector elements and some 4,000 lines a bag."""
MAX_PLANE_PX = 64 << 20
"""Pixels of one plane."""
MAX_SCAN_PX = 96 << 20
"""Pixels of all planes together: 192 MiB at 16 bits, so that decoding fits into the reader's 1 GiB."""
MAX_PLANES = 16
"""Energy planes of one view."""
MAX_INFLATED_BYTES = 256 << 20
"""What a deflated DICOM dataset may become; a bomb is refused at this point, not after it."""
MAX_SIDECAR_BYTES = 64 << 10
"""A sidecar is a dozen short fields."""
MAX_NESTING = 16
"""Depth of DICOM sequences. Enhanced multi-frame objects need 4 or 5."""
MAX_ELEMENTS = 200_000
"""DICOM elements, nested ones included."""


def check_plane_sizes(planes: int, height_px: int, width_px: int, bits: int) -> int:
    """Return the bytes that `planes` planes need once unpacked at 8 or 16 bits. Raises ScanRefused if they are absurd."""
    if not 1 <= planes <= MAX_PLANES:
        raise ScanRefused("too_large", f"Expected 1 to {MAX_PLANES} planes, found {planes}.")
    if not (1 <= height_px <= MAX_SIDE_PX and 1 <= width_px <= MAX_SIDE_PX):
        raise ScanRefused("too_large", f"Expected planes of 1 to {MAX_SIDE_PX} pixels a side, found {height_px} x {width_px}.")
    if height_px * width_px > MAX_PLANE_PX or planes * height_px * width_px > MAX_SCAN_PX:
        raise ScanRefused("too_large", f"{planes} planes of {height_px} x {width_px} pixels are more than {MAX_SCAN_PX} pixels.")
    return planes * height_px * width_px * (1 if bits <= 8 else 2)
