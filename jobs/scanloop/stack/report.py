"""The report at the end of the demonstration: on the terminal, and as one HTML page with pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from scanloop.catalog import Catalog
from scanloop.catalog import tables as t
from scanloop.stack.facts import Decided, Facts, Judged, LineFacts
from scanloop.store import Store

PICTURES = 6
VERDICTS = {
    "promote": "the candidate becomes champion",
    "reject": "the champion stays",
    "insufficient_evidence": "too little evidence to decide",
}


def number(value: float | None) -> str:
    """A quality between 0 and 1, for reading."""
    return "—" if value is None else f"{value:.3f}"


def rate(value: Mapping[str, Any]) -> str:
    """A rate with its bounds and counts: `0.90 [0.68, 0.99] of 20`."""
    if value.get("rate") is None:
        return "—"
    return f"{value['rate']:.2f} [{value['lower']:.2f}, {value['upper']:.2f}] of {value['total']}"


def sentence(reason: Any) -> str:
    """What a reason says."""
    return str(reason.get("says") or reason.get("sentence") or reason) if isinstance(reason, dict) else str(reason)


def data_uri(png: bytes) -> str:
    """A picture inside the page."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def terminal_report(console: Console, facts: Facts, answers: Sequence[Mapping[str, Any]]) -> None:
    """Print what a person wants to know at a glance."""
    console.rule("What happened")
    console.print(f"Delivered: {_counts(facts.deliveries)}. Scans: {_counts(facts.scans)}.")
    for item in facts.quarantined:
        console.print(f"  put aside at {item.stage}: {item.landing_key}: {item.reason}", soft_wrap=True)
    for line in facts.lines:
        _print_line(console, line)
    for answer in answers:
        console.print(
            f"Device of {answer['product_line']}, release {answer['release_version']}: {answer['decision']} on a bag that holds "
            f"{answer['truth']}; found {answer['found']}."
        )


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing"


def _print_line(console: Console, line: LineFacts) -> None:
    status = line.status
    console.print(f"\n[bold]{status.title}[/] ({status.product_line})")
    console.print(
        f"  {status.validated_scans} valid scans, {status.chosen_scans} chosen, labels: {_counts(line.verdicts)}; "
        f"snapshots of {', '.join(str(counts['scans']) for counts in line.snapshots) or 'no'} scans"
    )
    table = Table("model", "on", "AP", "AP50", "Pd per bag", "Pfa per bag")
    for decision in line.decisions:
        for model in decision.judged:
            numbers = model.numbers
            role = "candidate" if model.model_id == decision.candidate_id else "champion"
            ap = (number(numbers["ap"]["ap"]), number(numbers["ap"]["ap50"]))
            table.add_row(
                f"{model.model_id[:10]} {role}", f"snapshot {model.snapshot_sequence}", *ap, rate(numbers["pd"]), rate(numbers["pfa"])
            )
        table.add_section()
    console.print(table)
    for place, decision in enumerate(line.decisions, 1):
        console.print(f"  [bold]Decision {place}: {VERDICTS[decision.verdict]}[/]")
        for reason in decision.reasons:
            console.print(f"  - {sentence(reason)}", soft_wrap=True)
    released = ", ".join(f"{release['version']} on {release['channel']}" for release in line.releases)
    console.print(f"  releases: {released or 'none'}")


MOST_LEVEL_LABELS = 4
"""More labels than this side by side would run into each other."""


