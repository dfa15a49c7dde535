"""The Scanloop page, on a real catalog and a real Airflow database."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import airflow_here
import page_world
import pytest
import sqlalchemy as sa

if TYPE_CHECKING:
    from scanloop_plugin.page.facts import Facts
    from scanloop_plugin.page.runs import RunFacts

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.fixture
def facts(catalog) -> Facts:
    """A loop in full swing."""
    from scanloop_plugin.page.facts import read_facts

    page_world.fill(catalog.engine)
    return read_facts(catalog)


@pytest.fixture
def airflow_session(make_database) -> Iterator[Any]:
    """A session on a database with Airflow's own tables."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from airflow.models import import_all_models
        from airflow.models.base import Base
        from sqlalchemy.orm import Session

        import_all_models()
    engine = sa.create_engine(make_database().replace("postgresql://", "postgresql+psycopg://"))
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        yield session
    engine.dispose()


def _add_run(session: Any, dag_id: str, run_id: str, state: str, *, key: str | None = None, minutes: int = 0) -> None:
    table = sa.table(
        "dag_run",
        *(
            sa.column(name)
            for name in ("dag_id", "run_id", "state", "run_type", "partition_key", "run_after", "start_date", "clear_number")
        ),
    )
    when = NOW + timedelta(minutes=minutes)
    session.execute(
        sa.insert(table).values(
            dag_id=dag_id, run_id=run_id, state=state, run_type="manual", partition_key=key, run_after=when, start_date=when, clear_number=0
        )
    )


