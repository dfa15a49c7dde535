"""Where the files of a set lie: looked for inside its folder only, whatever links and names say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from scanloop.errors import DataWrong, WrongArguments
from scanloop.imports.presets import FORMATS, Preset, Split
from scanloop.imports.problems import Problems

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""Suffixes of pictures, in lower case."""
LABELS = {"voc": ".xml", "text": ".txt"}
"""Format to the suffix of its label files."""


@dataclass(frozen=True)
class FoundSplit:
    """The files of one split, as they lie below the set's folder."""

    split: Split
    """What was looked for."""
    index: str | None
    """COCO: its JSON file."""
    listing: str | None
    """Its list of images."""
    labels: dict[str, str]
    """Name without suffix to label file."""
    pictures: Pictures
    """Its pictures."""


@dataclass
class Pictures:
    """Pictures below some folders of the set, by the names that an index may use for them."""

    folders: tuple[str, ...]
    """The folders, relative to the set's."""
    paths: set[str] = field(default_factory=set)
    """Every picture, relative to the set's folder."""
    by_stem: dict[str, str] = field(default_factory=dict)
    """Name without suffix to picture; the first in order where several have it."""

    def named(self, name: str) -> str | None:
        """The picture that a file name of an index means: relative to one of the folders, or to the set's."""
        plain = PurePosixPath(name.replace("\\", "/"))
        candidates = [*(str(PurePosixPath(folder) / plain) for folder in self.folders), str(plain)]
        return next((path for path in candidates if path in self.paths), None)


class SetFolder:
    """A set's folder. Nothing outside it is opened: a link that leads out is a problem and not a file."""

    def __init__(self, root: Path, problems: Problems) -> None:
        self.root = root.resolve()
        self.problems = problems
        self._outside: set[str] = set()
        if not self.root.is_dir():
            raise WrongArguments(f"{root} is not a folder.")

    def file(self, path: str) -> Path:
        """A file of the set."""
        return self.root / path

    def splits(self, preset: Preset, names: tuple[str, ...]) -> list[FoundSplit]:
        """The chosen splits that are there; those that are not are problems.

        Raises:
            WrongArguments: the set has no such split.
            DataWrong: nothing of the set is there, or a split that was asked for is not.
        """
        chosen = preset.chosen(names)
        if preset.name in FORMATS and not names and all(self._lacking(preset, split) for split in chosen):
            chosen = preset.splits
        scanned: dict[tuple[str, ...], Pictures] = {}
        found = []
        for split in chosen:
            lacking = self._lacking(preset, split)
            if lacking is None:
                folders = tuple(folder for pattern in split.pictures for folder in self._folders(pattern))
                if folders not in scanned:
                    scanned[folders] = self._scan(folders)
                found.append(self._found(preset, split, scanned[folders]))
            elif names:
                raise DataWrong(f"{self.root} does not hold the split {split.name} of {preset.title}: expected {lacking}.")
            elif preset.name not in FORMATS:
                self.problems.report("index_missing", split.name, "", lacking, "nothing")
        if not found:
            wanted = "; or ".join(sorted({str(self._lacking(preset, split)) for split in chosen}))
            raise DataWrong(f"{self.root} holds nothing of {preset.title}: expected {wanted}.")
        return found

    def _lacking(self, preset: Preset, split: Split) -> str | None:
        """What a split would need to be there; None: it is there."""
        if not any(True for pattern in split.pictures for _ in self._folders(pattern)):
            return f"pictures in {' or '.join(split.pictures)}"
        if preset.format == "coco":
            return None if self._first(split.index) else " or ".join(split.index)
        if split.listing and preset.format == "voc":
            return None if self._first(split.listing) else " or ".join(split.listing)
        return None if any(True for pattern in split.labels for _ in self._folders(pattern)) else f"labels in {' or '.join(split.labels)}"

    def _found(self, preset: Preset, split: Split, pictures: Pictures) -> FoundSplit:
        labels: dict[str, str] = {}
        if preset.format != "coco":
            folder = next((folder for pattern in split.labels for folder in self._folders(pattern)), None)
            if folder is not None:
                suffix = LABELS[preset.format]
                labels = {PurePosixPath(path).stem: path for path in sorted(self._files(folder)) if path.lower().endswith(suffix)}
        return FoundSplit(split, self._first(split.index), self._first(split.listing), labels, pictures)

    def _first(self, paths: tuple[str, ...]) -> str | None:
        return next((path for path in paths if self._is_inside(path) and self.file(path).is_file()), None)

    def _is_inside(self, path: str) -> bool:
        """Whether what is under a name lies below the folder once links are followed."""
        return self.file(path).resolve().is_relative_to(self.root)

    def _folders(self, pattern: str) -> Iterator[str]:
        for place in sorted(self.root.glob(pattern)):
            path = place.relative_to(self.root).as_posix()
            if not place.is_dir():
                continue
            if self._is_inside(path):
                yield path
            elif path not in self._outside:
                self._outside.add(path)
                self.problems.report("name_outside", path, "", "a folder inside the set's", "a link out of it")

    def _scan(self, folders: tuple[str, ...]) -> Pictures:
        pictures = Pictures(folders)
        for folder in folders:
            for path in sorted(self._files(folder)):
                if path.lower().endswith(PICTURES) and path not in pictures.paths:
                    pictures.paths.add(path)
                    pictures.by_stem.setdefault(PurePosixPath(path).stem, path)
        return pictures

    def _files(self, folder: str) -> Iterator[str]:
        """Files directly in a folder, but for hidden ones, which archives from some machines are full of."""
        with os.scandir(self.file(folder)) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                path = f"{folder}/{entry.name}"
                if entry.is_symlink() and not self._is_inside(path):
                    self.problems.report("name_outside", path, "", "a file inside the set's folder", "a link out of it")
                elif entry.is_file():
                    if _is_unicode(entry.name):
                        yield path
                    else:
                        self.problems.report("name_odd", path.encode("utf-8", "replace").decode(), "", "a name in Unicode", "other bytes")


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
