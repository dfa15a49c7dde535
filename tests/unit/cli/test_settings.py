"""Settings are read once; what cannot be used is named with its variable."""

from __future__ import annotations

from pathlib import Path

import pytest

from scanloop.errors import WrongArguments
from scanloop.settings import read_settings


def test_everything_has_a_place_under_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = read_settings()
    assert settings.home == tmp_path / ".scanloop"
    assert settings.work == tmp_path / ".scanloop" / "work"
    for url in (settings.store_url, settings.landing_url, settings.truth_url, settings.channel_url):
        assert url.startswith((tmp_path / ".scanloop").as_uri())
    assert settings.database_url == ""


def test_the_environment_wins_and_relative_folders_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"HOME": "h", "WORK": "w", "STORE_URL": "s3://b/p", "LANDING_URL": "", "RUNNER": "kubernetes"}.items():
        monkeypatch.setenv(f"SCANLOOP_{name}", value)
    settings = read_settings()
    assert (settings.home, settings.work) == (tmp_path / "h", tmp_path / "w")
    assert settings.store_url == "s3://b/p"
    assert settings.landing_url == (tmp_path / "h" / "landing").as_uri()
    assert settings.runner == "kubernetes"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("STORE_URL", "ftp://x", "expected a URL that starts with file:// or s3://, found 'ftp://x'"),
        ("LANDING_URL", "/plain/path", "expected a URL that starts with"),
        ("CHANNEL_URL", "s3//typo", "expected a URL that starts with"),
        ("DATABASE_URL", "mysql://x", "expected a URL that starts with postgresql://"),
        ("DATABASE_URL", "sqlite:///x", "expected a URL that starts with postgresql://"),
        ("RUNNER", "docker", "'local' or 'kubernetes'"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    monkeypatch.setenv(f"SCANLOOP_{name}", value)
    with pytest.raises(WrongArguments) as error:
        read_settings()
    assert error.value.message.startswith(f"SCANLOOP_{name} is not usable: ")
    assert said in error.value.message
