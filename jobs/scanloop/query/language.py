"""From the text of a query to a typed filter. The grammar is GRAMMAR, in the notation of ISO/IEC 14977."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from scanloop.errors import WrongArguments
from scanloop.query.fields import Field, Kind, Subject

GRAMMAR = """\
query       = conjunction, { "or", conjunction } ;
conjunction = negation, { "and", negation } ;
negation    = "not", negation | "(", query, ")" | comparison ;
comparison  = field, ( operator, value
                     | [ "not" ], "in", "(", value, { ",", value }, ")"
                     | "is", [ "not" ], "set" ) ;
operator    = "=" | "!=" | "<" | "<=" | ">" | ">=" | "~" ;
field       = word, { ".", ( word | text ) } ;
value       = word | text ;
word        = [ "-" ], letter or digit or "_", { letter or digit or one of "_ . : / + @ -" } ;
text        = '"', { any character but '"' and "\\\\" | '\\\\"' | "\\\\\\\\" }, '"' ;
"""
MAX_CHARACTERS = 10_000
MAX_DEPTH = 50
MAX_VALUES = 1000
MAX_COMPARISONS = 100
"""More than these cost the database more to plan than to find."""

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<text>"(?:[^"\\]|\\["\\])*")
      | (?P<operator><=|>=|!=|=|<|>|~)
      | (?P<mark>[(),])
      | (?P<word>-?[A-Za-z0-9_][A-Za-z0-9_.:/+@-]*(?<!\.))
      | (?P<dot>\.)""",
    re.VERBOSE,
)
_NUMBER = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,3})?")
_LARGEST = Decimal("1e308")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INSTANT = re.compile(_DAY.pattern + r"T[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(?:Z|[+-][0-9]{2}:[0-9]{2})?")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_KEYWORDS = {"and", "or", "not", "in", "is"}
_ORDER = ("<", "<=", ">", ">=")
_OPERATORS = {
    Kind.TEXT: ("=", "!=", "~"),
    Kind.NUMBER: ("=", "!=", *_ORDER),
    Kind.TIME: ("=", "!=", *_ORDER),
    Kind.TRUTH: ("=", "!="),
    Kind.OPEN: ("=", "!=", "~", *_ORDER),
}


class QueryWrong(WrongArguments):
    """A query that is none. The message names the character and shows it."""

    def __init__(self, said: str, text: str, at: int) -> None:
        shown = "".join(character if character.isprintable() else " " for character in text)
        start = max(0, at - 60)
        line, caret = shown[start : at + 40], " " * (at - start) + "^"
        super().__init__(f"Query, character {at + 1}: {said}.\n  {line}\n  {caret}")
        self.said, self.at = said, at


@dataclass(frozen=True)
class Moment:
    """A time, or a whole day, which is all the times from its start to before its end."""

    start: datetime
    """UTC."""
    end: datetime
    """UTC; equal to start for an instant."""


Value = str | Decimal | bool | Moment


@dataclass(frozen=True)
class Reference:
    """A field as a query names it."""

    path: tuple[str, ...]
    """`scan` for each step inwards, then the field, then its parts."""
    field: Field
    """What it is."""

    @property
    def name(self) -> str:
        """As it was written."""
        return ".".join(self.path)


@dataclass(frozen=True)
class Comparison:
    """One condition on one field."""

    reference: Reference
    operator: str
    """`=`, `!=`, `<`, `<=`, `>`, `>=`, `~` (text with `*` for anything), `in` or `set`."""
    values: tuple[Value, ...] = ()
    """One, those of `in`, or none for `set`."""


@dataclass(frozen=True)
class Not:
    """Holds where its part does not."""

    part: Filter


