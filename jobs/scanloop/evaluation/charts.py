"""Charts of an evaluation as PNG. The same numbers give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, ACCENT, ALARM = "#1b2a3a", "#d7dde4", "#0072b2", "#c8452d"
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d3b", "#5a5a5a")
"""Colours that people with any colour vision tell apart. Source: Okabe and Ito, "Color universal design", 2008."""


def new_figure(width: float, height: float, columns: int = 1, *, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure in the house's look, in inches, with its axes in reading order."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=130, layout="constrained", facecolor="white")
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(FAINT)
        axis.tick_params(colors=INK, labelsize=8, length=0)
        axis.grid(color=FAINT, linewidth=0.6)
        axis.set_axisbelow(True)
    return figure, axes


def png(figure: Figure) -> bytes:
    """The figure as PNG, without a date or a version in it."""
    target = io.BytesIO()
    figure.savefig(target, format="png", metadata={"Software": None})
    return target.getvalue()


def label(axis: Axes, title: str, x: str, y: str) -> None:
    """Name the chart and its axes."""
    axis.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK, pad=10)
    axis.set_xlabel(x, fontsize=8.5, color=INK)
    axis.set_ylabel(y, fontsize=8.5, color=INK)


def precision_recall(results: Mapping[str, Any]) -> bytes:
    """Precision over recall at IoU 0.5, one line a category."""
    figure, (axis,) = new_figure(5.2, 3.9)
    curves = results["precision_recall"]
    for position, (name, precision) in enumerate(curves["precision"].items()):
        ap50 = results["by_category"][name]["ap50"]
        axis.plot(curves["recall"], precision, color=LINES[position % len(LINES)], linewidth=1.8, label=f"{name}  AP50 {ap50:.3f}")
    axis.set(xlim=(0, 1.005), ylim=(0, 1.02))
    label(axis, "Precision and recall of boxes", "recall", "precision")
    if curves["precision"]:
        axis.legend(loc="lower left", fontsize=8, frameon=True, facecolor="white", edgecolor="none", framealpha=0.85)
    return png(figure)


def draw_operating_curve(axis: Axes, results: Mapping[str, Any], *, colour: str, name: str) -> None:
    """Pd over Pfa as thresholds move, with the operating point and its bounds."""
    curve = [{"pfa": 0.0, "pd": 0.0}, *results["operating_curve"], {"pfa": 1.0, "pd": 1.0}]
    axis.plot([p["pfa"] for p in curve], [p["pd"] for p in curve], color=colour, linewidth=1.8, drawstyle="steps-post", label=name)
    pd, pfa = results["pd"], results["pfa"]
    if pd["rate"] is None or pfa["rate"] is None:
        return
    axis.errorbar(
        [pfa["rate"]],
        [pd["rate"]],
        xerr=[[pfa["rate"] - pfa["lower"]], [pfa["upper"] - pfa["rate"]]],
        yerr=[[pd["rate"] - pd["lower"]], [pd["upper"] - pd["rate"]]],
        fmt="o",
        markersize=6,
        color=colour,
        markeredgecolor="white",
        elinewidth=1.1,
        capsize=3,
        zorder=5,
        clip_on=False,
    )


def finish_operating_axis(axis: Axes, results: Sequence[Mapping[str, Any]]) -> None:
    """Show the target Pfa and the part of the axes that matters."""
    target = results[0]["operating_point"]["target_pfa"]
    axis.axvline(target, color=ALARM, linewidth=1, linestyle=(0, (4, 3)))
    axis.text(target, 0.02, f" target Pfa {target:g}", color=ALARM, fontsize=8, va="bottom")
    widest = max([4 * target, 0.3, *(1.15 * one["pfa"]["upper"] for one in results)])
    axis.set(xlim=(-0.005, min(1.0, widest)), ylim=(0, 1.02))
    label(axis, "Detection and false alarms of bags", "Pfa: clean bags that alarm", "Pd: threats that alarm")


def operating_curve(results: Mapping[str, Any]) -> bytes:
    """The operating curve of one model; bounds are one-sided at the policy's confidence."""
    figure, (axis,) = new_figure(5.2, 3.9)
    draw_operating_curve(axis, results, colour=ACCENT, name="model")
    finish_operating_axis(axis, [results])
    return png(figure)


def _bars(axis: Axes, names: Sequence[str], rates: Sequence[Mapping[str, Any]], colour: str) -> None:
    for position, rate in enumerate(rates):
        if rate["rate"] is None:
            axis.text(0.01, position, "no bags", va="center", fontsize=8, color=INK)
            continue
        axis.barh(position, rate["rate"], height=0.55, color=colour, alpha=0.28)
        axis.plot([rate["lower"], rate["upper"]], [position, position], color=colour, linewidth=1.6, solid_capstyle="butt")
        axis.plot([rate["rate"]], [position], marker="o", markersize=5, color=colour, markeredgecolor="white")
        axis.text(
            1.03, position, f"{rate['count']} / {rate['total']}", va="center", fontsize=7.5, color=INK, transform=axis.get_yaxis_transform()
        )
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.grid(axis="y", visible=False)


def slices(results: Mapping[str, Any], which: str, title: str) -> bytes:
    """Pd and Pfa with their bounds for each part of `results[which]`."""
    parts = results[which]
    names = list(parts)
    figure, (left, right) = new_figure(10.6, 1.1 + 0.42 * max(2, len(names)), 2)
    _bars(left, names, [parts[name]["pd"] for name in names], ACCENT)
    _bars(right, names, [parts[name]["pfa"] for name in names], ALARM)
    right.tick_params(labelleft=False)
    uppers = [parts[name]["pfa"]["upper"] for name in names if parts[name]["pfa"]["rate"] is not None]
    target = results["operating_point"]["target_pfa"]
    right.axvline(target, color=ALARM, linewidth=1, linestyle=(0, (4, 3)))
    left.set_xlim(0, 1.0)
    right.set_xlim(0, min(1.0, max([2 * target, *(1.1 * upper for upper in uppers)])))
    label(left, f"Pd by {title}", "bags with a threat that alarm for it", "")
    label(right, f"Pfa by {title}", "clean bags that alarm", "")
    return png(figure)
