"""The page's web application, mounted into Airflow's. Who may read DAGs may read it; it changes nothing."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from scanloop_plugin.page.render import SECURITY_HEADERS, render_message, render_overview, render_search

if TYPE_CHECKING:
    from scanloop.catalog import Catalog


def build_page() -> FastAPI:
    """The application. Airflow mounts it."""
    from airflow.api_fastapi.core_api.security import requires_access_dag

    page = FastAPI(title="Scanloop", docs_url=None, redoc_url=None, openapi_url=None)
    page.add_exception_handler(HTTPException, _ask_to_log_in)  # type: ignore[arg-type]

    @page.get("/", response_class=HTMLResponse, dependencies=[Depends(requires_access_dag(method="GET"))])
    def overview() -> HTMLResponse:
        """The loop of every product line at a glance."""
        status, content = overview_html(os.environ.get("SCANLOOP_DATABASE_URL", ""))
        return HTMLResponse(content, status_code=status, headers=SECURITY_HEADERS)

    @page.get("/search", response_class=HTMLResponse, dependencies=[Depends(requires_access_dag(method="GET"))])
    def search(q: str = "", about: Literal["scan", "annotation"] = "scan") -> HTMLResponse:
        """What a query finds; see docs/queries.md."""
        status, content = search_html(os.environ.get("SCANLOOP_DATABASE_URL", ""), about, q)
        return HTMLResponse(content, status_code=status, headers=SECURITY_HEADERS)

    return page


async def _ask_to_log_in(request: Request, error: HTTPException) -> Response:
    """A person without a session is sent to Airflow's login and comes back; a program gets the error."""
    if error.status_code == 401 and "text/html" in request.headers.get("accept", ""):
        return RedirectResponse(f"../api/v2/auth/login?next={quote(str(request.url), safe='')}", headers=SECURITY_HEADERS)
    return await http_exception_handler(request, error)


_NO_DATABASE = "This page reads the catalog, and SCANLOOP_DATABASE_URL is not set for Airflow's web server."


def search_html(database_url: str, about: str, query: str) -> tuple[int, str]:
    """HTTP status and HTML of a search."""
    from scanloop.errors import ScanloopError
    from scanloop_plugin.page.search import search_view

    if not database_url:
        return 503, render_message(_NO_DATABASE)
    try:
        view = search_view(_catalog(database_url, "search"), about, query)
    except ScanloopError as error:
        return 503, render_message(error.message)
    return 400 if view.wrong else 200, render_search(view)


@cache
def _catalog(url: str, use: str = "overview") -> Catalog:
    """A catalog with connections of its own for each use: searches that take long do not keep the overview waiting."""
    from scanloop.catalog import Catalog

    return Catalog(url)


def overview_html(database_url: str) -> tuple[int, str]:
    """HTTP status and HTML of the overview."""
    from airflow.utils.session import create_session

    from scanloop.errors import ScanloopError
    from scanloop_plugin.page.facts import read_facts
    from scanloop_plugin.page.runs import read_runs
    from scanloop_plugin.page.view import page_view

    if not database_url:
        return 503, render_message(_NO_DATABASE)
    try:
        facts = read_facts(_catalog(database_url))
    except ScanloopError as error:
        return 503, render_message(error.message)
    with create_session() as session:
        runs = read_runs(session)
    return 200, render_overview(page_view(facts, runs))
