"""What Airflow is told of Scanloop."""

from __future__ import annotations

from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin

from scanloop_plugin.page.app import PAGE_PREFIX, build_page


class ScanloopPlugin(AirflowPlugin):
    """The Scanloop page, in Airflow's web server and in its navigation."""

    name = "scanloop"
    fastapi_apps: ClassVar[list[Any]] = [{"app": build_page(), "url_prefix": PAGE_PREFIX, "name": "Scanloop"}]
    external_views: ClassVar[list[Any]] = [
        {
            "name": "Scanloop",
            "href": f"{PAGE_PREFIX}/",
            "destination": "nav",
            "url_route": "scanloop",
            "nav_top_level": True,
        }
    ]
