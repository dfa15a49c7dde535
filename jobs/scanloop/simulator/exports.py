"""What a machine puts into its site's folder: a DICOS file, or a 16-bit TIFF or PNG with a JSON sidecar that says what the picture cannot."""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import BytesIO

import numpy as np

from scanloop.simulator.acquisition import Acquisition
from scanloop.simulator.detector import SimulatedScan
from scanloop.simulator.dicos import write_dicos

SUFFIXES = {"dicos": ".dcs", "dicos-jpeg": ".dcs", "tiff": ".tif", "png": ".png"}
"""File format of a scanner model to file suffix."""


@dataclass(frozen=True)
class ExportedFile:
    """One view of a bag, ready to deliver."""

    name: str
    """File name; its sidecar is `<name>.json`."""
    content: bytes
    """The file."""
    sidecar: bytes | None
    """JSON beside it; None where the format needs none."""


def export(scan: SimulatedScan, acquisition: Acquisition) -> ExportedFile:
    """The file that this machine writes for this view. The same arguments give the same bytes."""
    kind = acquisition.machine.scanner.file_format
    name = f"{acquisition.bag_number}_{acquisition.view_name}{SUFFIXES[kind]}"
    if kind == "dicos":
        return ExportedFile(name, write_dicos(scan.planes, acquisition, bits=scan.bits), None)
    if kind == "dicos-jpeg":
        return ExportedFile(name, write_dicos(scan.planes, acquisition, bits=scan.bits, syntax="jpeg-lossless"), None)
    content = write_tiff(scan.planes) if kind == "tiff" else write_png(scan.planes)
    return ExportedFile(name, content, sidecar(acquisition, tuple(scan.planes)))


def write_tiff(planes: dict[str, np.ndarray]) -> bytes:
    """A deflated 16-bit TIFF with one page a plane, in the order given."""
    import tifffile

    target = BytesIO()
    with tifffile.TiffWriter(target, byteorder="<") as tiff:
        for pixels in planes.values():
            tiff.write(pixels, photometric="minisblack", compression="zlib", predictor=True, rowsperstrip=64, metadata=None, software=False)
    return target.getvalue()


def write_png(planes: dict[str, np.ndarray]) -> bytes:
    """A 16-bit grey PNG with the planes (H, W) stacked from top to bottom."""
    import imagecodecs

    return bytes(imagecodecs.png_encode(np.concatenate(list(planes.values()), axis=0), level=3))


def sidecar(acquisition: Acquisition, planes: tuple[str, ...]) -> bytes:
    """The JSON beside a TIFF or PNG; `planes` names its pages or bands in order."""
    machine = acquisition.machine
    facts = {
        "manufacturer": machine.scanner.manufacturer,
        "model": machine.scanner.model,
        "serial": machine.serial,
        "software": machine.scanner.software,
        "site": machine.site,
        "bag_id": acquisition.bag_number,
        "issuer": acquisition.issuer,
        "view": acquisition.view_name,
        "acquired_at": acquisition.acquired_at.isoformat(),
        "planes": list(planes),
        "scan_type": acquisition.scan_type.lower(),
    }
    return (json.dumps(facts, indent=1) + "\n").encode()
