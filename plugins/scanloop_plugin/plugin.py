"""What Airflow is told of Scanloop."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin

PAGE_PREFIX = "/scanloop"


class ScanloopPlugin(AirflowPlugin):
    """The Scanloop page, in Airflow's web server and in its navigation."""

    name = "scanloop"
    external_views: ClassVar[list[Any]] = [
        {
            "name": "Scanloop",
            "href": f"{PAGE_PREFIX}/",
            "destination": "nav",
            "url_route": "scanloop",
            "nav_top_level": True,
        }
    ]

    @cached_property
    def fastapi_apps(self) -> list[Any]:  # type: ignore[override]
        """The page. Built when the web server asks: every process loads plugins, and only that one needs a web framework."""
        from scanloop_plugin.page.app import build_page

        return [{"app": build_page(), "url_prefix": PAGE_PREFIX, "name": "Scanloop"}]
