"""The page as HTML. Everything from outside is escaped; nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from scanloop_plugin.page.search import SearchView
from scanloop_plugin.page.view import PageView

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
_SCRIPT = base64.b64encode(hashlib.sha256((TEMPLATES / "navigate.js").read_bytes().rstrip(b"\n")).digest()).decode()
SECURITY_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{_SCRIPT}'; "
    "frame-ancestors 'self'; base-uri 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""One known script, no request to anywhere, shown only within Airflow."""


@cache
def _templates() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def render_overview(view: PageView) -> str:
    """The loop of every product line."""
    return _templates().get_template("overview.html").render(view=view)


def render_search(view: SearchView) -> str:
    """A search and what it found."""
    return _templates().get_template("search.html").render(view=view)


def render_message(sentence: str) -> str:
    """One sentence instead of the page."""
    return _templates().get_template("message.html").render(sentence=sentence)