class _Seen(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def _rendered(facts: Facts, runs: tuple[RunFacts, ...] = ()) -> _Seen:
    from scanloop_plugin.page.render import render_overview
    from scanloop_plugin.page.view import page_view

    return _Seen(render_overview(page_view(facts, runs)))


def _line(facts: Facts, key: str, runs: tuple[RunFacts, ...] = ()):
    from scanloop_plugin.page.view import page_view

    (line,) = (line for line in page_view(facts, runs).lines if line.key == key)
    return line


class TestFacts:
    def test_intake_is_counted(self, facts) -> None:
        assert facts.intake.scans == {"validated": 26, "quarantined": 2, "received": 2}
        assert facts.intake.deliveries == {"scan": 25, "duplicate": 5}
        assert facts.intake.held == {"truncated": 2, "not_an_image": 1}

    def test_every_product_line_is_there(self, facts) -> None:
        assert [line.status.product_line for line in facts.lines] == ["cabin_baggage", "hold_baggage", "parcels"]

    def test_numbers_are_those_of_the_champion(self, facts) -> None:
        assert facts.lines[0].champion["ap50"] == 0.71

    def test_newest_decision_and_release(self, facts) -> None:
        cabin, hold, parcels = facts.lines
        assert (cabin.decision["verdict"], cabin.release["state"], cabin.devices) == ("promote", "released", 1)
        assert (hold.decision["verdict"], hold.release["state"], hold.devices) == ("insufficient_evidence", "requested", 0)
        assert (parcels.decision, parcels.release, parcels.champion) == (None, None, None)

    def test_an_empty_catalog_has_no_lines(self, catalog) -> None:
        from scanloop_plugin.page.facts import read_facts

        empty = read_facts(catalog)
        assert empty.lines == ()
        assert "No product line yet" in _rendered(empty).text


class TestRuns:
    def test_newest_run_of_each_dag_and_product_line(self, airflow_session) -> None:
        from scanloop_plugin.page.runs import read_runs

        _add_run(airflow_session, "train_detector", "old", "failed", key="a")
        _add_run(airflow_session, "train_detector", "new+:/", "success", key="a", minutes=5)
        _add_run(airflow_session, "train_detector", "other", "running", key="b")
        _add_run(airflow_session, "ingest_scans", "clock", "queued")
        _add_run(airflow_session, "somebody_elses", "x", "failed")
        found = {(run.dag_id, run.product_line): (run.run_id, run.state) for run in read_runs(airflow_session)}
        assert found == {
            ("train_detector", "a"): ("new+:/", "success"),
            ("train_detector", "b"): ("other", "running"),
            ("ingest_scans", None): ("clock", "queued"),
        }

    def test_link_leads_to_the_run(self) -> None:
        from scanloop_plugin.page.runs import RunFacts

        assert RunFacts("train_detector", "a", "new+:/", "success", None).path == "../dags/train_detector/runs/new%2B%3A%2F"


class TestView:
    @pytest.mark.parametrize(
        ("state", "sentence"), [("failed", "train_detector failed"), ("waiting", "train_detector waits for an approval")]
    )
    def test_what_is_stuck_is_said(self, facts, state: str, sentence: str) -> None:
        from scanloop_plugin.page.runs import RunFacts

        run = RunFacts("train_detector", "cabin_baggage", "r", state, NOW)
        assert _line(facts, "cabin_baggage", (run,)).stuck == (sentence,)
        assert _line(facts, "parcels", (run,)).stuck == ()

    def test_a_release_the_signer_does_not_answer_is_stuck(self, facts) -> None:
        (sentence,) = _line(facts, "hold_baggage").stuck
        assert sentence.startswith("release 1 waits for the signer")

    def test_a_fresh_request_is_not_stuck(self, facts) -> None:
        hold = facts.lines[1]
        fresh = replace(hold, release={**hold.release, "created_at": facts.read_at})
        assert _line(replace(facts, lines=(fresh,)), "hold_baggage").stuck == ()

    def test_a_refusal_is_stuck_and_says_why(self, facts) -> None:
        hold = facts.lines[1]
        refused = replace(hold, release={**hold.release, "state": "refused", "reason": "no approval"})
        assert _line(replace(facts, lines=(refused,)), "hold_baggage").stuck == ("release 1 was refused: no approval",)

    def test_steps_not_reached_are_marked(self, facts) -> None:
        assert [step.is_reached for step in _line(facts, "parcels").steps] == [True, False, False, False, False, False, False]
        assert [step.is_reached for step in _line(facts, "hold_baggage").steps] == [True, True, True, True, True, True, False]


class TestHtml:
    def test_shows_every_step_and_number(self, facts) -> None:
        text = _rendered(facts).text
        for words in (
            "Cabin baggage at the checkpoint",
            "AP50 0.71 · Pd 0.93 · Pfa 0.08",
            "released on stable, 1 device",
            "insufficient evidence",
            "truncated: 2",
        ):
            assert words in text

    def test_escapes_what_came_from_outside(self, facts) -> None:
        seen = _rendered(facts)
        assert seen.text.count(page_world.NASTY) == 3, "shown as text, once as a title and twice as a reason"
        assert [tag for tag, _ in seen.tags].count("script") == 1, "the page's own"

    def test_loads_nothing_from_elsewhere(self, facts) -> None:
        for tag, attributes in _rendered(facts).tags:
            assert tag not in ("img", "link", "iframe", "form", "object", "embed"), tag
            assert "src" not in attributes
            assert not [name for name in attributes if name.startswith("on")]

    def test_its_one_script_is_the_one_that_the_policy_names(self, facts) -> None:
        import base64
        import hashlib

        from scanloop_plugin.page.render import SECURITY_HEADERS, render_overview
        from scanloop_plugin.page.view import page_view

        html = render_overview(page_view(facts, ()))
        script = html.split("<script>")[1].split("</script>")[0]
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'" in SECURITY_HEADERS["Content-Security-Policy"]


class TestSearch:
    @pytest.fixture
    def url(self, catalog) -> str:
        page_world.fill(catalog.engine)
        with catalog.begin() as connection:
            mark = {"subject": "scan", "subject_id": f"{3:064x}", "kind": "tag", "is_set": True, "run_id": "r"}
            connection.execute(sa.text("INSERT INTO marks (subject, subject_id, kind, name, is_set, run_id) VALUES "
                                       "(:subject, :subject_id, :kind, 'odd', :is_set, :run_id)"), mark)  # fmt: skip
        return catalog.url.render_as_string(hide_password=False)

    @staticmethod
    def _searched(url: str, query: str, about: str = "scan") -> tuple[int, _Seen]:
        from scanloop_plugin.page.app import search_html

        status, html = search_html(url, about, query)
        return status, _Seen(html)

    def test_it_shows_what_is_found_and_how_much(self, url) -> None:
        status, seen = self._searched(url, "state = validated")
        assert status == 200
        assert "26 scans." in seen.text
        assert len([tag for tag, _ in seen.tags if tag == "tr"]) > 26
        status, seen = self._searched(url, "tag = odd")
        assert "1 scan." in seen.text
        assert [attributes["title"] for tag, attributes in seen.tags if tag == "td" and "title" in attributes] == [f"{3:064x}"]

    def test_it_points_at_what_is_wrong(self, url) -> None:
        status, seen = self._searched(url, f"state = validated and {page_world.NASTY} = 1")
        assert status == 400
        assert "Character 23: " in seen.text
        assert "state = validated and <script>alert(1)</script> = 1" in seen.text.replace("\n", "")
        assert not [tag for tag, _ in seen.tags if tag == "script"][1:]

    def test_without_a_query_it_says_what_can_be_asked(self, url) -> None:
        for about in ("scan", "annotation"):
            status, seen = self._searched(url, "  ", about)
            assert status == 200
            assert "statistics.PLANE.FIGURE" in seen.text
            assert f"What can be asked about {'a scan' if about == 'scan' else 'an annotation'}" in seen.text

    def test_a_query_that_takes_too_long_is_told(self, url, monkeypatch) -> None:
        from scanloop.query import search as room

        def slow(*_arguments: object, **_options: object) -> None:
            with room.searching(*_arguments[:1], 0.01) as connection:  # type: ignore[arg-type]
                connection.execute(sa.text("SELECT pg_sleep(5)"))

        monkeypatch.setattr(room, "search", slow)
        status, seen = self._searched(url, "state = validated")
        assert status == 400
        assert "took longer than 0.01 s" in seen.text

    def test_its_examples_are_queries(self) -> None:
        from scanloop.query.fields import SUBJECTS
        from scanloop.query.language import parse
        from scanloop_plugin.page.search import EXAMPLES

        for subject, queries in EXAMPLES.items():
            for query in queries:
                parse(query, SUBJECTS[subject])

    def test_a_catalog_that_is_away_is_one_sentence(self) -> None:
        status, seen = self._searched("postgresql://u:secret@127.0.0.1:1/none", "state = validated")
        assert status == 503
        assert "is not available" in seen.text
        assert "secret" not in seen.text


@pytest.fixture(scope="module")
def client():
    """The page behind Airflow's own login."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from airflow import settings
        from airflow.api_fastapi.app import create_auth_manager
        from airflow.models.revoked_token import RevokedToken
        from fastapi.testclient import TestClient

        from scanloop_plugin.plugin import ScanloopPlugin

        RevokedToken.__table__.create(settings.engine)  # where Airflow looks whether a login was ended
        create_auth_manager()
        (mounted,) = ScanloopPlugin().fastapi_apps
        return TestClient(mounted["app"], follow_redirects=False)


class TestAccess:
    @staticmethod
    def _token(role: str, lives_s: int = 60) -> str:
        from airflow.api_fastapi.app import get_auth_manager
        from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

        return get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="u", role=role, teams=[]), expiration_time_in_seconds=lives_s)

    def test_nobody_gets_in_without_a_login(self, client) -> None:
        assert client.get("/").status_code == 401

    def test_a_browser_is_sent_to_the_login_and_back(self, client) -> None:
        answer = client.get("/", headers={"Accept": "text/html"})
        assert answer.status_code == 307
        assert answer.headers["location"] == "../api/v2/auth/login?next=http%3A%2F%2Ftestserver%2F"

    def test_a_forged_token_is_refused(self, client) -> None:
        assert client.get("/", headers={"Authorization": "Bearer abc.def.ghi"}).status_code == 403

    def test_an_old_login_has_ended(self, client) -> None:
        assert client.get("/", headers={"Authorization": f"Bearer {self._token('VIEWER', lives_s=-60)}"}).status_code == 401

    @pytest.mark.parametrize("how", ["header", "cookie"])
    def test_a_viewer_may_look(self, client, how: str) -> None:
        token = self._token("VIEWER")
        given = {"headers": {"Authorization": f"Bearer {token}"}} if how == "header" else {"headers": {"Cookie": f"_token={token}"}}
        answer = client.get("/", **given)
        assert answer.status_code == 503
        assert "SCANLOOP_DATABASE_URL is not set" in answer.text
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")

    @pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
    def test_nothing_can_be_changed(self, client, method: str) -> None:
        answer = getattr(client, method)("/", headers={"Authorization": f"Bearer {self._token('ADMIN')}"})
        assert answer.status_code == 405

    def test_search_wants_a_login_and_knows_two_things(self, client) -> None:
        assert client.get("/search?q=x").status_code == 401
        viewer = {"Authorization": f"Bearer {self._token('VIEWER')}"}
        answer = client.get("/search?q=state", headers=viewer)
        assert (answer.status_code, "SCANLOOP_DATABASE_URL is not set" in answer.text) == (503, True)
        assert "form-action 'self'" in answer.headers["content-security-policy"]
        assert client.get("/search?about=everything", headers=viewer).status_code == 422
        assert client.post("/search?q=x", headers=viewer).status_code == 405

    @pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/redoc"])
    def test_there_is_only_the_page(self, client, path: str) -> None:
        assert client.get(path).status_code == 404

    def test_a_catalog_that_is_away_is_one_sentence(self) -> None:
        from scanloop_plugin.page.app import overview_html

        status, html = overview_html("postgresql://u:secret@127.0.0.1:1/none")
        assert status == 503
        assert "is not available" in html
        assert "secret" not in html


def test_plugin_is_read_by_airflow() -> None:
    from airflow import plugins_manager

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plugins, errors = plugins_manager._get_plugins()
    assert errors == {}
    (ours,) = (plugin for plugin in plugins if plugin.name == "scanloop")
    (view,) = ours.external_views
    assert (view["href"], view["url_route"]) == ("/scanloop/", "scanloop")


def test_plugin_costs_other_processes_no_web_framework() -> None:
    import subprocess
    import sys

    program = (
        "import sys, airflow_here\nbefore = set(sys.modules)\nimport scanloop_plugin.plugin\n"
        "print([name for name in set(sys.modules) - before if name.startswith(('fastapi', 'jinja2', 'scanloop.'))])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=airflow_here.ROOT / "tests", capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
