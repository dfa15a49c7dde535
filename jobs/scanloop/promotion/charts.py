"""Charts of a decision as PNG. The same numbers give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scanloop.evaluation.charts import ACCENT, ALARM, FAINT, INK, draw_operating_curve, finish_operating_axis, label, new_figure, png
from scanloop.promotion.comparison import Paired
from scanloop.promotion.policy import GatePolicy

CHAMPION = "#7a8794"


@dataclass(frozen=True)
class _Line:
    """One difference of the chart."""

    name: str
    value: float
    lower: float
    upper: float
    limit: float | None
    """Where it must not fall below (or rise above, for Pfa); None: it is shown only."""


def _lines(paired: Paired, policy: GatePolicy) -> list[_Line]:
    lines: list[_Line] = []
    if paired.pd.difference is not None:
        lines.append(_Line("Pd", paired.pd.difference, *paired.pd_bounds, -policy.max_pd_drop))
    if paired.ap50.value is not None and paired.ap50.lower is not None and paired.ap50.upper is not None:
        lines.append(_Line("AP50", paired.ap50.value, paired.ap50.lower, paired.ap50.upper, policy.min_ap50_gain))
    if paired.pfa.difference is not None:
        lines.append(_Line("Pfa", paired.pfa.difference, paired.pfa.lower, paired.pfa.upper, None))
    lines += [
        _Line(f"Pd, {name}", found.difference, found.lower, found.upper, -policy.max_pd_drop)
        for name, found in sorted(paired.slices.items())
        if found.difference is not None
    ]
    return lines


def differences(paired: Paired, policy: GatePolicy) -> bytes:
    """Candidate minus champion, each with its bounds and with the limit that the policy sets."""
    lines = _lines(paired, policy)
    figure, (axis,) = new_figure(10.6, 1.2 + 0.38 * max(2, len(lines)))
    axis.axvline(0, color=INK, linewidth=0.8)
    for position, line in enumerate(lines):
        colour = ALARM if line.limit is not None and line.upper < line.limit else ACCENT
        axis.plot([line.lower, line.upper], [position, position], color=colour, linewidth=2, solid_capstyle="butt")
        axis.plot([line.value], [position], marker="o", markersize=6, color=colour, markeredgecolor="white")
        if line.limit is not None:
            axis.plot([line.limit, line.limit], [position - 0.36, position + 0.36], color=ALARM, linewidth=1.6)
        axis.text(1.02, position, f"{line.value:+.3f}", va="center", fontsize=8, color=INK, transform=axis.get_yaxis_transform())
    axis.set_yticks(range(len(lines)), [line.name for line in lines])
    axis.set_ylim(len(lines) - 0.4, -0.6)
    axis.grid(axis="y", visible=False)
    shown = sum(not line.name.startswith("Pd,") for line in lines)
    axis.axhline(shown - 0.5, color=FAINT, linewidth=1.2)
    label(axis, "Candidate minus champion, on the same bags", "difference; red marks are the policy's limits", "")
    return png(figure)


def operating_curves(candidate: Mapping[str, Any], champion: Mapping[str, Any] | None) -> bytes:
    """Pd over Pfa of both models, with their operating points."""
    figure, (axis,) = new_figure(5.6, 4.0)
    if champion is not None:
        draw_operating_curve(axis, champion, colour=CHAMPION, name="champion")
    draw_operating_curve(axis, candidate, colour=ACCENT, name="candidate")
    finish_operating_axis(axis, [candidate, champion] if champion is not None else [candidate])
    axis.legend(loc="lower right", fontsize=8, frameon=False)
    return png(figure)


def by_category(candidate: Mapping[str, Any], champion: Mapping[str, Any] | None) -> bytes:
    """AP50 of both models, category by category."""
    names = list(candidate["by_category"])
    figure, (axis,) = new_figure(5.6, 4.0)
    sides = [(candidate, ACCENT, "candidate"), *([(champion, CHAMPION, "champion")] if champion is not None else [])]
    for place, (results, colour, name) in enumerate(sides):
        offset = (place - (len(sides) - 1) / 2) * 0.36
        for position, category in enumerate(names):
            ap50 = results["by_category"].get(category, {}).get("ap50")
            axis.barh(position + offset, ap50 or 0.0, height=0.32, color=colour, label=name if position == 0 else None)
            axis.text((ap50 or 0.0) + 0.01, position + offset, "—" if ap50 is None else f"{ap50:.2f}", va="center", fontsize=8, color=INK)
    axis.set_yticks(range(len(names)), names)
    axis.set(ylim=(len(names) - 0.4, -0.6), xlim=(0, 1.08))
    axis.grid(axis="y", visible=False)
    label(axis, "Boxes: AP50 by category", "AP50", "")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize=8, frameon=False)
    return png(figure)
