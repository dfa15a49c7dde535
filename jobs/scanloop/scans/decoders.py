"""Decoder plug-ins: what a distribution offers, and which of them a deployment has chosen. Nothing of a plug-in is imported here.

A distribution names an object in the entry-point group `scanloop.decoders`; docs/decoders.md is written for whoever makes one. The object is
loaded and called only in a confined process of its own (`decoder_process`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from scanloop.errors import WrongArguments
from scanloop.scans.content import FORMAT_NAME, ScanContent, clean_text

if TYPE_CHECKING:
    from scanloop.settings import Settings

GROUP = "scanloop.decoders"
"""The entry-point group."""
ALL = "*"
"""Chooses every plug-in that is installed."""
BUILT_IN = ("dicom", "dicos", "png", "tiff", "jpeg")
"""Formats that Scanloop reads itself, and their names, which no plug-in may take."""
HEAD_BYTES = 4096
"""What a plug-in must recognise its format by."""


class Decoder(Protocol):
    """What an entry point of the group names: an object, or a module."""

    name: str
    """The name of the format in the catalog: lower-case letters, digits, hyphens and underscores. The same as the entry point's."""

    def matches(self, head: bytes, /) -> bool:
        """Whether a file that begins with `head`, at most `HEAD_BYTES`, is of this format. Files of built-in formats are never asked about."""

    def read(self, content: bytes, sidecar: bytes | None, /) -> ScanContent:
        """Read a whole file, with the JSON that came with it if any. Raises ScanRefused for what is not whole and right."""


@dataclass(frozen=True)
class Installed:
    """One decoder plug-in that a deployment has chosen, or could choose."""

    name: str
    """Name of the format."""
    target: str
    """Where its object is: `module:object`, or `module`. Empty if no distribution has it."""
    distribution: str
    """Name of the distribution that it comes with; empty if there is none."""
    version: str
    """Version of the distribution."""
    is_chosen: bool
    """Whether this deployment wants it."""
    problem: str = ""
    """Why it cannot be used; empty: nothing known."""

    @property
    def label(self) -> str:
        """The plug-in in a message."""
        return f"{self.name} ({self.distribution} {self.version})" if self.distribution else self.name


@dataclass(frozen=True)
class Choice:
    """The decoder plug-ins of a deployment."""

    plugins: tuple[Installed, ...] = ()
    """Those that are chosen, by name; the order in which they are asked."""
    folder: Path | None = None
    """Where distributions are looked for beside the environment."""


NO_PLUGINS = Choice()


def chosen_decoders(settings: Settings) -> Choice:
    """The plug-ins that this deployment reads files with.

    Raises:
        WrongArguments: the folder that it names is none.
    """
    if not settings.decoders:
        return NO_PLUGINS
    folder = settings.plugin_folder
    return Choice(tuple(plugin for plugin in list_decoders(settings.decoders, folder) if plugin.is_chosen), folder)


def list_decoders(wanted: str, folder: Path | None = None) -> list[Installed]:
    """Every plug-in that is installed or wanted, by name. `wanted` is a list of names with commas between, or `*`; empty: none is wanted.

    Raises:
        WrongArguments: `folder` is no folder.
    """
    if folder is not None and not folder.is_dir():
        raise WrongArguments(f"SCANLOOP_DECODERS_FOLDER names no folder: {folder}.")
    names = {name.strip() for name in wanted.split(",")} - {""}
    offered: dict[str, dict[tuple[str, str, str], Installed]] = {}
    for distribution, entry in _entries(folder):
        about = (clean_text(distribution.name), clean_text(distribution.version), entry.value)
        is_chosen = ALL in names or entry.name in names
        found = Installed(clean_text(entry.name), entry.value, about[0], about[1], is_chosen, _problem(entry.name))
        offered.setdefault(entry.name, {}).setdefault(about, found)
    listed = [_only(list(same.values())) for same in offered.values()]
    missing = sorted(names - offered.keys() - {ALL})
    listed += [Installed(clean_text(name), "", "", "", is_chosen=True, problem="no installed distribution offers it") for name in missing]
    return sorted(listed, key=lambda plugin: plugin.name)


def built_in_formats() -> list[dict[str, str]]:
    """The formats that Scanloop reads itself, as plain values."""
    own = {"distribution": "scanloop", "version": version("scanloop"), "state": "built in", "problem": ""}
    return [{"format": name, **own} for name in BUILT_IN]


def _entries(folder: Path | None) -> Iterable[tuple[Distribution, EntryPoint]]:
    """Entry points of the environment, then of the folder."""
    places = [distributions()] + ([distributions(path=[str(folder)])] if folder is not None else [])
    for place in places:
        for distribution in place:
            yield from ((distribution, entry) for entry in distribution.entry_points if entry.group == GROUP)


def _problem(name: str) -> str:
    if name in BUILT_IN:
        return "Scanloop reads this format itself"
    return "" if FORMAT_NAME.fullmatch(name) else "its name is none: expected lower-case letters, digits, hyphens and underscores"


def _only(same: list[Installed]) -> Installed:
    """The one plug-in of a name; with several of one name none is usable."""
    first, *others = sorted(same, key=lambda plugin: (plugin.distribution, plugin.version, plugin.target))
    if not others:
        return first
    by = " and ".join(f"{plugin.distribution} {plugin.version}" for plugin in (first, *others))
    return Installed(first.name, "", "", "", first.is_chosen, f"more than one distribution offers it: {by}")
