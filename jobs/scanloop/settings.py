"""The deployment's settings, read once from the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from scanloop.errors import WrongArguments

STORE_SCHEMES = ("file", "s3")


class Settings(BaseSettings):
    """Where this deployment keeps its parts. Every field is an environment variable with the prefix `SCANLOOP_`."""

    model_config = SettingsConfigDict(env_prefix="SCANLOOP_", frozen=True, extra="ignore", env_ignore_empty=True)

    home: Path = Field(default=Path(".scanloop"), description="Folder for what has no URL of its own on one machine.")
    database_url: str = Field(default="", description="PostgreSQL URL of the catalog; empty: embedded under the home folder.")
    store_url: str = Field(default="", description="Store of everything kept: file:///folder or s3://bucket/prefix.")
    landing_url: str = Field(default="", description="Store that scanners deliver into.")
    landing_queue_url: str = Field(default="", description="SQS queue of the landing bucket's events; empty: the landing zone is listed.")
    truth_url: str = Field(default="", description="Simulation only: ground truth for the simulated annotators.")
    channel_url: str = Field(default="", description="Store that publishes signed releases.")
    runner: Literal["local", "kubernetes"] = Field(default="local", description="Where Airflow runs jobs.")
    labelling_url: str = Field(default="simulated:", description="Labelling server, or simulated: with error rates.")
    work: Path = Field(default=Path(), description="Scratch space of jobs; empty: under the home folder.")
    decoders: str = Field(default="", description="Decoder plug-ins to read files with: names with commas between, or *; empty: none.")
    decoders_folder: Path = Field(default=Path(), description="Folder of distributions with decoder plug-ins, beside the environment's.")
    actor: str = Field(default="", description="Who asks, as written in the audit log.")

    @field_validator("home", "work")
    @classmethod
    def _absolute(cls, folder: Path) -> Path:
        return folder.expanduser().absolute()

    @model_validator(mode="before")
    @classmethod
    def _defaults_under_home(cls, values: dict[str, object]) -> dict[str, object]:
        home = Path(str(values.get("home") or ".scanloop")).expanduser().absolute()
        for name in ("store", "landing", "truth", "channel"):
            values[f"{name}_url"] = values.get(f"{name}_url") or (home / name).as_uri()
        values["work"] = values.get("work") or home / "work"
        return values

    @field_validator("store_url", "landing_url", "truth_url", "channel_url")
    @classmethod
    def _known_store(cls, url: str) -> str:
        scheme = urlsplit(url).scheme
        if scheme not in STORE_SCHEMES:
            raise ValueError(f"expected a URL that starts with file:// or s3://, found {url!r}")
        return url

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, url: str) -> str:
        if url and urlsplit(url).scheme not in ("postgresql", "postgresql+psycopg", "postgres"):
            raise ValueError("expected a URL that starts with postgresql://")
        return url

    @property
    def plugin_folder(self) -> Path | None:
        """Folder of distributions with decoder plug-ins; None: those of the environment only."""
        return None if self.decoders_folder == Path() else self.decoders_folder

    @property
    def postgres_folder(self) -> Path:
        """Data folder of the embedded PostgreSQL."""
        return self.home / "postgres" / "data"


def read_settings(**overrides: object) -> Settings:
    """Read the settings from the environment.

    Raises:
        WrongArguments: a variable holds a value that cannot be used; the message names it.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name = "SCANLOOP_" + "_".join(str(part) for part in first["loc"]).upper()
        raise WrongArguments(f"{name} is not usable: {first['msg'].removeprefix('Value error, ')}.") from None
