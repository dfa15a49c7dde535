"""One set in its folder, as an import and its dry run read it: entries first, then the digest of every picture."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from scanloop.errors import DataWrong, WrongArguments
from scanloop.imports.entries import Entries, Entry, decode_entry, encode_entry
from scanloop.imports.indexes import IndexReader
from scanloop.imports.layout import SetFolder
from scanloop.imports.mapping import CategoryMapping
from scanloop.imports.presets import FORMATS, Preset
from scanloop.imports.problems import Problems
from scanloop.scans.content import scanner_id
from scanloop.scans.sidecar import Sidecar, is_set_name
from scanloop.store.base import sha256_of

MAKER = "Research set"
"""Manufacturer of the scanner that a set's scans are said to come from: the set is one machine, since it does not tell its machines apart."""
VIEW = "single"
"""Every image is the only view of its bag."""
PLANES = ("red", "green", "blue")
"""What a picture of a set holds: colours that a vendor made of two energies, 8 bits each."""


@dataclass(frozen=True)
class Source:
    """What is imported, and how it is understood."""

    folder: Path
    """Where the set lies."""
    preset: Preset
    """What lies where in it."""
    dataset: str
    """What it is called here; also the site and the issuer of bag numbers."""
    mapping: CategoryMapping
    """What its categories are here."""
    splits: tuple[str, ...] = ()
    """The splits to import; none: the usual ones."""

    def __post_init__(self) -> None:
        if not is_set_name(self.dataset):
            raise WrongArguments(
                f"Expected a dataset's name of lower-case letters, digits, points, hyphens and underscores, found {self.dataset[:60]!r}."
            )

    @property
    def tool(self) -> str:
        """What an annotation says it was made with."""
        return f"import:{self.preset.format}"

    @property
    def model(self) -> str:
        """The model of the scanner that its scans are said to come from."""
        return self.preset.title if self.preset.name not in FORMATS else self.dataset

    @property
    def scanner_id(self) -> str:
        """The id of that scanner."""
        return scanner_id(MAKER, self.model, self.dataset)

    def sidecar(self, entry: Entry, planes: tuple[str, ...] = PLANES) -> bytes:
        """The sidecar that a scanner would have sent with the picture. The same entry always has the same."""
        about = {
            "manufacturer": MAKER,
            "model": self.model,
            "serial": self.dataset,
            "site": self.dataset,
            "issuer": self.dataset,
            "bag_id": entry.bag,
            "view": VIEW,
            "planes": planes,
            "scan_type": "operational",
            "dataset": self.dataset,
            "split": entry.split,
        }
        content = msgspec.json.encode(about, order="sorted")
        Sidecar.model_validate_json(content)
        return content


def source_of(preset: Preset, folder: Path, *, dataset: str | None, mapping: CategoryMapping | None, splits: tuple[str, ...]) -> Source:
    """What a command line asks for. Raises WrongArguments if a format comes without a name for the dataset or without categories."""
    if preset.name in FORMATS and (dataset is None or mapping is None):
        raise WrongArguments(
            f"{preset.name} is a format and no known set: name the dataset with --dataset and its categories with --categories."
        )
    categories = preset.categories.overridden(mapping) if mapping is not None else preset.categories
    preset.chosen(splits)
    return Source(folder, preset, dataset or preset.name, categories, splits)


@dataclass
class Surveyed:
    """What a survey counted."""

    images: int = 0
    """Entries that are to be imported."""
    boxes: int = 0
    """Boxes of mapped categories in them."""
    clean: int = 0
    """Entries without a box that say that something was looked for."""
    categories: dict[str, int] = field(default_factory=dict)
    """The set's own categories with the boxes of each."""
    splits: dict[str, int] = field(default_factory=dict)
    """Entries of each split."""
    version: str = ""
    """Digest of everything that is to be imported, 12 hex digits."""


Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is (0: not known yet)."""


def _silent(_what: str, _done: int, _total: int) -> None:
    return


def survey(source: Source, workdir: Path, problems: Problems, surveyed: Surveyed, progress: Progress = _silent) -> Iterator[Entry]:
    """Every entry with its picture's digest, in order, each picture once; `surveyed` is filled in as it goes and whole at the end.

    The indexes are read to their end before the first entry is yielded.

    Raises:
        DataWrong: a category is neither mapped nor left out, or nothing of the set is there.
    """
    folder = SetFolder(source.folder, problems)
    splits = folder.splits(source.preset, source.splits)
    spool = workdir / "entries.jsonl"
    workdir.mkdir(parents=True, exist_ok=True)
    with IndexReader(workdir / "indexes", [folder.root]) as reader, spool.open("wb") as lines:
        entries = Entries(folder, source.preset, source.mapping, reader, problems)
        total = 0
        for total, entry in enumerate(entries.read(splits), start=1):
            lines.write(encode_entry(entry) + b"\n")
            if total % 1000 == 0:
                progress("Reading indexes", total, 0)
        entries.check_mapped()
    surveyed.categories = dict(sorted(entries.found.categories.items()))
    if not total:
        raise DataWrong(f"{source.folder} has no image of {source.preset.title} that could be imported. {summary(problems)}")
    digest, first = hashlib.sha256(), dict[bytes, str]()
    with spool.open("rb") as lines:
        for done, line in enumerate(lines, start=1):
            progress("Reading pictures", done, total)
            found = _hashed(folder, decode_entry(line), first, problems)
            if found is None:
                continue
            digest.update(encode_entry(found))
            surveyed.images += 1
            surveyed.boxes += len(found.boxes)
            surveyed.clean += bool(found.looked_for) and not found.boxes
            surveyed.splits[found.split] = surveyed.splits.get(found.split, 0) + 1
            yield found
    surveyed.version = digest.hexdigest()[:12]
    spool.unlink()


def _hashed(folder: SetFolder, entry: Entry, first: dict[bytes, str], problems: Problems) -> Entry | None:
    """The entry with its picture's digest; None if the picture is one that another entry has."""
    try:
        sha256, size_bytes = sha256_of(folder.file(entry.path))
    except OSError as error:
        problems.report("picture_missing", entry.path, "", "a file that can be read", error.strerror or type(error).__name__)
        return None
    other = first.setdefault(bytes.fromhex(sha256), entry.path)
    if other != entry.path:
        problems.report("picture_twice", entry.path, "", "a picture of its own", f"the bytes of {other}")
        return None
    return msgspec.structs.replace(entry, sha256=sha256, size_bytes=size_bytes)


def summary(problems: Problems) -> str:
    """The problems by kind, in words."""
    if not problems.counts:
        return "Nothing odd was found."
    return f"Found: {', '.join(f'{count} × {kind}' for kind, count in sorted(problems.counts.items()))}."


def as_counts(surveyed: Surveyed) -> dict[str, Any]:
    """What a survey counted, as plain values."""
    return {name: getattr(surveyed, name) for name in ("images", "boxes", "clean", "categories", "splits", "version")}
