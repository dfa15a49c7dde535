"""What a filter means, said again without SQL, over scans and annotations as plain values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from scanloop.query.fields import SCANS, Subject
from scanloop.query.language import AllOf, AnyOf, Comparison, Filter, Moment, Not

Row = Mapping[str, Any]


def holds(found: Filter, subject: Subject, row: Row) -> bool:
    """Whether a scan or an annotation meets a filter."""
    if isinstance(found, AllOf):
        return all(holds(part, subject, row) for part in found.parts)
    if isinstance(found, AnyOf):
        return any(holds(part, subject, row) for part in found.parts)
    if isinstance(found, Not):
        return not holds(found.part, subject, row)
    path = found.reference.path
    if subject is not SCANS and path[0] == "scan" and len(path) > 1:
        return _compares(found, list(_values(path[1:], row["scan"])))
    return _compares(found, list(_values(path, row)))


def _values(path: tuple[str, ...], row: Row) -> Iterable[Any]:
    value: Any = row
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, (list, set, frozenset)):
        return value
    return [] if value is None else [value]


def _compares(found: Comparison, values: list[Any]) -> bool:
    return bool(values) if found.operator == "set" else any(_one(found, value) for value in values)


def _one(found: Comparison, value: Any) -> bool:
    wanted = found.values[0]
    if found.operator in ("=", "in"):
        return any(_is_equal(value, one) for one in found.values)
    if found.operator == "~":
        pattern = "".join(".*" if character == "*" else re.escape(character) for character in str(wanted))
        return isinstance(value, str) and re.fullmatch(pattern, value, re.DOTALL) is not None
    if isinstance(wanted, Moment):
        is_day = wanted.start < wanted.end
        orders = {
            "<": value < wanted.start, "<=": value < wanted.end if is_day else value <= wanted.start,
            ">": value >= wanted.end if is_day else value > wanted.start, ">=": value >= wanted.start,
        }  # fmt: skip
        return orders[found.operator]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    number = float(wanted)  # type: ignore[arg-type]
    return {"<": value < number, "<=": value <= number, ">": value > number, ">=": value >= number}[found.operator]


def _is_equal(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, Moment):
        return value == wanted.start or wanted.start <= value < wanted.end
    return isinstance(value, bool) == isinstance(wanted, bool) and isinstance(value, str) == isinstance(wanted, str) and value == wanted
