"""What `scanloop scan inspect` says and writes about a Threat Detection Report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scanloop.scans.threat_report import ReportContent


def report_facts(file: Path, content: ReportContent) -> dict[str, Any]:
    """What was understood. Free text of people is left out, as intake leaves out what is no category."""
    from scanloop.intake.reports import report_row
    from scanloop.store.base import sha256_of

    numbers = [f"mask {number}" for number, _ in enumerate(content.regions())]
    row = report_row(sha256_of(file)[0], "", content, numbers, delivered="", known_names=())
    names = (
        "report_id",
        "tdr_type",
        "decision",
        "is_aborted",
        "decided_at",
        "site_id",
        "bag_id",
        "study_uid",
        "wanted",
        "state",
        "problem",
    )
    return {
        "kind": "threat report",
        **{name: row[name] for name in names},
        "metadata": {name: getattr(content, name) for name in ("site", "issuer", "bag")},
        "attributes": {name: value for name, value in row["attributes"].items() if name != "delivered_site"},
        "threats": row["threats"],
    }


def write_report(content: ReportContent, stem: str, out: Path) -> list[str]:
    """Each mask, a PNG for one slice and a TIFF of a page a slice for more, 255 where the threat is; and the boxes as JSON."""
    import numpy as np
    import tifffile

    from scanloop.scans.views import encode_png

    out.mkdir(parents=True, exist_ok=True)
    written = []
    for number, region in enumerate(content.regions()):
        volume = region.volume().astype(np.uint8) * np.uint8(255)
        path = out / f"{stem}.mask-{number}.{'png' if len(volume) == 1 else 'tiff'}"
        if len(volume) == 1:
            path.write_bytes(encode_png(volume[0]))
        else:
            tifffile.imwrite(path, volume, photometric="minisblack", metadata=None, software=False)
        written.append(str(path))
    path = out / f"{stem}.boxes.json"
    path.write_text(json.dumps(list(_boxes(content)), indent=1) + "\n")
    return [*written, str(path)]


def _boxes(content: ReportContent) -> Iterator[dict[str, Any]]:
    """One a representation, in the coordinates of the file that it refers to."""
    from scanloop.intake.report_boxes import bounds_of
    from scanloop.intake.reports import kept_threats

    masks: list[str | None] = [f"mask-{number}" for number, _ in enumerate(content.regions())]
    for threat in kept_threats(content, masks, ()):
        for place in threat["representations"]:
            bounds = bounds_of(place)
            yield {
                "threat": threat["number"],
                "assessments": threat["assessments"],
                "scans": [reference["sop_instance_uid"] for reference in place["references"]],
                "bbox_xyz": None if bounds is None else {"from": bounds[:3], "to": bounds[3:]},
                "polygon": place["polygon"],
                "regions": place["regions"],
            }


def print_report(facts: dict[str, Any]) -> None:
    """The facts as a table."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    table = Table("", Column(overflow="fold"), show_header=False)
    for name, value in facts.items():
        if name != "threats":
            table.add_row(name, escape(_shown(value)))
    for threat in facts["threats"]:
        said = "; ".join(_assessment(one) for one in threat["assessments"])
        places = sum(len(place["regions"]) for place in threat["representations"])
        where = f"{len(threat['representations'])} representations, {places} regions"
        table.add_row(f"threat {threat['number']}", escape(f"{said}; {where}"))
    Console().print(table)


def _assessment(one: dict[str, Any]) -> str:
    probability = "" if one["probability"] is None else f" {one['probability']:g}"
    return f"{one['description'] or one['category'] or 'unnamed'} ({one['flag'] or 'no flag'}{probability})"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {part}" for name, part in value.items() if part not in ("", None, []))
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
