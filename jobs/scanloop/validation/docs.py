"""Data Docs as pages that need nothing from elsewhere.

Great Expectations renders pages that load style sheets, scripts, pictures and a newsletter form from six hosts. A page about scans must open without
a network and tell nobody that it was opened, so those parts are left out and a small style sheet stands in. Remove this when its templates can be
told to work offline (great_expectations/render/view/templates).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_STYLE = """<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: .5rem 0 }
td, th { border: 1px solid #d4dae3; padding: .25rem .6rem; text-align: left; vertical-align: top }
h1, h2, h3, h4, h5 { line-height: 1.2 } .fa-check-circle::before { content: "✔"; color: #1a7f4b } .fa-times::before { content: "✘"; color: #b3261e }
nav, footer, .modal, .cooltip-content, #ge-cta-footer, .cta-footer, .ge-index-page-validation-results-pane-title__text--hidden { display: none }
</style>"""
_REMOTE = (
    re.compile(r"<script\b[^>]*\bsrc=[\"']https?:[^>]*>\s*</script>", re.IGNORECASE),
    re.compile(r"<link\b[^>]*\bhref=[\"']https?:[^>]*>", re.IGNORECASE),
    re.compile(r"<img\b[^>]*\bsrc=[\"']https?:[^>]*>", re.IGNORECASE),
    re.compile(r"<iframe\b.*?</iframe>", re.IGNORECASE | re.DOTALL),
    re.compile(r"<link\b[^>]*static/images/[^>]*>", re.IGNORECASE),
)
_URL = re.compile(r"https?://[^\s\"'<>)]+", re.IGNORECASE)
_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_LOAD_TIME = re.compile(r"(?<=>)\d{8}T\d{6}\.\d{6}Z(?=<)")
_XMLNS = re.compile(r"xmlns(?::\w+)?=\"https?://[^\"]+\"")


def offline_page(page: str) -> str:
    """A rendered page without any reference to another host, and the same whenever it is rendered: random ids are numbered, load times left out."""
    for pattern in (*_REMOTE, _XMLNS):
        page = pattern.sub("", page)
    page = _LOAD_TIME.sub("", _URL.sub("#", page))
    ids = {found: f"id-{number}" for number, found in enumerate(dict.fromkeys(_UUID.findall(page)))}
    page = _UUID.sub(lambda found: ids[found[0]], page)
    return page.replace("</head>", f"{_STYLE}\n</head>", 1)


def offline_pages(docs_folder: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Every page below `docs_folder`, in order, with its path relative to it."""
    for path in sorted(docs_folder.rglob("*.html")):
        if "static" not in path.relative_to(docs_folder).parts[:1]:
            yield PurePosixPath(path.relative_to(docs_folder)), offline_page(path.read_text(encoding="utf-8")).encode()
