"""The confined process that opens bytes from outside. Started by `Sandbox`, never imported by it.

It reads one JSON line a file on standard input, `{"path", "sidecar", "out"}`, and answers with one: `{"content": {...}}` after writing the planes
to `out` as plain little-endian 16-bit numbers one after the other, volumes slice by slice, or `{"report": {...}}` after writing the masks of a
report's regions as packed bits one after the other, or `{"refused": reason_code, "reason": sentence}`, or `{"unavailable": what}` when the machine
and not the file is to blame.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import warnings
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from scanloop.scans.confine import LARGE_BYTES, allow_cpu, confine, cpu_s


def main() -> None:
    """Confine this process, say what was taken, and answer until standard input ends.

    The arguments are the folder to write in and the folders to read in.
    """
    folder, *readable = (Path(argument) for argument in sys.argv[1:])
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    # What a C library prints must not look like an answer.
    os.dup2(2, 1)
    taken = confine(folder, readable)
    warnings.simplefilter("ignore")
    from scanloop.scans import decode  # after confinement: everything below runs without rights

    _load_parsers()
    replies.write(json.dumps({"confined": taken}) + "\n")
    for line in sys.stdin:
        allow_cpu()
        replies.write(json.dumps(_answer(decode, json.loads(line))) + "\n")


def _load_parsers() -> None:
    """Import what the readers import late, so that no file pays for it."""
    import imagecodecs
    from pydicom import config

    config.settings.reading_validation_mode = config.IGNORE
    for codec in ("png", "zlib", "ljpeg", "jpegls", "jpeg2k", "dicomrle", "lzw", "packbits", "zstd", "jpeg", "jpeg8", "jpegxl"):
        getattr(imagecodecs, f"{codec}_decode")
    for module in ("pydicom.charset", "pydicom._dicom_dict"):
        import_module(module)


def _answer(decode: Any, request: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    from scanloop.scans.errors import ScanRefused
    from scanloop.scans.limits import MAX_FILE_BYTES, MAX_SIDECAR_BYTES
    from scanloop.scans.threat_report import ReportContent

    try:
        with Path(request["path"]).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > LARGE_BYTES:
                allow_cpu(cpu_s(min(size, MAX_FILE_BYTES)))
            # Asking for more than there is would reserve it.
            content = file.read(min(size, MAX_FILE_BYTES) + 1)
        sidecar = None
        if request["sidecar"]:
            with Path(request["sidecar"]).open("rb") as file:
                sidecar = file.read(MAX_SIDECAR_BYTES + 1)
        scan = decode.read_scan(content, sidecar)
        with os.fdopen(os.open(request["out"], os.O_WRONLY | os.O_CREAT, 0o600), "wb") as out:
            if isinstance(scan, ReportContent):
                out.writelines(region.mask for region in scan.regions() if region.mask is not None)
            else:
                for pixels in scan.planes.values():
                    out.writelines(np.ascontiguousarray(page, "<u2").data for page in (pixels if scan.is_volume else (pixels,)))
            out.truncate()
        if isinstance(scan, ReportContent):
            return _bounded({"report": scan.as_dict()})
    except ScanRefused as refusal:
        return {"refused": refusal.reason_code, "reason": refusal.message}
    except MemoryError:
        return {"refused": "memory_limit", "reason": "Reading it needs more memory than a scan may take."}
    except OSError as error:
        if error.errno == errno.EFBIG:
            return {"refused": "output_limit", "reason": "Reading it writes more than a scan may take."}
        return {"unavailable": error.strerror or type(error).__name__}
    about = scan.metadata
    *depth, height_px, width_px = next(iter(scan.planes.values())).shape
    return {
        "content": {
            "source_format": scan.source_format,
            "height_px": height_px,
            "width_px": width_px,
            "depth_px": depth[0] if depth else None,
            "spacing_mm": scan.spacing_mm,
            "planes": [
                {"name": name, "bits": scan.bits[name], "scale": asdict(scan.scales[name]) if name in scan.scales else None}
                for name in scan.planes
            ],
            "metadata": {
                **{
                    name: getattr(about, name) for name in ("manufacturer", "model", "serial", "site", "issuer", "bag", "view", "scan_type")
                },
                "acquired_at": about.acquired_at.isoformat() if about.acquired_at else None,
                "is_projected": about.is_projected,
                "modality": about.modality,
                "attributes": dict(about.attributes),
            },
        }
    }


def _bounded(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer, or a refusal if it is longer than the parent listens. Raises ScanRefused."""
    from scanloop.scans.errors import ScanRefused
    from scanloop.scans.limits import MAX_ANSWER_BYTES

    if len(json.dumps(answer)) >= MAX_ANSWER_BYTES:
        raise ScanRefused("too_large", f"What it says is more than {MAX_ANSWER_BYTES} bytes.")
    return answer


if __name__ == "__main__":
    main()
