"""A world that is not as it should be: one clear sentence, the right exit code, no traceback, nothing changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from scanloop.catalog.canonical import canonical_lines
from scanloop.catalog.tables import runs
from scanloop.cli.options import World

ROOT = Path(__file__).resolve().parents[3]
SCANLOOP = str(Path(sys.executable).with_name("scanloop"))
DEFINITIONS = ["definitions", "apply", f"--folder={ROOT / 'product_lines'}", "--run-id=run-1"]
Ends = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def ends(environment: dict[str, str]) -> Ends:
    """Run `scanloop` and check that it ends with a code and one sentence: `ends(64, "said", "definitions", "apply", SCANLOOP_X="…")`."""

    def run(code: int, said: str, *arguments: str, through: tuple[str, ...] = (), **changes: str) -> subprocess.CompletedProcess[str]:
        command = [*through, SCANLOOP, *arguments]
        done = subprocess.run(command, env=environment | changes, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
        sentences = done.stderr.strip().splitlines()
        assert said in sentences[-1]
        assert len(sentences) == 1, sentences
        return done

    return run


def _nothing_happened(world: World) -> None:
    with world.catalog.read() as connection:
        assert connection.execute(sa.select(runs)).all() == []
    assert list(world.store.list("receipts/")) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--colour"], "No such option: --colour"),
        (["definitions", "apply", "--colour=red"], "No such option: --colour"),
        (["definitions", "aply"], "No such command 'aply'"),
        (["fly"], "No such command 'fly'"),
        (["definitions", "apply", "--attempt=0"], "--attempt"),
        (["audit", "show", "--limit", "many"], "--limit"),
        (["snapshot", "create"], "--product-line"),
    ],
)
def test_arguments_that_do_not_exist(ends: Ends, arguments: list[str], said: str) -> None:
    assert "--help" in ends(64, said, *arguments).stderr


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("STORE_URL", "ftp://x", "SCANLOOP_STORE_URL is not usable"),
        ("STORE_URL", "file://elsewhere/x", "Expected file:///absolute/folder"),
        ("STORE_URL", "s3://bucket/x?colour=red", "Unknown option 'colour' in the store URL"),
        ("DATABASE_URL", "mysql://x", "SCANLOOP_DATABASE_URL is not usable"),
        ("DATABASE_URL", "postgresql://u:secret@h:port/db", "SCANLOOP_DATABASE_URL is no PostgreSQL URL"),
        ("DATABASE_URL", "postgresql://u:secret@h/db?colour=red", 'invalid URI query parameter: "colour"'),
        ("RUNNER", "docker", "SCANLOOP_RUNNER is not usable"),
        ("CONSUMED_RUNS", "run-0", "SCANLOOP_CONSUMED_RUNS is not usable: expected a JSON list of run ids, found 'run-0'"),
        ("CONSUMED_RUNS", "[1]", "expected a JSON list of run ids"),
    ],
)
def test_settings_that_cannot_be_used(ends: Ends, world: World, name: str, value: str, said: str) -> None:
    assert "secret" not in ends(64, said, *DEFINITIONS, **{f"SCANLOOP_{name}": value}).stderr
    _nothing_happened(world)


def test_a_database_that_is_not_there(ends: Ends, world: World) -> None:
    url = "postgresql://me:secret@127.0.0.1:9/x"
    assert "secret" not in ends(75, "is not available", *DEFINITIONS, SCANLOOP_DATABASE_URL=url).stderr
    nowhere = world.catalog.url.set(drivername="postgresql", database="nowhere").render_as_string(hide_password=False)
    ends(75, 'database "nowhere" does not exist', *DEFINITIONS, SCANLOOP_DATABASE_URL=nowhere)
    _nothing_happened(world)


def test_a_database_of_a_newer_scanloop(ends: Ends, world: World) -> None:
    with world.catalog.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    for arguments in (DEFINITIONS, ["catalog", "migrate"], ["audit", "verify"]):
        ends(64, "The catalog is at revision 9999, newer than this Scanloop knows", *arguments)
    _nothing_happened(world)


def test_a_database_that_was_never_migrated(ends: Ends, world: World) -> None:
    with world.catalog.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE; CREATE SCHEMA public"))
    ends(75, "Run: scanloop catalog migrate", *DEFINITIONS)


def test_a_database_role_that_may_not_write(ends: Ends, world: World) -> None:
    name = f"reader_{os.getpid()}"
    admin = world.catalog.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")  # type: ignore[arg-type]
    try:
        url = world.catalog.url.set(drivername="postgresql", username=name).render_as_string(hide_password=False)
        ends(75, "permission denied for table", *DEFINITIONS, SCANLOOP_DATABASE_URL=url)
    finally:
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")  # type: ignore[arg-type]
    _nothing_happened(world)


def test_a_product_line_that_is_not_known(ends: Ends, world: World) -> None:
    ends(64, "Unknown product line 'boats'. Known: none; run: scanloop definitions apply.", "snapshot", "create", "--product-line=boats")
    _nothing_happened(world)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("product_line: [unclosed\n", "cabin.yaml is not valid YAML at line 2, column 1"),
        ("product_line: cabin\ncolour: red\n", "cabin.yaml: "),
    ],
)
def test_a_definition_that_is_malformed(ends: Ends, world: World, tmp_path: Path, text: str, said: str) -> None:
    shutil.copy(ROOT / "product_lines" / "taxonomy.yaml", tmp_path)
    (tmp_path / "cabin.yaml").write_text(text)
    for command in ("check", "apply"):
        ends(64, said, "definitions", command, f"--folder={tmp_path}")
    _nothing_happened(world)


def test_a_store_that_cannot_be_made(ends: Ends, world: World, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ends(75, "cannot be used: Not a directory", *DEFINITIONS, SCANLOOP_STORE_URL=(tmp_path / "file" / "store").as_uri())
    _nothing_happened(world)


def test_an_s3_server_that_is_not_there(ends: Ends, world: World) -> None:
    quick = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_MAX_ATTEMPTS": "1"}
    ends(75, "cannot be reached", *DEFINITIONS, SCANLOOP_STORE_URL="s3://bucket/x?endpoint_url=http://127.0.0.1:9", **quick)
    _nothing_happened(world)


def _without_override() -> tuple[str, ...]:
    """Root may write everywhere; without this capability it is asked for permission like anybody."""
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()


@pytest.mark.parametrize("folder", ["store", "work"])
def test_a_folder_that_may_not_be_written(ends: Ends, world: World, folder: str) -> None:
    path = world.settings.home / folder
    path.mkdir(exist_ok=True)
    inner = next(path.glob(".scanloop-aside"), path)
    modes = {each: each.stat().st_mode for each in (path, inner)}
    try:
        for each in modes:
            each.chmod(0o555)
        ends(75, "Permission denied", *DEFINITIONS, through=_without_override())
    finally:
        for each, mode in modes.items():
            each.chmod(mode)
    _nothing_happened(world)
    assert ends_well(world)


def ends_well(world: World) -> bool:
    """The same job runs once the world is right again."""
    url = world.catalog.url.set(drivername="postgresql").render_as_string(hide_password=False)
    environment = os.environ | {"SCANLOOP_HOME": str(world.settings.home), "SCANLOOP_DATABASE_URL": url}
    done = subprocess.run([SCANLOOP, *DEFINITIONS], env=environment, capture_output=True, text=True, check=True, timeout=120)
    return bool(json.loads(done.stdout)["changed"])


FILLED = 'mount -t tmpfs -o size=256k none "$0" && { head -c 300k /dev/zero > "$0/filler" 2>/dev/null; exec "$@"; }'
"""Put a full disk at a folder, for this process alone, and go on with the command."""


def _on_full_disk(folder: Path) -> tuple[str, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    through = (*namespace, "sh", "-c", FILLED, str(folder))
    tried = subprocess.run([*through, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"this machine lets no test mount a small disk: {tried.stderr.strip()}")
    return through


def test_a_disk_that_is_full(ends: Ends, world: World) -> None:
    before = list(canonical_lines(world.catalog))
    through = _on_full_disk(world.settings.home / "store")
    done = ends(75, "No space left on device. Make room and run again.", *DEFINITIONS, through=through)
    assert "publications/run-1/definitions.apply" in done.stderr
    assert list(canonical_lines(world.catalog)) == before
    _nothing_happened(world)
    assert ends_well(world)
