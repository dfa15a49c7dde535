"""Find the scans that waiting reports speak about, and write down what they say as annotations.

A report may come before its scans, with them or after them, from any machine of its site. A scan is the one that is meant if it is of the same site,
has the SOP instance UID that the report names, and is of the report's bag or study; there are toolkits that give many files one UID, so a UID alone
proves nothing. Where several are left, the report waits and says so. A report that names no scan speaks about its study and bag as a whole.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from scanloop.canonical import digest_of
from scanloop.catalog import tables
from scanloop.catalog.tables import product_lines, scans, taxonomies, threat_reports
from scanloop.errors import NothingToDo
from scanloop.execution import JobRun
from scanloop.intake.report_boxes import Categories, FoundInScan, OutsideScan, ScanPlace, found_in, named
from scanloop.labelling.trusted import REPORT, THREAT_REPORT
from scanloop.scans.content import UNKNOWN

log = logging.getLogger(__name__)

MAX_PAIRS = 20_000
"""Pairs of a report and a scan looked at in one run, or all of one report; those without a known problem first."""
OPEN_DAYS = 30
"""A report about a whole study is also applied to scans of it that come so long after the report."""
_USABLE = ("received", "validated")
_NAMED = 20
"""Unknown categories named in the result, at most."""
Row = Mapping[str, Any]


def match_reports(run: JobRun) -> dict[str, Any]:
    """Match what can be matched. Every annotation's id follows from report and scan, so matching again adds nothing.

    The result counts reports: `matched` now, `waiting` still, by `problems`; and `annotations`, and threats of `unknown_categories`. `left` says
    that there is more to do than one run takes.

    Raises:
        NothingToDo: no waiting report has a scan that it was not compared with.
    """
    with run.catalog.read() as connection:
        categories = active_categories(connection)
        waiting = int(connection.execute(sa.select(sa.func.count()).where(threat_reports.c.state == "waiting")).scalar_one())
        if categories is None:
            raise NothingToDo(f"{waiting} reports wait, and no taxonomy is defined yet. Run: scanloop definitions apply.")
        pairs, is_left = _some_pairs(connection)
    matcher = _Matcher(run, categories)
    grouped = groupby(sorted(pairs, key=lambda pair: (pair["report_id"], pair["scan_id"])), lambda pair: pair["report_id"])
    for report_id, candidates in grouped:
        matcher.match(report_id, list(candidates))
    if not matcher.changed:
        raise NothingToDo(f"no scan came that one of the {waiting} waiting reports speaks about.")
    run.publication.insert("annotations", matcher.notes, action="annotation.reported", subject="annotation_id")
    for change in matcher.changes:
        run.publication.update("threat_reports", **change)
    return {
        "matched": matcher.matched,
        "waiting": waiting - matcher.matched,
        "annotations": len(matcher.notes),
        "problems": dict(sorted(matcher.problems.items())),
        "unknown_categories": dict(sorted(matcher.unknown.most_common(_NAMED))),
        "left": is_left,
    }


def active_categories(connection: sa.Connection) -> Categories | None:
    """The taxonomy that the active product lines use, the newest where they use several; without a product line the newest of all."""
    in_use = sa.exists().where(product_lines.c.is_active, product_lines.c.definition["taxonomy"].astext == taxonomies.c.taxonomy_version)
    query = sa.select(taxonomies).order_by(in_use.desc(), taxonomies.c.created_at.desc(), taxonomies.c.taxonomy_version.desc())
    row = connection.execute(query.limit(1)).first()
    return Categories.of(row.taxonomy_version, row.categories) if row is not None else None


def _some_pairs(connection: sa.Connection) -> tuple[list[dict[str, Any]], bool]:
    """As many pairs as one run takes, of each report all or none: a scan left out could make another look like the only one. And if more are left."""
    query = _pairs()
    pairs = [dict(row) for row in connection.execute(query.limit(MAX_PAIRS + 1)).mappings()]
    if len(pairs) <= MAX_PAIRS:
        return pairs, False
    last = pairs[-1]["report_id"]
    whole = [pair for pair in pairs if pair["report_id"] != last]
    return whole or [dict(row) for row in connection.execute(query.where(query.selected_columns.report_id == last)).mappings()], True


def _pairs() -> sa.Select[Any]:
    """Each report with each scan that it may mean: the UID that it names, or its study and bag where it names none."""
    reports = threat_reports.c
    uid, study = scans.c.attributes["sop_instance_uid"].astext, scans.c.attributes["study_uid"].astext
    columns = (reports.report_id, reports.problem, scans.c.scan_id)
    name = sa.func.jsonb_array_elements_text(reports.wanted).table_valued("value", name="named").render_derived()
    by_name = (
        sa.select(*columns, name.c.value.label("uid"))
        .select_from(threat_reports.join(name, sa.true()).join(scans, sa.and_(uid == name.c.value, scans.c.site_id == reports.site_id)))
        .where(reports.state == "waiting", scans.c.state.in_(_USABLE))
        .where(~reports.matches.contains(sa.func.jsonb_build_array(sa.func.jsonb_build_object("uid", name.c.value))))
    )
    notes = tables.annotations.c
    is_said = sa.exists().where(notes.report_id == reports.report_id, notes.scan_id == scans.c.scan_id)
    is_open = sa.or_(
        reports.state == "waiting",
        sa.and_(reports.state == "matched", reports.created_at > sa.func.now() - sa.func.make_interval(0, 0, 0, OPEN_DAYS)),
    )
    by_study = (
        sa.select(*columns, sa.literal("").label("uid"))
        .select_from(threat_reports.join(scans, scans.c.bag_id == reports.bag_id))
        .where(is_open, sa.func.jsonb_array_length(reports.wanted) == 0, reports.bag_id != "", scans.c.state.in_(_USABLE))
        .where(sa.or_(reports.study_uid == "", sa.func.coalesce(study, reports.study_uid) == reports.study_uid), ~is_said)
    )
    both = sa.union_all(by_name, by_study).subquery()
    return sa.select(both.c.report_id, both.c.scan_id, both.c.uid).order_by(both.c.problem != "", both.c.report_id, both.c.scan_id)


class _Matcher:
    """The matching of one run."""

    def __init__(self, run: JobRun, categories: Categories) -> None:
        self.run, self.categories = run, categories
        self.notes: list[dict[str, Any]] = []
        self.changes: list[dict[str, Any]] = []
        self.matched = 0
        self.problems: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()

    @property
    def changed(self) -> bool:
        return bool(self.notes or self.changes)

    def match(self, report_id: str, pairs: Sequence[Row]) -> None:
        """Compare one report with the scans that it may mean."""
        with self.run.catalog.read() as connection:
            report = dict(connection.execute(sa.select(threat_reports).where(threat_reports.c.report_id == report_id)).mappings().one())
            ids = sorted({pair["scan_id"] for pair in pairs})
            rows = connection.execute(sa.select(scans).where(scans.c.scan_id.in_(ids), scans.c.state.in_(_USABLE))).mappings()
            known = {row["scan_id"]: dict(row) for row in rows}
        problem, fresh = "", list(report["matches"])
        by_uid: dict[str, list[Row]] = {}
        for pair in pairs:
            if pair["scan_id"] in known:
                by_uid.setdefault(pair["uid"], []).append(known[pair["scan_id"]])
        for uid, meant in sorted(by_uid.items()):
            try:
                chosen, found_problem = self._chosen(report, uid, meant)
                problem = problem or found_problem
                is_only = len(report["wanted"]) == 1 or (not report["wanted"] and len(meant) == 1 and not report["matches"])
                found = [(scan, found_in(report, ScanPlace.of(scan), self.categories, is_only=is_only)) for scan in chosen]
            except OutsideScan as outside:
                log.warning("Report %s is about no scan that is there: %s.", report_id[:12], outside)
                problem = problem or "outside"
                continue
            for scan, said in found:
                self.notes.append(self._annotation(report, scan["scan_id"], said))
                fresh.append({"uid": uid, "scan_id": scan["scan_id"]})
        self._change(report, fresh, problem)

    def _chosen(self, report: Row, uid: str, meant: list[Row]) -> tuple[list[Row], str]:
        """The scans that a report means by `uid`; none, with the problem, where that cannot be told."""
        if not uid:
            return meant, ""
        agreeing = [scan for scan in meant if is_of_its_bag(report, scan)]
        if len(agreeing) == 1:
            return agreeing, ""
        return [], "ambiguous" if agreeing else "bag_differs"

    def _annotation(self, report: Row, scan_id: str, said: FoundInScan) -> dict[str, Any]:
        return {
            "annotation_id": digest_of(["report", report["report_id"], scan_id]),
            "scan_id": scan_id,
            "product_line": "",
            "task_id": None,
            "author": author_of(report),
            "author_kind": REPORT,
            "tool": f"{THREAT_REPORT}{report['tdr_type']}",
            "taxonomy_version": self.categories.version,
            "looked_for": list(said.looked_for),
            "boxes": list(said.boxes),
            "report_id": report["report_id"],
        }

    def _change(self, report: Row, matches: list[dict[str, str]], problem: str) -> None:
        names = {match["uid"] for match in matches}
        is_whole = names >= set(report["wanted"]) if report["wanted"] else bool(matches)
        state = "matched" if is_whole else "waiting"
        if problem:
            self.problems[problem] += 1
        now = {"state": state, "matches": matches, "problem": "" if is_whole else problem}
        was = {name: report[name] for name in now}
        if now == was:
            return
        if is_whole and report["state"] == "waiting":
            self.matched += 1
        if matches != report["matches"] and not report["matches"]:
            self.unknown.update(self._unknown_in(report["threats"]))
        action = "report.matched" if matches != report["matches"] else "report.problem_found"
        self.changes.append({"key": {"report_id": report["report_id"]}, "expect": was, "set": now, "action": action})

    def _unknown_in(self, threats: Iterable[Row]) -> list[str]:
        names = [named(threat, self.categories) for threat in threats]
        return [name.category for name in names if name is not None and not name.is_known]


def author_of(report: Row) -> str:
    """Who says so: what a machine runs; of people only that it was one."""
    match report["tdr_type"]:
        case "ground_truth":
            return f"ground truth of {report['site_id']}"
        case "machine":
            return " ".join(report["attributes"]["algorithm"][:2]) or "machine"
        case kind:
            return str(kind)


def is_of_its_bag(report: Row, scan: Row) -> bool:
    """Whether a scan is of the bag, or of the study, that a report names; a report that names neither speaks of any."""
    study = scan["attributes"].get("study_uid")
    if report["study_uid"] and study:
        if report["study_uid"] == study:
            return True
    elif not report["bag_id"]:
        return True
    (*_, issuer, bag), (*_, its_issuer, its_bag) = (f"//{identity}".split("/") for identity in (report["bag_id"], scan["bag_id"]))
    return bool(bag) and bag == its_bag and (issuer == its_issuer or UNKNOWN in (issuer, its_issuer))