def chart(line: LineFacts) -> bytes | None:
    """Pd and Pfa of every judged model with intervals, and AP50, as PNG; None without any."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    bars: list[tuple[str, Judged]] = [
        (f"decision {place}\n{_role(decision, model)}", model)
        for place, decision in enumerate(line.decisions, 1)
        for model in decision.judged
    ]
    if not bars:
        return None
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for offset, (name, colour) in enumerate((("pd", "#1f6f54"), ("pfa", "#b0413e"))):
        for place, (_, model) in enumerate(bars):
            value = model.numbers[name]
            if value.get("rate") is None:
                continue
            error = [[value["rate"] - value["lower"]], [value["upper"] - value["rate"]]]
            label = {"pd": "Pd", "pfa": "Pfa"}[name] if place == 0 else None
            left.errorbar(place + 0.16 * offset - 0.08, value["rate"], yerr=error, fmt="o", color=colour, capsize=4, label=label)
    left.set(title="Per bag, with exact 95 % bounds", ylim=(-0.03, 1.03), xticks=range(len(bars)), xticklabels=[name for name, _ in bars])
    left.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    right.bar(range(len(bars)), [model.numbers["ap"]["ap50"] or 0 for _, model in bars], color="#4a7fa5", width=0.5)
    right.set(title="AP50", ylim=(0, 1), xticks=range(len(bars)), xticklabels=[name for name, _ in bars])
    for axis in (left, right):
        axis.set_xlim(-0.6, len(bars) - 0.4)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
        axis.tick_params(axis="x", labelrotation=90 if len(bars) > MOST_LEVEL_LABELS else 0)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    return buffer.getvalue()


def _role(decision: Decided, model: Judged) -> str:
    return "candidate" if model.model_id == decision.candidate_id else "champion"


def scan_pictures(connection: sa.Connection, store: Store, count: int = PICTURES) -> list[dict[str, str]]:
    """Some scans with accepted boxes drawn on their pseudo-colour picture: different scanners first."""
    import cv2
    import numpy as np

    from scanloop.scans.planes import read_planes
    from scanloop.scans.views import encode_png, pseudo_colour

    rows = connection.execute(
        sa.select(t.annotations.c.boxes, t.scans.c.planes_key, t.scans.c.scanner_id, t.scans.c.view_name, t.scans.c.scan_id)
        .join(t.scans, t.scans.c.scan_id == t.annotations.c.scan_id)
        .where(t.annotations.c.author_kind == "consensus")
        .order_by(sa.func.jsonb_array_length(t.annotations.c.boxes).desc(), t.scans.c.scan_id)
        .limit(300)
    ).all()
    chosen: dict[tuple[str, str], Any] = {}
    for row in rows:
        chosen.setdefault((row.scanner_id, row.view_name), row)
    pictures = []
    for row in list(chosen.values())[:count]:
        content = store.get(row.planes_key)
        planes = read_planes(content)
        picture = np.ascontiguousarray(pseudo_colour(planes["high"], planes["low"]))
        for box in row.boxes:
            x, y, width, height = (round(value) for value in box["bbox_xywh"])
            cv2.rectangle(picture, (x, y), (x + width, y + height), (200, 0, 60), 2)
        names = ", ".join(box["category"] for box in row.boxes) or "clean"
        pictures.append({"uri": data_uri(encode_png(picture)), "caption": f"{row.scanner_id}, {row.view_name} view: {names}"})
    return pictures


def write_page(
    folder: Path,
    catalog: Catalog,
    store: Store,
    facts: Facts,
    *,
    checks: Sequence[Mapping[str, Any]],
    answers: Sequence[Mapping[str, Any]],
    times: Sequence[tuple[str, float]],
    peak_bytes: int,
) -> Path:
    """Write `index.html` and the evaluations' own pages to `folder`; returns the page."""
    import jinja2

    folder.mkdir(parents=True, exist_ok=True)
    pages = {}
    for key in {model.report_key for line in facts.lines for decision in line.decisions for model in decision.judged}:
        pages[key] = f"evaluation-{Path(key).parent.name}-{Path(key).stem}.html"
        (folder / pages[key]).write_bytes(store.get(key))
    with catalog.read() as connection:
        pictures = scan_pictures(connection, store)
    charts = {line.status.product_line: data_uri(png) for line in facts.lines if (png := chart(line)) is not None}
    devices = [
        {
            "uri": data_uri(Path(answer["picture"]).read_bytes()),
            "caption": f"{answer['product_line']}, release {answer['release_version']}: the bag holds {answer['truth']}; "
            f"{answer['decision']}, found {answer['found']}",
        }
        for answer in answers
    ]
    tiles = [
        ("files delivered", sum(facts.deliveries.values())),
        ("scans", sum(facts.scans.values())),
        ("put aside", len(facts.quarantined)),
    ]
    tiles += [("models", sum(line.status.models for line in facts.lines)), ("releases", sum(len(line.releases) for line in facts.lines))]
    tiles += [("receipts", facts.receipts), ("audit entries", facts.audit_entries)]
    loader = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = loader.from_string((Path(__file__).parent / "report.html").read_text(encoding="utf-8"))
    page = folder / "index.html"
    page.write_text(
        template.render(
            facts=facts,
            finished=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            tiles=tiles,
            checks=checks,
            scans=pictures,
            verdicts=VERDICTS,
            pages=pages,
            charts=charts,
            devices=devices,
            times=times,
            peak_gib=peak_bytes / 2**30,
            number=number,
            rate=rate,
            sentence=sentence,
        ),
        encoding="utf-8",
    )
    return page
