"""The example of docs/decoders.md, really installed, and files of its format."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from scan_files import PEOPLE, picture

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "orbis-decoder"


def install(source: Path, target: Path, scratch: Path) -> Path:
    """Install the distribution in `source` into the folder `target`, as an administrator would, without a network."""
    copy = Path(shutil.copytree(source, scratch / f"{source.name}-source"))
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--no-warn-script-location", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(copy)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def orbis(pixels_of: dict[str, np.ndarray] | None = None, bits: int = 16, **changes: Any) -> bytes:
    """A file of the made-up scanner; a change of None leaves a field of the description out."""
    pixels_of = pixels_of or picture()
    about = {
        "planes": list(pixels_of),
        "serial": "O-17",
        "site": "west-terminal",
        "bag": "W0042",
        "view": "top",
        "time": "2026-03-01T08:15:30+01:00",
    }
    about |= {"operator": PEOPLE}
    text = json.dumps({name: value for name, value in (about | changes).items() if value is not None}).encode()
    body = text + b"".join(pixels.astype("<u2").tobytes() for pixels in pixels_of.values())
    height_px, width_px = next(iter(pixels_of.values())).shape
    return struct.pack("<8sHHIIHHI", b"ORBISRAW", 1, len(pixels_of), height_px, width_px, bits, len(text), zlib.crc32(body)) + body
