"""From a typed filter to a condition of SQLAlchemy: every value is a parameter, every name is from the table of fields."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from scanloop.catalog import tables as t
from scanloop.labelling.trusted import not_replaced
from scanloop.query.fields import ANNOTATIONS, SCANS, Subject
from scanloop.query.language import AllOf, AnyOf, Comparison, Filter, Moment, Not, Value, parse

Condition = sa.ColumnElement[bool]
_Test = Callable[[Any], Condition]
"""From an expression to a condition on it."""

_SCAN_COLUMNS: Mapping[str, Any] = {
    "id": t.scans.c.scan_id,
    "bag": t.scans.c.bag_id,
    "site": t.scans.c.site_id,
    "scanner": t.scans.c.scanner_id,
    "view": t.scans.c.view_name,
    "modality": t.scans.c.modality,
    "format": t.scans.c.source_format,
    "type": t.scans.c.scan_type,
    "state": t.scans.c.state,
    "acquired": t.scans.c.acquired_at,
    "received": t.scans.c.created_at,
    "projected": t.scans.c.is_projected,
}
_ANNOTATION_COLUMNS: Mapping[str, Any] = {
    "id": t.annotations.c.annotation_id,
    "product_line": t.annotations.c.product_line,
    "author": t.annotations.c.author,
    "author_kind": t.annotations.c.author_kind,
    "tool": t.annotations.c.tool,
    "taxonomy": t.annotations.c.taxonomy_version,
    "created": t.annotations.c.created_at,
    "boxes": sa.func.jsonb_array_length(t.annotations.c.boxes),
}
KEYS: Mapping[str, Any] = {SCANS.name: t.scans.c.scan_id, ANNOTATIONS.name: t.annotations.c.annotation_id}
"""Subject to the column that names one."""


def condition(found: Filter, subject: Subject) -> Condition:
    """The condition on `scans` or `annotations` that a filter of `subject` means. Of two values none is "unknown": what is absent is not equal."""
    if isinstance(found, AllOf):
        return sa.and_(*(condition(part, subject) for part in found.parts))
    if isinstance(found, AnyOf):
        return sa.or_(*(condition(part, subject) for part in found.parts))
    if isinstance(found, Not):
        inner = condition(found.part, subject)
        return sa.case((inner, sa.false()), else_=sa.true()) if _may_be_unknown(found.part) else sa.not_(inner)
    path = found.reference.path
    if subject.inner is not None and path[0] == subject.inner[0] and len(path) > 1:
        inner = _compared(found, path[1:], subject.inner[1])
        return t.annotations.c.scan_id.in_(sa.select(t.scans.c.scan_id).where(inner))
    return _compared(found, path, subject)


def _may_be_unknown(found: Filter) -> bool:
    if isinstance(found, Comparison):
        return found.reference.field.is_optional and not found.reference.field.is_set
    return _may_be_unknown(found.part) if isinstance(found, Not) else any(map(_may_be_unknown, found.parts))


def _compared(found: Comparison, path: tuple[str, ...], subject: Subject) -> Condition:
    name, parts = path[0], path[1:]
    test = _test_of(found)
    if name == "tag":
        return _marked(subject, "tag", test=None if found.operator == "set" else lambda mark: test(mark.c.name))
    if name == "attribute":
        return _marked(
            subject, "attribute", name=parts[0], test=None if found.operator == "set" else lambda mark: _open(found, mark.c.value)
        )
    return _of_scan(found, name, parts, test) if subject is SCANS else _of_annotation(found, name, test)


def _of_scan(found: Comparison, name: str, parts: tuple[str, ...], test: _Test) -> Condition:
    if name == "scanner" and found.operator == "~":
        # There are few scanners: their names are compared, and the scans follow by index.
        return t.scans.c.scanner_id.in_(sa.select(t.scanners.c.scanner_id).where(test(t.scanners.c.scanner_id)))
    if name in _SCAN_COLUMNS:
        return test(_SCAN_COLUMNS[name])
    if name in ("manufacturer", "model", "serial"):
        return t.scans.c.scanner_id.in_(sa.select(t.scanners.c.scanner_id).where(test(t.scanners.c[name])))
    if name == "plane":
        plane = sa.func.jsonb_array_elements(t.scans.c.planes).table_valued(sa.column("value", JSONB)).render_derived()
        return sa.exists(sa.select(1).select_from(plane).where(test(plane.c.value["name"].astext)).correlate(t.scans))
    if name == "header":
        return t.scans.c.attributes.has_key(parts[0]) if found.operator == "set" else _open(found, t.scans.c.attributes[parts[0]])
    if name == "statistics":
        figure = t.scans.c.statistics[parts[0]][parts[1]]
        return figure.is_not(None) if found.operator == "set" else _number(figure, test)
    # One of its annotations.
    notes = t.annotations
    tested = _of_annotation(found, {"annotated_for": "product_line"}.get(name, name), test)
    return t.scans.c.scan_id.in_(sa.select(notes.c.scan_id).where(tested, not_replaced(notes)))


def _of_annotation(found: Comparison, name: str, test: _Test) -> Condition:
    notes = t.annotations
    if name == "replaced":
        wanted = {True: sa.not_(not_replaced(notes)), False: not_replaced(notes)}
        return sa.or_(*(wanted[bool(value)] for value in found.values))
    if name == "looked_for":
        if found.operator in ("=", "in"):
            return sa.or_(*(notes.c.looked_for.contains([value]) for value in found.values))
        if found.operator == "set":
            return sa.func.jsonb_array_length(notes.c.looked_for) > 0
        word = sa.func.jsonb_array_elements_text(notes.c.looked_for).table_valued(sa.column("value", sa.Text)).render_derived()
        return sa.exists(sa.select(1).select_from(word).where(test(word.c.value)).correlate(notes))
    if name == "category":
        if found.operator in ("=", "in"):
            return sa.or_(*(notes.c.boxes.contains([{"category": value}]) for value in found.values))
        if found.operator == "set":
            return sa.func.jsonb_array_length(notes.c.boxes) > 0
        box = sa.func.jsonb_array_elements(notes.c.boxes).table_valued(sa.column("value", JSONB)).render_derived()
        return sa.exists(sa.select(1).select_from(box).where(test(box.c.value["category"].astext)).correlate(notes))
    return notes.c.scan_id.is_not(None) if found.operator == "set" else test(_ANNOTATION_COLUMNS[name])


def _marked(subject: Subject, kind: str, *, name: str | None = None, test: Callable[[Any], Condition] | None) -> Condition:
    marks = t.marks
    conditions = [marks.c.subject == subject.name, marks.c.kind == kind, marks.c.is_set]
    if name is not None:
        conditions.append(marks.c.name == name)
    if test is not None:
        conditions.append(test(marks))
    return KEYS[subject.name].in_(sa.select(marks.c.subject_id).where(*conditions))


def _number(value: Any, test: _Test) -> Condition:
    """`test` on a JSON value where it is a number; only then is it made one, in whatever order the database looks at things."""
    return sa.case((sa.func.jsonb_typeof(value) == "number", test(sa.cast(value, sa.Numeric))), else_=sa.false())


def _open(found: Comparison, value: Any) -> Condition:
    """A comparison with a JSON value of any type; one of another type than what is asked for is not equal and in no order."""
    if found.operator in ("=", "in"):
        return value.in_([sa.cast(sa.literal(_json(one), sa.Text), JSONB) for one in found.values])
    if found.operator == "~":
        text = value.op("#>>")(sa.cast(sa.literal([], sa.ARRAY(sa.Text)), sa.ARRAY(sa.Text)))
        return sa.case((sa.func.jsonb_typeof(value) == "string", _test_of(found)(text)), else_=sa.false())
    return _number(value, _test_of(found))


def _json(value: Value) -> str:
    """A value as JSON, to the last digit."""
    return str(value) if isinstance(value, Decimal) else json.dumps(value)


def _test_of(found: Comparison) -> _Test:
    """The condition of a comparison on an expression of its field's type."""
    values = found.values
    if found.operator == "set":
        return lambda expression: expression.is_not(None)
    if values and isinstance(values[0], Moment):
        return _test_of_times(found)
    if found.operator == "in":
        return lambda expression: expression.in_(values)
    value = values[0]
    if found.operator == "~":
        pattern = "".join("%" if character == "*" else _escaped(character) for character in str(value))
        return lambda expression: expression.like(pattern, escape="\\")
    tests: Mapping[str, _Test] = {
        "=": lambda expression: expression == value,
        "<": lambda expression: expression < value,
        "<=": lambda expression: expression <= value,
        ">": lambda expression: expression > value,
        ">=": lambda expression: expression >= value,
    }
    return tests[found.operator]


def _escaped(character: str) -> str:
    return "\\" + character if character in "\\%_" else character


def _test_of_times(found: Comparison) -> _Test:
    """A day stands for all of its times: before it is before its start, after it is after its end."""
    moments = cast("tuple[Moment, ...]", found.values)

    def is_at(expression: Any, moment: Moment) -> Condition:
        if moment.start == moment.end:
            return cast("Condition", expression == moment.start)
        return sa.and_(expression >= moment.start, expression < moment.end)

    if found.operator in ("=", "in"):
        return lambda expression: sa.or_(*(is_at(expression, moment) for moment in moments))
    one = moments[0]
    is_day = one.start < one.end
    tests: Mapping[str, _Test] = {
        "<": lambda expression: expression < one.start,
        "<=": lambda expression: expression < one.end if is_day else expression <= one.start,
        ">": lambda expression: expression >= one.end if is_day else expression > one.start,
        ">=": lambda expression: expression >= one.start,
    }
    return tests[found.operator]


def of_product_line(query: str) -> Condition:
    """The condition on `scans` that the query of a product line means; an empty one finds every scan. Raises QueryWrong."""
    return condition(parse(query, SCANS), SCANS) if query else sa.true()
