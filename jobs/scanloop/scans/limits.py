"""How large a scan may be. Checked by arithmetic on what headers announce, before anything is allocated."""

from __future__ import annotations

from scanloop.scans.errors import ScanRefused

MAX_FILE_BYTES = 288 << 20
"""Received bytes of one scan: a CT volume of MAX_VOLUME_PX at 16 bits, uncompressed, and its headers."""
MAX_SIDE_PX = 16384
"""Rows or columns of a plane. Line scanners have up to 2,000 detector elements and some 4,000 lines a bag."""
MAX_PLANE_PX = 64 << 20
"""Pixels of one plane."""
MAX_SCAN_PX = 96 << 20
"""Pixels of all planes together: 192 MiB at 16 bits, so that decoding fits into the reader's 1 GiB."""
MAX_PLANES = 16
"""Energy planes of one view."""
MAX_DEPTH_PX = 4096
"""Slices of a CT volume; a bag of a metre at half a millimetre has 2,000."""
MAX_VOLUME_PX = 128 << 20
"""Voxels of all planes of a CT volume together, such as 512 x 512 x 512: 256 MiB at 16 bits, beside the received file in the reader's 1 GiB."""
MAX_INFLATED_BYTES = 288 << 20
"""What a deflated DICOM dataset may become; a bomb is refused at this point, not after it."""
MAX_SIDECAR_BYTES = 64 << 10
"""A sidecar is a dozen short fields."""
MAX_NESTING = 16
"""Depth of DICOM sequences. Enhanced multi-frame objects need 4 or 5."""
MAX_ELEMENTS = 200_000
"""DICOM elements, nested ones included."""
MAX_ANSWER_BYTES = 2 << 20
"""What the reader may say about one file, beside its pixels."""
MAX_THREATS = 512
"""Potential threat objects of one report."""
MAX_PLACES = 1024
"""Representations, and regions of interest, of one report."""
MAX_POLYGON_POINTS = 8192
"""Corners of all polygons of one report."""
MAX_REFERENCES = 256
"""Scans that one report names."""
MAX_MASK_VOXELS = 128 << 20
"""Voxels of all masks of one report together: 16 MiB of bits."""
MAX_COORDINATE = 65536
"""No place in a picture or volume is that far out: rows, columns and frames are counted with 16 bits or less."""


def check_plane_sizes(planes: int, height_px: int, width_px: int, bits: int, depth_px: int | None = None) -> int:
    """Return the bytes that `planes` planes (H, W), or volumes (D, H, W) where `depth_px` is said, need once unpacked at 8 or 16 bits.

    Raises:
        ScanRefused: the sizes are absurd.
    """
    if not 1 <= planes <= MAX_PLANES:
        raise ScanRefused("too_large", f"Expected 1 to {MAX_PLANES} planes, found {planes}.")
    if not (1 <= height_px <= MAX_SIDE_PX and 1 <= width_px <= MAX_SIDE_PX):
        raise ScanRefused("too_large", f"Expected planes of 1 to {MAX_SIDE_PX} pixels a side, found {height_px} x {width_px}.")
    depth, most = (1, MAX_SCAN_PX) if depth_px is None else (depth_px, MAX_VOLUME_PX)
    if not 1 <= depth <= MAX_DEPTH_PX:
        raise ScanRefused("too_large", f"Expected volumes of 1 to {MAX_DEPTH_PX} slices, found {depth}.")
    if height_px * width_px > MAX_PLANE_PX or planes * depth * height_px * width_px > most:
        size = f"{height_px} x {width_px}" if depth_px is None else f"{depth} x {height_px} x {width_px}"
        raise ScanRefused("too_large", f"{planes} planes of {size} pixels are more than {most} pixels.")
    return planes * depth * height_px * width_px * (1 if bits <= 8 else 2)
