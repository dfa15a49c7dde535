"""The suites that are kept as files, one a scanner model or kind of scan: read, checked, and chosen for a scan."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from scanloop.errors import WrongArguments
from scanloop.validation.frame import HISTORY_COLUMNS, SCAN_COLUMNS, is_copy, kind_of
from scanloop.validation.suites import SECTIONS, Check, HistoryLimits, ScannerSuite, Severity, Suite

_NAME = r"^[a-z][a-z0-9_]{1,46}$"
_RULES = ("known", "equal", "between", "among")
_SPACES = re.compile(r"[\W_]+")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CheckFile(_Part):
    """One check as a file says it, with one rule."""

    name: str = Field(pattern=_NAME)
    says: str = Field(min_length=8, max_length=200, pattern=r"^[a-z].*[^.]$")
    severity: Severity = "blocks"
    column: str | None = None
    """Column that `between` or `among` is about."""
    known: str | None = None
    """Column that must not be empty."""
    equal: tuple[str, str] | None = None
    """Two columns that must hold the same, where both hold something."""
    between: tuple[float | None, float | None] | None = None
    """Least and largest value."""
    among: tuple[bool | int | str, ...] | None = Field(default=None, min_length=1)
    """The values that it may have."""

    @model_validator(mode="after")
    def _one_rule(self) -> CheckFile:
        given = [rule for rule in _RULES if getattr(self, rule) is not None]
        if len(given) != 1 or (self.column is not None) != (given[0] in ("between", "among")):
            raise ValueError(f"expected one of {', '.join(_RULES)}, the last two with a column; found {', '.join(given) or 'none'}")
        if self.between is not None and (self.between == (None, None) or (None not in self.between and self.between[0] > self.between[1])):  # type: ignore[operator]
            raise ValueError("expected a least value that is not above the largest")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns it is about."""
        return self.equal or tuple(column for column in (self.column, self.known) if column is not None)

    def as_check(self) -> Check:
        """The same as an expectation."""
        if self.known is not None:
            expectation, arguments = "ExpectColumnValuesToNotBeNull", {"column": self.known}
        elif self.equal is not None:
            pair = {"column_A": self.equal[0], "column_B": self.equal[1]}
            expectation, arguments = "ExpectColumnPairValuesToBeEqual", {**pair, "ignore_row_if": "either_value_is_missing"}
        elif self.between is not None:
            limits = {name: value for name, value in zip(("min_value", "max_value"), self.between, strict=True) if value is not None}
            expectation, arguments = "ExpectColumnValuesToBeBetween", {"column": str(self.column), **limits}  # type: ignore[dict-item]
        else:
            expectation, arguments = "ExpectColumnValuesToBeInSet", {"column": str(self.column), "value_set": list(self.among or ())}  # type: ignore[dict-item]
        return Check(self.name, self.says, expectation, arguments, self.severity)


class For(_Part):
    """Whom a suite is for."""

    kind: Literal["projection", "volume", "picture"]
    manufacturer: str | None = None
    model: str | None = None

    @model_validator(mode="after")
    def _both_or_none(self) -> For:
        if (self.manufacturer is None) != (self.model is None):
            raise ValueError("a scanner model is a manufacturer and a model")
        return self


class SuiteFile(_Part):
    """One file: what a scanner model, or a kind of scan, is expected to deliver."""

    suite: str = Field(pattern=_NAME)
    """Its name, that of the file."""
    says: str = Field(min_length=8, max_length=200)
    """Whom it is for, for people."""
    whom: For = Field(alias="for")
    extends: str | None = None
    """Suite whose checks it begins with."""
    drops: tuple[str, ...] = ()
    """Checks of that suite that do not hold here."""
    changes: Mapping[str, Mapping[str, Any]] = {}
    """Check of that suite to what is different about it."""
    metadata: tuple[CheckFile, ...] = ()
    pixels: tuple[CheckFile, ...] = ()
    history: tuple[CheckFile, ...] = ()
    limits: HistoryLimits | None = None
    """How history is compared; as in the extended suite, if nothing is said."""


def read_suite_file(name: str, content: str) -> SuiteFile:
    """Check what a file says. Raises WrongArguments, with the file and the field."""
    try:
        found = SuiteFile.model_validate(yaml.safe_load(content))
    except (yaml.YAMLError, ValidationError) as error:
        raise WrongArguments(f"The suite {name}.yaml is not as expected: {error}") from None
    if found.suite != name:
        raise WrongArguments(f"The suite {name}.yaml calls itself {found.suite}.")
    return found


