"""What is drawn in an experiment, as the events of ClearML's API. Pure.

A server keeps one scalar, plot or picture for each (experiment, iteration, metric, variant): to say something twice is to say it once.
Source: `EventBLL.event_id_fields` of clearml-server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

SUMMARY = "Summary"
SUMMARY_ITERATION = -(2**31)
"""Where ClearML keeps single values."""
Event = dict[str, Any]


def of_line(task_id: str, line: Mapping[str, Any], urls: Mapping[str, str]) -> Iterator[Event]:
    """The events of one line of a spool. `urls`: where the pictures that it names were uploaded."""
    at = {"timestamp": line["at"]} if "at" in line else {}
    match line["kind"]:
        case "scalars":
            for name, value in line["values"].items():
                yield scalar(task_id, name, name, value, line["iteration"]) | at
        case "metrics":
            for name, value in line["values"].items():
                yield single(task_id, name, value) | at
        case "picture":
            yield picture(task_id, "detections", line["series"], urls[line["path"]], line["iteration"]) | at


def scalar(task_id: str, metric: str, variant: str, value: float, iteration: int) -> Event:
    """One point of a curve."""
    return {"type": "training_stats_scalar", "task": task_id, "metric": metric, "variant": variant, "value": value, "iter": iteration}


def single(task_id: str, name: str, value: float) -> Event:
    """One number of the whole experiment."""
    return scalar(task_id, SUMMARY, name, value, SUMMARY_ITERATION)


def picture(task_id: str, metric: str, variant: str, url: str, iteration: int = 0) -> Event:
    """A picture that lies somewhere."""
    return {
        "type": "training_debug_image",
        "task": task_id,
        "metric": metric,
        "variant": variant,
        "url": url,
        "key": url,
        "iter": iteration,
    }


def table(task_id: str, metric: str, variant: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Event:
    """A table."""
    cells = [[_cell(row[column]) for row in rows] for column in range(len(columns))]
    drawn = {"type": "table", "header": {"values": list(columns), "align": "left"}, "cells": {"values": cells, "align": "left"}}
    return _plot(task_id, metric, variant, [drawn], {"title": f"{metric} - {variant}"})


def curves(task_id: str, metric: str, variant: str, lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], x: str, y: str) -> Event:
    """Named curves in one plot."""
    drawn = [{"type": "scatter", "mode": "lines+markers", "name": name, "x": list(xs), "y": list(ys)} for name, (xs, ys) in lines.items()]
    layout = {"title": f"{metric} - {variant}", "xaxis": {"title": x}, "yaxis": {"title": y}}
    return _plot(task_id, metric, variant, drawn, layout)


def _plot(task_id: str, metric: str, variant: str, data: list[dict[str, Any]], layout: dict[str, Any]) -> Event:
    content = json.dumps({"data": data, "layout": layout}, sort_keys=True)
    return {"type": "plot", "task": task_id, "metric": metric, "variant": variant, "plot_str": content, "iter": 0}


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
