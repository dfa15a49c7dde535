"""From any noun to every other it came from or went into.

The rules are data: which noun a row is, and which rows of the catalog make one noun lead to another. Walking them upstream tells where
something came from, walking them downstream where it went. What a snapshot holds is in the store, not in the catalog: that relation is given
to `follow` from outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import sqlalchemy as sa

from scanloop.catalog import tables as t
from scanloop.errors import WrongArguments

MIN_PREFIX = 6
"""Fewer characters of an id than this name too much."""
Direction = Literal["upstream", "downstream"]


@dataclass(frozen=True, order=True)
class Node:
    """One thing that is traced."""

    noun: str
    """What it is: scan, bag, model, …"""
    id: str
    """Its id."""

    def __str__(self) -> str:
        return f"{self.noun}:{self.id}"


@dataclass(frozen=True)
class Noun:
    """How a noun is found in the catalog."""

    table: sa.Table
    key: tuple[str, ...]
    """Columns that make its id, joined by `/`."""
    facts: tuple[str, ...]
    """Columns worth showing."""

    @property
    def id(self) -> sa.ColumnElement[str]:
        """Its id, as SQL."""
        parts = [sa.cast(self.table.c[name], sa.Text) for name in self.key]
        return parts[0] if len(parts) == 1 else sa.func.concat_ws("/", *parts)


NOUNS = {
    "site": Noun(t.sites, ("site_id",), ("name",)),
    "scanner": Noun(t.scanners, ("scanner_id",), ("manufacturer", "model")),
    "delivery": Noun(t.deliveries, ("delivery_id",), ("landing_key", "outcome")),
    "quarantine": Noun(t.quarantine, ("quarantine_id",), ("stage", "reason_code", "state")),
    "report": Noun(t.threat_reports, ("report_id",), ("tdr_type", "decision", "state", "problem")),
    "bag": Noun(t.bags, ("bag_id",), ()),
    "scan": Noun(t.scans, ("scan_id",), ("view_name", "source_format", "state")),
    "validation": Noun(t.validation_results, ("validation_id",), ("suite", "success")),
    "selection": Noun(t.selections, ("selection_id",), ("product_line", "budget")),
    "task": Noun(t.labelling_tasks, ("task_id",), ("product_line", "round", "state")),
    "annotation": Noun(t.annotations, ("annotation_id",), ("author", "author_kind")),
    "review": Noun(t.reviews, ("review_id",), ("verdict", "agreement")),
    "snapshot": Noun(t.snapshots, ("snapshot_id",), ("product_line", "sequence")),
    "model": Noun(t.models, ("model_id",), ("product_line", "recipe", "state")),
    "evaluation": Noun(t.evaluations, ("evaluation_id",), ("product_line",)),
    "decision": Noun(t.decisions, ("decision_id",), ("product_line", "verdict", "approver")),
    "champion": Noun(t.champion_history, ("product_line", "sequence"), ()),
    "release": Noun(t.releases, ("release_id",), ("product_line", "version", "channel", "state")),
    "device": Noun(t.devices, ("device_id",), ("site_id", "channel", "state")),
    "run": Noun(t.runs, ("run_id",), ("product_line",)),
}


ENDS = frozenset({"selection", "validation"})
"""Nouns that hold many scans together. A walk stops there unless it began there: one of their scans did not come from all the others."""


class Relation(Protocol):
    """How one noun leads to another."""

    @property
    def upstream(self) -> str:
        """The noun that it leads from."""

    @property
    def downstream(self) -> str:
        """The noun that it leads to."""

    def neighbours(self, node_id: str, direction: Direction, limit: int) -> tuple[list[str], int]:
        """Ids at the other end, in order, at most `limit`; and how many there are."""


@dataclass(frozen=True)
class Rows:
    """A relation that rows of the catalog tell."""

    upstream: str
    downstream: str
    pairs: sa.Select[Any]
    """Two columns: the ids upstream and downstream."""

    def on(self, connection: sa.Connection) -> RowsOn:
        """This relation, read over `connection`."""
        return RowsOn(self.upstream, self.downstream, self.pairs, connection)


@dataclass(frozen=True)
class RowsOn:
    """A relation of rows with the connection that reads them."""

    upstream: str
    downstream: str
    pairs: sa.Select[Any]
    connection: sa.Connection

    def neighbours(self, node_id: str, direction: Direction, limit: int) -> tuple[list[str], int]:
        """As `Relation.neighbours`."""
        up, down = self.pairs.subquery().c
        wanted, given = (up, down) if direction == "upstream" else (down, up)
        query = sa.select(wanted.label("id")).where(given == node_id, wanted.is_not(None)).distinct()
        found = list(self.connection.execute(query.order_by("id").limit(limit)).scalars())
        if len(found) < limit:
            return found, len(found)
        return found, int(self.connection.execute(sa.select(sa.func.count()).select_from(query.subquery())).scalar_one())


def _columns(upstream: str, downstream: str, up: sa.ColumnElement[Any], down: sa.ColumnElement[Any], *where: Any) -> Rows:
    return Rows(upstream, downstream, sa.select(up.label("up"), down.label("down")).where(*where))


def _same_test(evaluated: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    return sa.and_(t.evaluations.c.model_id == evaluated, t.evaluations.c.snapshot_id == t.decisions.c.snapshot_id)


def _rules() -> Iterator[Rows]:
    yield _columns("site", "scanner", t.scanners.c.site_id, t.scanners.c.scanner_id)
    yield _columns("site", "bag", t.bags.c.site_id, t.bags.c.bag_id)
    yield _columns("scanner", "scan", t.scans.c.scanner_id, t.scans.c.scan_id)
    yield _columns("bag", "scan", t.scans.c.bag_id, t.scans.c.scan_id)
    yield _columns("delivery", "scan", t.deliveries.c.delivery_id, t.deliveries.c.scan_id)
    yield _columns("delivery", "quarantine", t.deliveries.c.delivery_id, t.deliveries.c.quarantine_id)
    yield _columns("delivery", "report", t.deliveries.c.delivery_id, t.deliveries.c.report_id)
    yield _columns("report", "annotation", t.annotations.c.report_id, t.annotations.c.annotation_id)
    yield _columns("scan", "quarantine", t.scans.c.scan_id, t.quarantine.c.quarantine_id, t.scans.c.scan_id == t.quarantine.c.quarantine_id)
    yield _columns("scan", "validation", t.scan_validations.c.scan_id, t.scan_validations.c.validation_id)
    items = t.selection_items
    yield _columns("scan", "selection", items.c.scan_id, items.c.selection_id, items.c.is_chosen)
    yield _columns("model", "selection", t.selections.c.model_id, t.selections.c.selection_id)
    yield _columns("selection", "task", t.labelling_tasks.c.selection_id, t.labelling_tasks.c.task_id)
    yield _columns("scan", "task", t.labelling_tasks.c.scan_id, t.labelling_tasks.c.task_id)
    annotations, reviews = t.annotations, t.reviews
    yield _columns("task", "annotation", annotations.c.task_id, annotations.c.annotation_id)
    yield _columns("scan", "annotation", annotations.c.scan_id, annotations.c.annotation_id)
    yield _columns("annotation", "annotation", annotations.c.supersedes, annotations.c.annotation_id)
    yield _columns("task", "review", reviews.c.task_id, reviews.c.review_id)
    same_task = annotations.c.task_id == reviews.c.task_id
    not_made_by_it = annotations.c.annotation_id.is_distinct_from(reviews.c.annotation_id)
    yield _columns("annotation", "review", annotations.c.annotation_id, reviews.c.review_id, same_task, not_made_by_it)
    yield _columns("review", "annotation", reviews.c.review_id, reviews.c.annotation_id)
    yield _columns("snapshot", "snapshot", t.snapshots.c.parent_id, t.snapshots.c.snapshot_id)
    yield _columns("snapshot", "model", t.models.c.snapshot_id, t.models.c.model_id)
    yield _columns("model", "model", t.models.c.parent_model_id, t.models.c.model_id)
    yield _columns("model", "evaluation", t.evaluations.c.model_id, t.evaluations.c.evaluation_id)
    yield _columns("snapshot", "evaluation", t.evaluations.c.snapshot_id, t.evaluations.c.evaluation_id)
    decisions, evaluation_id = t.decisions, t.evaluations.c.evaluation_id
    compared = sa.or_(_same_test(decisions.c.candidate_id), _same_test(decisions.c.champion_id))
    yield _columns("evaluation", "decision", evaluation_id, decisions.c.decision_id, compared)
    yield _columns("model", "decision", decisions.c.candidate_id, decisions.c.decision_id)
    yield _columns("model", "decision", decisions.c.champion_id, decisions.c.decision_id)
    champion, history = NOUNS["champion"].id, t.champion_history
    yield _columns("decision", "champion", history.c.decision_id, champion)
    yield _columns("model", "champion", history.c.model_id, champion)
    released = (t.releases.c.model_id == history.c.model_id, t.releases.c.product_line == history.c.product_line)
    yield _columns("champion", "release", champion, t.releases.c.release_id, *released)
    yield _columns("model", "release", t.releases.c.model_id, t.releases.c.release_id)
    reports = t.device_reports
    installed = (reports.c.model_id == t.releases.c.model_id, reports.c.release_version == t.releases.c.version)
    yield _columns("release", "device", t.releases.c.release_id, reports.c.device_id, *installed)
    yield _columns("site", "device", t.devices.c.site_id, t.devices.c.device_id)
    for name, noun in NOUNS.items():
        if name != "run":
            yield _columns("run", name, noun.table.c.run_id, noun.id)
    yield _columns("run", "run", t.run_links.c.consumed_run_id, t.run_links.c.run_id)


RULES = tuple(_rules())


@dataclass
class Branch:
    """One thing in a trace, with what lies beyond it."""

    node: Node
    facts: dict[str, Any]
    """What the catalog says of it, small."""
    branches: list[Branch] = field(default_factory=list)
    """What lies beyond it, in the same direction."""
    left_out: dict[str, int] = field(default_factory=dict)
    """How many more there are, by noun."""
    is_repeated: bool = False
    """Whether it is in the trace already, with its branches."""


@dataclass(frozen=True)
class Trace:
    """Where one thing came from and went."""

    origin: Node
    facts: dict[str, Any]
    upstream: Branch
    """What it came from; the origin is its root."""
    downstream: Branch
    """What it went into; the origin is its root."""


def find(connection: sa.Connection, wanted: str) -> Node:
    """The one thing that `wanted` names: an id, the first characters of one, or either after its noun, as in `scan:1a2b3c`.

    Raises:
        WrongArguments: it names nothing, or several things; the message lists them.
    """
    noun, colon, prefix = wanted.partition(":")
    if not colon or noun not in NOUNS:
        noun, prefix = "", wanted
    if len(prefix) < MIN_PREFIX and not (noun and prefix):
        raise WrongArguments(
            f"{wanted!r} is too short: give at least {MIN_PREFIX} characters of an id, or its noun too, as in scan:1a2b3c."
        )
    found: list[Node] = []
    for name, entry in NOUNS.items():
        if noun in ("", name):
            query = sa.select(entry.id.label("id")).where(entry.id.startswith(prefix, autoescape=True)).distinct().order_by("id").limit(12)
            found += [Node(name, each) for each in connection.execute(query).scalars()]
    exact = [node for node in found if node.id == prefix]
    found = exact or found
    if not found:
        raise WrongArguments(f"Nothing in the catalog has an id that starts with {prefix!r}{f' among {noun}s' if noun else ''}.")
    if len(found) > 1:
        shown = ", ".join(map(str, found[:10])) + (", …" if len(found) > 10 else "")
        raise WrongArguments(f"{wanted!r} names more than one thing: {shown}.")
    return found[0]


def follow(connection: sa.Connection, origin: Node, more: Sequence[Relation] = (), *, limit: int = 10) -> Trace:
    """Walk from `origin` both ways; at most `limit` things of one noun are shown beyond one thing, the rest is counted."""
    relations: list[Relation] = [*(rule.on(connection) for rule in RULES), *more]
    walked = {}
    directions: tuple[Direction, Direction] = ("upstream", "downstream")
    for direction in directions:
        root = Branch(origin, _facts(connection, origin))
        _grow(connection, root, relations, direction, limit, {origin})
        walked[direction] = root
    return Trace(origin, walked["upstream"].facts, walked["upstream"], walked["downstream"])


def _grow(
    connection: sa.Connection, root: Branch, relations: Sequence[Relation], direction: Direction, limit: int, seen: set[Node]
) -> None:
    """Breadth first, so that everything hangs where it is nearest to the origin."""
    waiting = [root]
    while waiting:
        branch = waiting.pop(0)
        for relation in relations:
            here, there = relation.upstream, relation.downstream
            if direction == "upstream":
                here, there = there, here
            if here != branch.node.noun:
                continue
            ids, total = relation.neighbours(branch.node.id, direction, limit)
            if total > len(ids):
                branch.left_out[there] = max(branch.left_out.get(there, 0), total - len(ids))
            for node in (Node(there, each) for each in ids):
                if any(node == other.node for other in branch.branches):
                    continue
                found = Branch(node, _facts(connection, node), is_repeated=node in seen)
                branch.branches.append(found)
                if not found.is_repeated:
                    seen.add(node)
                    if node.noun not in ENDS:
                        waiting.append(found)


def _facts(connection: sa.Connection, node: Node) -> dict[str, Any]:
    noun = NOUNS[node.noun]
    if node.noun == "run":
        query = sa.select(t.runs.c.job, t.runs.c.part).where(t.runs.c.run_id == node.id).order_by(t.runs.c.job, t.runs.c.part)
        jobs = [f"{job} {part}".strip() for job, part in connection.execute(query)]
        return {"jobs": jobs}
    row = (
        connection.execute(sa.select(*(noun.table.c[name] for name in noun.facts), sa.literal(1)).where(noun.id == node.id))
        .mappings()
        .first()
    )
    return {} if row is None else {name: row[name] for name in noun.facts if row[name] is not None}