def build_suites(files: Iterable[SuiteFile]) -> tuple[ScannerSuite, ...]:
    """Suites from all files, each with what it extends. Raises WrongArguments where they do not fit together."""
    by_name = {file.suite: file for file in files}
    built = tuple(_build(by_name, by_name[name]) for name in sorted(by_name))
    whom = [(suite.kind, _plain(suite.manufacturer), _plain(suite.model)) for suite in built]
    for one, key in zip(built, whom, strict=True):
        if whom.count(key) > 1:
            raise WrongArguments(f"The suite {one.name} is not the only one for {' '.join(part for part in key if part)}.")
    return built


def _build(files: Mapping[str, SuiteFile], file: SuiteFile) -> ScannerSuite:
    checks, limits = _resolved(files, file, ())
    columns = {"metadata": SCAN_COLUMNS, "pixels": SCAN_COLUMNS, "history": HISTORY_COLUMNS}
    for section, members in checks.items():
        for check in members:
            if unknown := set(check.columns) - set(columns[section]):
                raise WrongArguments(
                    f"The check {check.name} of the suite {file.suite} is about {min(unknown)}, which {section} does not have."
                )
    names = [check.name for members in checks.values() for check in members]
    if twice := {name for name in names if names.count(name) > 1}:
        raise WrongArguments(f"The suite {file.suite} has the check {min(twice)} twice.")
    parts = {section: Suite(f"{file.suite}-{section}", tuple(check.as_check() for check in checks[section])) for section in SECTIONS}
    whom = file.whom
    return ScannerSuite(file.suite, file.says, whom.manufacturer, whom.model, whom.kind, limits=limits, **parts)


def _resolved(files: Mapping[str, SuiteFile], file: SuiteFile, seen: tuple[str, ...]) -> tuple[dict[str, list[CheckFile]], HistoryLimits]:
    checks: dict[str, list[CheckFile]] = {section: [] for section in SECTIONS}
    limits = HistoryLimits()
    if file.extends is not None:
        if file.extends not in files or file.extends in (*seen, file.suite):
            raise WrongArguments(f"The suite {file.suite} extends {file.extends}, which is no other suite.")
        checks, limits = _resolved(files, files[file.extends], (*seen, file.suite))
    known = {check.name for members in checks.values() for check in members}
    if strange := {*file.drops, *file.changes} - known:
        raise WrongArguments(f"The suite {file.suite} changes {min(strange)}, which {file.extends or 'nothing'} does not have.")
    for section, members in checks.items():
        kept = [_changed(file, check) for check in members if check.name not in file.drops]
        checks[section] = [*kept, *getattr(file, section)]
    return checks, file.limits or limits


def _changed(file: SuiteFile, check: CheckFile) -> CheckFile:
    changes = dict(file.changes.get(check.name, {}))
    if not changes:
        return check
    values = check.model_dump(exclude_none=True)
    if changes.keys() & set(_RULES):
        values = {name: value for name, value in values.items() if name not in _RULES}
    try:
        return CheckFile.model_validate(values | changes | {"name": check.name})
    except ValidationError as error:
        raise WrongArguments(f"The suite {file.suite} changes {check.name} into what is no check: {error}") from None


@cache
def scanner_suites() -> tuple[ScannerSuite, ...]:
    """Every suite of the package."""
    folder = resources.files("scanloop.validation.scanner_suites")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    return build_suites(read_suite_file(name.removesuffix(".yaml"), (folder / name).read_text(encoding="utf-8")) for name in names)


def suite_for(scan: Mapping[str, Any], suites: tuple[ScannerSuite, ...] | None = None) -> ScannerSuite:
    """The suite of a scan: a row of scans with manufacturer and model of its scanner.

    That of its scanner's model comes first, even if the scan is of another kind than the model delivers: it then fails. Captures and scans of
    imported sets are no measurements of the machine that they may name.
    """
    among = scanner_suites() if suites is None else suites
    kind = kind_of(scan)
    named = (_plain(scan["manufacturer"]), _plain(scan["model"]))
    of_model = (
        [] if is_copy(scan) else [one for one in among if one.is_of_a_model and (_plain(one.manufacturer), _plain(one.model)) == named]
    )
    of_kind = (
        [one for one in of_model if one.kind == kind] or of_model or [one for one in among if not one.is_of_a_model and one.kind == kind]
    )
    return of_kind[0]


def _plain(text: str | None) -> str:
    """A name without what writers differ in: case, spaces, punctuation."""
    return _SPACES.sub(" ", text or "").strip().casefold()
