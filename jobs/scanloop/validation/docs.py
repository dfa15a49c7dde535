"""Data Docs as pages that need nothing from elsewhere.

Great Expectations renders pages that load style sheets, scripts, pictures and a newsletter form from six hosts. A page about scans must open without
a network and tell nobody that it was opened, so those parts and everything that works only through them are left out, and a small style sheet and an
index of our own stand in. Remove this when its templates can be told to work offline (great_expectations/render/view/templates).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path, PurePosixPath

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


def index_page(title: str, entries: Iterable[tuple[str, str, int, int]]) -> tuple[PurePosixPath, bytes]:
    """The page that links the others. An entry is suite, path of its page, scans checked and scans failed."""
    rows = "".join(
        f'<tr><td class="{"failed" if failed else "passed"}"></td><td><a href="{escape(path)}">{escape(suite)}</a></td>'
        f"<td>{scans}</td><td>{failed}</td></tr>"
        for suite, path, scans, failed in entries
    )
    head = f'<meta charset="utf-8"><title>{escape(title)}</title>{_STYLE}'
    table = f"<table><tr><th></th><th>suite</th><th>scans checked</th><th>scans failed</th></tr>{rows}</table>"
    return PurePosixPath(
        _INDEX
    ), f'<!DOCTYPE html><html lang="en"><head>{head}</head><body><h1>{escape(title)}</h1>{table}</body></html>\n'.encode()
