"""Answer one scan: what the current release finds on it, as a DICOS report, as JSON, and as a picture."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from scanloop.edge import install
from scanloop.edge.detector import Detector
from scanloop.edge.device import DeviceHome
from scanloop.edge.report_dicos import ReportFacts, threat_report, write_report
from scanloop.edge.state import write_durably
from scanloop.edge.update import system_clock
from scanloop.errors import WrongArguments
from scanloop.scans.decoders import NO_PLUGINS, Choice

ALGORITHM_MAKER = "Scanloop"


@dataclass(frozen=True)
class Answer:
    """What the device says about one scan."""

    scan_id: str
    """SHA-256 of the scan's bytes."""
    decision: str
    """ALARM or CLEAR."""
    threats: tuple[dict[str, Any], ...]
    """{category, score, bbox_xywh in pixels of the scan's planes}."""
    version: int
    """The release that answered."""
    model_id: str
    """The model in it."""
    processing_ms: float
    """From planes to threats."""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "scan_id": self.scan_id,
            "decision": self.decision,
            "threats": list(self.threats),
            "release_version": self.version,
            "model_id": self.model_id,
            "processing_ms": self.processing_ms,
        }


def answer_scan(
    home: DeviceHome,
    scan: Path,
    *,
    sidecar: Path | None = None,
    report_path: Path | None = None,
    json_path: Path | None = None,
    picture_path: Path | None = None,
    decoders: Choice = NO_PLUGINS,
    clock: Callable[[], datetime] = system_clock,
) -> Answer:
    """Answer the scan in `scan` (of any format, see docs/formats.md) with the current release, also while an update is under way. Its bytes
    are opened in a confined child process only.

    Raises:
        WrongArguments: there is no such file, or no release is installed yet.
        DataWrong: the file is no scan, lacks a plane the release needs, or no installed release is whole.
    """
    from scanloop.errors import DataWrong
    from scanloop.scans.decoder_rooms import open_reader
    from scanloop.scans.planes import scale_to_16_bits
    from scanloop.scans.threat_report import ReportContent

    if not scan.is_file():
        raise WrongArguments(f"There is no file {scan}.")
    device = home.device()
    current, _ = install.running(home)
    if current is None:
        raise WrongArguments(
            f"Device {device.device_id} has no whole release. Run `scanloop edge update --device-home {home.folder}` first."
        )
    detector = Detector(current.folder)
    scan_id = hashlib.sha256(scan.read_bytes()).hexdigest()
    sidecar = sidecar or _sidecar_beside(scan)
    readable = [scan.parent] + ([sidecar.parent] if sidecar else [])
    with tempfile.TemporaryDirectory(prefix="scanloop-edge-") as scratch, open_reader(Path(scratch), readable, decoders) as sandbox:
        content = sandbox.read(scan, sidecar)
    if isinstance(content, ReportContent):
        raise DataWrong(f"{scan} is a report about scans. Expected a scan.")
    planes = {name: scale_to_16_bits(pixels, content.bits[name]) for name, pixels in content.planes.items()}
    started = time.perf_counter()
    records = detector.alarms(planes).to_records(detector.rules.categories)
    answer = Answer(
        scan_id,
        "ALARM" if records else "CLEAR",
        tuple(records),
        current.version,
        current.manifest.model_id,
        round((time.perf_counter() - started) * 1000, 3),
    )
    if report_path is not None:
        facts = ReportFacts(
            scan_id=scan_id,
            bag=content.metadata.bag,
            bag_issuer=content.metadata.issuer,
            study_uid=str(content.metadata.attributes.get("study_uid", "")),
            sop_class_uid=str(content.metadata.attributes.get("sop_class_uid", "")),
            sop_instance_uid=str(content.metadata.attributes.get("sop_instance_uid", "")),
            site=device.site,
            device_id=device.device_id,
            algorithm=(
                ALGORITHM_MAKER,
                f"release {current.version}",
                f"-product_line={current.manifest.product_line}",
                f"-model={current.manifest.model_id[:16]}",
            ),
            decided_at=clock(),
            processing_ms=answer.processing_ms,
        )
        write_report(threat_report(records, facts), report_path)
    if json_path is not None:
        write_durably(json_path, (json.dumps(answer.to_json(), indent=1, sort_keys=True) + "\n").encode())
    if picture_path is not None:
        picture_path.write_bytes(draw(planes, records))
    return answer


def draw(planes: Mapping[str, np.ndarray], records: list[dict[str, Any]]) -> bytes:
    """The scan in colours with a box, category and score for each threat, as PNG."""
    import cv2

    from scanloop.scans.views import as_seen, encode_png

    seen = as_seen(planes)
    picture = np.ascontiguousarray(seen if seen.ndim == 3 else np.repeat(seen[:, :, np.newaxis], 3, axis=2))
    for record in records:
        x, y, width, height = record["bbox_xywh"]
        corner, opposite = (round(x), round(y)), (round(x + width), round(y + height))
        cv2.rectangle(picture, corner, opposite, (220, 0, 60), 2)
        place = (corner[0], corner[1] - 5 if corner[1] > 18 else opposite[1] + 15)
        cv2.putText(
            picture, f"{record['category']} {record['score']:.2f}", place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (220, 0, 60), 1, cv2.LINE_AA
        )
    return encode_png(picture)


def _sidecar_beside(scan: Path) -> Path | None:
    sidecar = scan.with_name(f"{scan.name}.json")
    return sidecar if sidecar.is_file() else None
