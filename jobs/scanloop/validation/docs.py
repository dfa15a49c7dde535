"""Data Docs as pages that need nothing from elsewhere.

Great Expectations renders pages that load style sheets, scripts, pictures and a newsletter form from six hosts. A page about scans must open without
a network and tell nobody that it was opened, so those parts and everything that works only through them are left out, and a small style sheet and an
index of our own stand in. Remove this when its templates can be told to work offline (great_expectations/render/view/templates).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path, PurePosixPath

from scanloop.validation.arrivals import ArrivalFinding
from scanloop.validation.charts import STYLE as CHART_STYLE

_STYLE = """<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: .5rem 0 }
td, th { border: 1px solid #d4dae3; padding: .25rem .6rem; text-align: left; vertical-align: top }
h1, h2, h3, h4, h5 { line-height: 1.2 }
.fa-check-circle::before, .passed::before { content: "✔"; color: #1a7f4b }
.fa-times::before, .failed::before { content: "✘"; color: #b3261e }
nav, footer, .card, a[data-toggle], .modal, .cooltip-content { display: none }
.card.collapse { display: block }
</style>"""
_REMOTE = (
    re.compile(r"<script\b.*?</script>", re.IGNORECASE | re.DOTALL),
    re.compile(r"<iframe\b.*?</iframe>", re.IGNORECASE | re.DOTALL),
    re.compile(r"<link\b[^>]*>", re.IGNORECASE),
    re.compile(r"<img\b[^>]*\bsrc=[\"']https?:[^>]*>", re.IGNORECASE),
    re.compile(r"xmlns(?::\w+)?=\"https?://[^\"]+\""),
)
_URL = re.compile(r"https?://[^\s\"'<>)]+", re.IGNORECASE)
_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_LOAD_TIME = re.compile(r"(?<=>)\d{8}T\d{6}\.\d{6}Z(?=<)")
_INDEX = "index.html"
_MARKS = {"regular": "steady", "new": "new", "gone": "new"}
"""State of arrivals to how it is marked; whatever else there is stands out."""
_OWN_STYLE = f"""<style>
.drifted {{ color: #b3261e }} .steady {{ color: #1a7f4b }} .new {{ color: #8a5a00 }}
td.drifted::before {{ content: "✘" }} td.steady::before {{ content: "✔" }} td.new::before {{ content: "○" }}
th {{ background: #f5f7fa; font-weight: 600 }}
.reason {{ border-left: 4px solid #b3261e; background: #fdf2f1; padding: .6rem 1rem; overflow-wrap: anywhere }}
.charts {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(22rem, 1fr)); gap: 1rem }}
figure {{ margin: 0; border: 1px solid #e4e8ef; border-radius: 6px; padding: .5rem .75rem }}
figcaption {{ font-weight: 600; font-size: 13px }}
.legend i {{ display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin: 0 .35em 0 1em }} .legend i::before {{ content: none }}
i.past {{ background: #9aa6b8 }} i.reference {{ background: #5b7aa8 }} i.held {{ background: #b3261e }} i.passed {{ background: #1a7f4b }}
i.new {{ background: #8a5a00 }}
{CHART_STYLE}</style>"""


@dataclass(frozen=True)
class SuiteEntry:
    """One result in an index."""

    suite: str
    """Suite and version."""
    href: str
    """Its page, from where the index is."""
    checked: int
    """Scans, or rows of machines, that were checked."""
    failed: int
    """Of them, those that failed a check that holds back."""
    names: tuple[str, ...]
    """Failed checks that hold back."""
    warned: tuple[str, ...]
    """Failed checks that are only told."""


@dataclass(frozen=True)
class MachineEntry:
    """One machine in an index."""

    scanner_id: str
    """The machine."""
    href: str
    """Its page, from where the index is."""
    state: str
    """steady, drifted or new."""
    until: str
    """When its last judged scan was made."""
    names: tuple[str, ...]
    """Failed checks because of which its scans are held."""


def offline_page(page: str) -> str:
    """A rendered page without any reference to another host, and the same whenever it is rendered: random ids are numbered, load times left out."""
    for pattern in _REMOTE:
        page = pattern.sub("", page)
    page = _LOAD_TIME.sub("", _URL.sub("#", page))
    ids = {found: f"id-{number}" for number, found in enumerate(dict.fromkeys(_UUID.findall(page)))}
    page = _UUID.sub(lambda found: ids[found[0]], page)
    return page.replace("</head>", f"{_STYLE}\n</head>", 1)


def offline_pages(docs_folder: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Every rendered page below `docs_folder` but the index, in order, with its path relative to it."""
    for path in sorted(docs_folder.rglob("*.html")):
        relative = PurePosixPath(path.relative_to(docs_folder))
        if relative.parts[0] != "static" and str(relative) != _INDEX:
            yield relative, offline_page(path.read_text(encoding="utf-8")).encode()


def page(title: str, body: str) -> bytes:
    """A whole page of our own. `body` is HTML, the title is not."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>{_STYLE}{_OWN_STYLE}'
    return f'<!DOCTYPE html><html lang="en"><head>{head}</head><body><h1>{escape(title)}</h1>{body}</body></html>\n'.encode()


def suites_table(entries: Iterable[SuiteEntry]) -> str:
    """A table that links the page of each result."""
    rows = "".join(
        f'<tr><td class="{"failed" if one.failed else "passed"}"></td><td><a href="{escape(one.href)}">{escape(one.suite)}</a></td>'
        f"<td>{one.checked}</td><td>{one.failed}</td><td>{escape(', '.join(one.names))}</td><td>{escape(', '.join(one.warned))}</td></tr>"
        for one in entries
    )
    return f"<table><tr><th></th><th>suite</th><th>checked</th><th>failed</th><th>failed checks</th><th>warnings</th></tr>{rows}</table>"


def machines_table(entries: Iterable[MachineEntry]) -> str:
    """A table that links the page of each machine."""
    rows = "".join(
        f'<tr><td class="{one.state}"></td><td><a href="{escape(one.href)}">{escape(one.scanner_id)}</a></td><td>{escape(one.state)}</td>'
        f"<td>{escape(one.until)}</td><td>{escape(', '.join(one.names))}</td></tr>"
        for one in entries
    )
    return f"<table><tr><th></th><th>scanner</th><th>state</th><th>last judged scan</th><th>failed checks</th></tr>{rows}</table>"


def arrivals_table(findings: Iterable[ArrivalFinding]) -> str:
    """A table of what each scanner delivered and usually delivers."""
    rows = "".join(
        f'<tr><td class="{_MARKS.get(one.state, "drifted")}"></td><td>{escape(one.scanner_id)}</td><td>{escape(one.state)}</td>'
        f"<td>{one.last_at:%Y-%m-%d %H:%M}</td><td>{one.observed}</td><td>{'' if one.expected is None else f'{one.expected:.1f}'}</td>"
        f"<td>{one.window_h:g} h</td><td>{'' if one.rate_a_day is None else f'{one.rate_a_day:.0f}'}</td><td>{escape(one.basis)}</td></tr>"
        for one in findings
    )
    heads = ("", "scanner", "state", "last scan", "came", "expected", "within", "usual a day", "learned from")
    return f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>{rows}</table>"