@dataclass(frozen=True)
class AllOf:
    """Holds where every part does."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class AnyOf:
    """Holds where one part does."""

    parts: tuple[Filter, ...]


Filter = Comparison | Not | AllOf | AnyOf


@dataclass(frozen=True)
class _Token:
    kind: str
    """word, text, operator, mark, dot or end."""
    text: str
    """What stands there; of a text what is between its quotes."""
    at: int

    @property
    def keyword(self) -> str:
        """A keyword in lower case, or nothing."""
        word = self.text.lower()
        return word if self.kind == "word" and word in _KEYWORDS else ""

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else f'"{self.text}"'


def parse(text: str, subject: Subject) -> Filter:
    """Read a query about `subject`.

    Raises:
        QueryWrong: it is none, or asks for something that there is not; the message points at the character.
    """
    if len(text) > MAX_CHARACTERS:
        raise QueryWrong(f"a query has at most {MAX_CHARACTERS} characters, this one {len(text)}", text, MAX_CHARACTERS)
    if (found := _UNSTORABLE.search(text)) is not None:
        raise QueryWrong("a query cannot hold a null character or half a character", text, found.start())
    return _Parser(text, subject).whole()


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            said = (
                'a text has no end; it needs another "' if text[at] == '"' else f"{text[at]!r} belongs nowhere; put values in double quotes"
            )
            raise QueryWrong(said, text, at)
        kind = str(found.lastgroup)
        if kind == "text":
            yield _Token(kind, re.sub(r"\\(.)", r"\1", found[0][1:-1]), at)
        elif kind != "space":
            yield _Token(kind, found[0], at)
        at = found.end()
    yield _Token("end", "", len(text))


class _Parser:
    """Recursive descent over the tokens of one query."""

    def __init__(self, text: str, subject: Subject) -> None:
        self._text, self._subject = text, subject
        self._source = _tokens(text)
        self._token = next(self._source)
        self._depth = self._comparisons = 0

    def _take(self) -> _Token:
        token = self._token
        if token.kind != "end":
            self._token = next(self._source)
        return token

    def _wrong(self, said: str, token: _Token | None = None) -> QueryWrong:
        return QueryWrong(said, self._text, (token or self._token).at)

    def _expect(self, mark: str) -> None:
        if (self._token.kind, self._token.text) != ("mark", mark):
            raise self._wrong(f'expected "{mark}", found {self._token}')
        self._take()

    def whole(self) -> Filter:
        if self._token.kind == "end":
            raise self._wrong("it is empty; a query is at least one comparison, such as state = validated")
        found = self._query()
        if self._token.kind != "end":
            raise self._wrong(f'expected "and", "or" or the end, found {self._token}')
        return found

    def _query(self) -> Filter:
        parts = [self._conjunction()]
        while self._token.keyword == "or":
            self._take()
            parts.append(self._conjunction())
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def _conjunction(self) -> Filter:
        parts = [self._negation()]
        while self._token.keyword == "and":
            self._take()
            parts.append(self._negation())
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def _negation(self) -> Filter:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._wrong(f"more than {MAX_DEPTH} parentheses or negations in each other")
        try:
            if self._token.keyword == "not":
                self._take()
                return Not(self._negation())
            if (self._token.kind, self._token.text) == ("mark", "("):
                self._take()
                found = self._query()
                self._expect(")")
                return found
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Filter:
        start = self._token
        self._comparisons += 1
        if self._comparisons > MAX_COMPARISONS:
            raise self._wrong(f"more than {MAX_COMPARISONS} comparisons; use in, or give what you look for a tag")
        reference = self._reference()
        field, token = reference.field, self._take()
        if token.keyword == "is":
            is_negated = self._take_keyword("not")
            if self._token.text.lower() != "set":
                raise self._wrong(f'expected "set" or "not set", found {self._token}')
            self._take()
            if not (field.is_optional or field.is_set):
                raise self._wrong(f"{reference.name} is always set", start)
            found: Filter = Comparison(reference, "set")
            return Not(found) if is_negated else found
        if token.keyword == "not":
            if self._token.keyword != "in":
                raise self._wrong(f'expected "in" after "not", found {self._token}')
            self._take()
            return Not(self._among(reference))
        if token.keyword == "in":
            return self._among(reference)
        if token.kind != "operator":
            raise self._wrong(f"expected one of {' '.join(_OPERATORS[field.kind])} in is, found {token}", token)
        if token.text not in _OPERATORS[field.kind]:
            raise self._wrong(f"{reference.name} is {field.kind.value}, which {token.text} does not compare", token)
        value = self._value(reference, token.text)
        if token.text == "!=":
            return Not(Comparison(reference, "=", (value,)))
        return Comparison(reference, token.text, (value,))

    def _take_keyword(self, word: str) -> bool:
        if self._token.keyword != word:
            return False
        self._take()
        return True

    def _among(self, reference: Reference) -> Comparison:
        self._expect("(")
        values = [self._value(reference, "in")]
        while (self._token.kind, self._token.text) == ("mark", ","):
            self._take()
            values.append(self._value(reference, "in"))
            if len(values) > MAX_VALUES:
                raise self._wrong(f"more than {MAX_VALUES} values; give them a tag and ask for that")
        self._expect(")")
        return Comparison(reference, "in", tuple(values))

    def _reference(self) -> Reference:
        token = self._take()
        if token.kind != "word" or token.keyword:
            raise self._wrong(f"expected a field of a {self._subject.name}, found {token}", token)
        path = token.text.split(".")
        while self._token.kind == "dot":
            self._take()
            part = self._take()
            if part.kind not in ("word", "text"):
                raise self._wrong(f'expected a name after ".", found {part}', part)
            path += [part.text] if part.kind == "text" else part.text.split(".")
        subject, steps = self._subject, 0
        while subject.inner is not None and path[steps] == subject.inner[0] and len(path) > steps + 1:
            subject, steps = subject.inner[1], steps + 1
        name = path[steps]
        field = subject.fields.get(name)
        if field is None:
            raise self._wrong(f"a {subject.name} has no field {name!r}{_meant(name, self._names())}", token)
        parts = path[steps + 1 :]
        if len(parts) != len(field.parts):
            wanted = field.written(name)
            raise self._wrong(f"expected {wanted}, found {'.'.join(path[steps:])}", token)
        if field.parts and field.choices and parts[-1] not in field.choices:
            raise self._wrong(f"there is no {field.parts[-1]} {parts[-1]!r}{_meant(parts[-1], field.choices)}", token)
        return Reference(tuple(path), field)

    def _names(self) -> list[str]:
        return [*self._subject.fields, *(self._subject.inner[1].fields if self._subject.inner else ())]

    def _value(self, reference: Reference, operator: str) -> Value:
        token = self._take()
        if token.kind not in ("word", "text") or token.keyword:
            hint = "; put it in double quotes" if token.keyword else ""
            raise self._wrong(f"expected a value for {reference.name}, found {token}{hint}", token)
        field = reference.field
        kind = field.kind
        if kind is Kind.OPEN:
            kind = _open_kind(token)
            if (operator == "~" and kind is not Kind.TEXT) or (operator in _ORDER and kind is not Kind.NUMBER):
                wanted = "text in double quotes" if operator == "~" else "a number"
                raise self._wrong(f"{operator} wants {wanted}, found {token}", token)
        if kind is Kind.TEXT:
            if field.choices and operator != "~" and token.text not in field.choices:
                raise self._wrong(f"{reference.name} is one of {', '.join(field.choices)}; found {token.text!r}", token)
            return token.text
        if kind is Kind.NUMBER:
            number = Decimal(token.text) if token.kind == "word" and _NUMBER.fullmatch(token.text) else None
            if number is None or abs(number) > _LARGEST:
                raise self._wrong(f"{reference.name} is a number; found {token}", token)
            return number
        if kind is Kind.TRUTH:
            if token.text.lower() not in ("true", "false"):
                raise self._wrong(f"{reference.name} is true or false; found {token}", token)
            return token.text.lower() == "true"
        return self._moment(reference, token)

    def _moment(self, reference: Reference, token: _Token) -> Moment:
        try:
            if _DAY.fullmatch(token.text):
                day = datetime.combine(date.fromisoformat(token.text), datetime.min.time(), UTC)
                return Moment(day, day + timedelta(days=1) if day.date() < date.max else datetime.max.replace(tzinfo=UTC))
            if not _INSTANT.fullmatch(token.text):
                raise ValueError
            at = datetime.fromisoformat(token.text)
            at = (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            shown = "2026-03-01 or 2026-03-01T12:30:00Z"
            raise self._wrong(f"{reference.name} is a time, such as {shown}; found {token}", token) from None
        return Moment(at, at)


def _open_kind(token: _Token) -> Kind:
    if token.kind == "word" and token.text.lower() in ("true", "false"):
        return Kind.TRUTH
    return Kind.NUMBER if token.kind == "word" and _NUMBER.fullmatch(token.text) else Kind.TEXT


def _meant(name: str, known: list[str] | tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {close[0]}" if close else f"; there are {', '.join(sorted(known))}"
