"""What of a set is to be imported: one entry an image, from its indexes, with its boxes under the taxonomy's names."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import msgspec
from msgspec import Struct

from scanloop.errors import DataWrong
from scanloop.imports.boxes import Misplaced, usable
from scanloop.imports.indexes import IndexReader, Kind
from scanloop.imports.layout import FoundSplit, SetFolder
from scanloop.imports.mapping import CategoryMapping, compared
from scanloop.imports.presets import Preset
from scanloop.imports.problems import Problems
from scanloop.imports.records import MAX_BOXES, Index, IndexImage, Listed, words
from scanloop.scans.content import clean_text

MAX_PATH = 600
"""Characters of a picture's path below the set's folder."""
MAX_BAG = 100
"""Characters of a bag's number; a longer or unprintable one is known by its digest."""


class EntryBox(Struct, frozen=True, array_like=True):
    """A box that is one, under a category of the taxonomy; where it lies is not checked yet."""

    entry: str
    """Where in the index it stands."""
    category: str
    """Id of the taxonomy."""
    bbox_xywh: tuple[float, float, float, float]
    """Left, top, width, height in px."""


class Entry(Struct, frozen=True):
    """One image to be imported."""

    path: str
    """Its picture, relative to the set's folder."""
    split: str
    """The set's own split."""
    bag: str
    """Number of the bag: one image is one."""
    index: str
    """The file that speaks about it, relative to the set's folder."""
    entry: str
    """Where in that file."""
    width_px: int | None
    """Its width as the index says."""
    height_px: int | None
    """Its height as the index says."""
    boxes: tuple[EntryBox, ...]
    """Boxes of categories that are mapped, looked for or not."""
    looked_for: tuple[str, ...]
    """Categories that the set speaks about for this image, boxes or none, sorted."""
    sha256: str = ""
    """SHA-256 of the picture, once it was read."""
    size_bytes: int = 0
    """Its length."""


@dataclass
class Found:
    """What reading the indexes came to beside the entries."""

    categories: Counter[str] = field(default_factory=Counter)
    """Every source category that is declared or used, with its boxes."""
    boxes: int = 0
    """Boxes of all images."""


class Entries:
    """Reads the indexes of the chosen splits and yields what is to be imported."""

    def __init__(self, folder: SetFolder, preset: Preset, mapping: CategoryMapping, reader: IndexReader, problems: Problems) -> None:
        self.folder, self.preset, self.reader, self.problems = folder, preset, reader, problems
        self.mapping = mapping.compiled()
        self.all_ids = set(mapping.ids)
        self.found = Found()
        self._taken: dict[str, str] = {}
        """Picture to the entry that has it."""
        self._named: set[str] = set()
        """Pictures that an index names, whatever became of it."""

    def read(self, splits: list[FoundSplit], on_index: Callable[[str], None] = lambda _: None) -> Iterator[Entry]:
        """Every image of the splits, in the order of their indexes."""
        for split in splits:
            on_index(split.split.name)
            yield from self._coco(split) if self.preset.format == "coco" else self._labelled(split)
        if self.preset.is_exhaustive or not any(split.split.listing for split in splits):
            for path in sorted({path for split in splits for path in split.pictures.paths} - self._named):
                self.problems.report("picture_unlisted", path, "", "an index that names it", "none")

    def check_mapped(self) -> None:
        """Raises DataWrong if a category of the set is neither mapped nor left out on purpose."""
        unmapped = {name: count for name, count in sorted(self.found.categories.items()) if compared(name) not in self.mapping}
        if unmapped:
            named = ", ".join(f"{words(name)} ({count} boxes)" for name, count in list(unmapped.items())[:20])
            more = f" and {len(unmapped) - 20} more" if len(unmapped) > 20 else ""
            raise DataWrong(
                f"Categories of {self.preset.title} that are neither mapped nor left out: {named}{more}. "
                "Name each in --categories, with an id of the taxonomy or null."
            )

    def _parts(self, kind: Kind, path: str) -> Iterator[Index]:
        """The parts of one file; what is refused or odd is noted and passed over."""
        for part in self.reader.indexes(kind, self.folder.file(path), first_pixel=self.preset.first_pixel):
            if part.refused is not None:
                self.problems.report("index_refused", path, "", f"a file of the format {kind}", part.refused)
                return
            for name in part.categories:
                self.found.categories[name] += 0
            for found in part.problems:
                self.problems.report(found.kind, path, found.entry, found.expected, found.found)
            yield part

    def _coco(self, split: FoundSplit) -> Iterator[Entry]:
        assert split.index is not None
        for part in self._parts("coco", split.index):
            for image in part.images:
                path = split.pictures.named(image.name)
                if path is None:
                    self._missing(split, image, split.index)
                elif (entry := self._entry(split, path, split.index, image, None)) is not None:
                    yield entry

    def _missing(self, split: FoundSplit, image: IndexImage, index: str) -> None:
        parts = PurePosixPath(image.name.replace("\\", "/")).parts
        if ".." in parts or parts[:1] == ("/",) or image.name != clean_text(image.name, len(image.name)):
            kind = "name_outside" if ".." in parts or parts[:1] == ("/",) else "name_odd"
            self.problems.report(kind, index, image.entry, f"the name of a picture in {' or '.join(split.pictures.folders)}", image.name)
        else:
            self.problems.report("picture_missing", index, image.entry, f"{' or '.join(split.pictures.folders)}/{image.name}", "no file")

    def _labelled(self, split: FoundSplit) -> Iterator[Entry]:
        """Images with a label file each, and those that a list says something about."""
        listed = self._listed(split)
        if listed is None:
            return
        for stem, said in listed.items():
            labels, path = split.labels.get(stem), split.pictures.by_stem.get(stem)
            index = labels or split.listing or ""
            self._named.add(path or "")
            if path is None:
                self._missing(split, IndexImage(said.entry if said else "", stem), index)
            elif labels is None and (said is None or not (said.present or said.absent)):
                assert split.listing is not None
                self.problems.report("labels_missing", split.listing, said.entry if said else stem, f"labels of {stem}", "none")
            else:
                image = self._labels(stem, labels) if labels else IndexImage(said.entry if said else stem, stem)
                if image is not None and (entry := self._entry(split, path, index, image, said, is_listed_only=labels is None)) is not None:
                    yield entry

    def _labels(self, stem: str, path: str) -> IndexImage | None:
        kind: Kind = "voc" if self.preset.format == "voc" else "text"
        images = [image for part in self._parts(kind, path) for image in part.images]
        if images and images[0].name != stem:
            raise DataWrong(f"{path}: the process that reads indexes answered for another image.")
        return images[0] if images else None

    def _listed(self, split: FoundSplit) -> dict[str, Listed | None] | None:
        """Name without suffix to what the list says; without a list every image with labels. None: the list cannot be read."""
        if split.listing is None:
            return dict.fromkeys(sorted(split.labels))
        listed: dict[str, Listed | None] = {}
        for part in self._parts("list", split.listing):
            for said in part.listed:
                if said.name in listed:
                    self.problems.report("entry_twice", split.listing, said.entry, f"{said.name} once", "another line for it")
                else:
                    listed[said.name] = said
        return listed or None

    def _entry(
        self, split: FoundSplit, path: str, index: str, image: IndexImage, said: Listed | None, *, is_listed_only: bool = False
    ) -> Entry | None:
        self._named.add(path)
        if len(path) > MAX_PATH:
            self.problems.report("name_odd", index, image.entry, f"a path of at most {MAX_PATH} characters", path)
            return None
        if path in self._taken:
            self.problems.report("entry_twice", index, image.entry, f"{path} once", f"it also in {self._taken[path]}")
            return None
        self._taken[path] = f"{index}, {image.entry}"
        boxes, unsure = self._boxes(index, image)
        looked_for = self.all_ids - unsure if image.is_trusted and None not in unsure else set()
        if said is not None and (said.present or said.absent):
            looked_for = self._compared_with_list(split, image, boxes, said, looked_for, is_listed_only=is_listed_only)
        plain = PurePosixPath(path)
        bag = plain.stem if self.preset.is_bag_a_stem else str(plain.with_suffix(""))
        if len(bag) > MAX_BAG or clean_text(bag) != bag:
            bag = hashlib.sha256(bag.encode()).hexdigest()[:32]
        sizes = (image.width_px, image.height_px)
        return Entry(path, split.split.name, bag, index, image.entry, *sizes, tuple(boxes), tuple(sorted(looked_for)))

    def _boxes(self, index: str, image: IndexImage) -> tuple[list[EntryBox], set[str | None]]:
        """The boxes under the taxonomy's names, and the categories of which one was left out; None among them: it may be any."""
        kept: list[EntryBox] = []
        unsure: set[str | None] = set()
        seen: set[tuple[object, ...]] = set()
        self.found.boxes += len(image.boxes)
        if self.found.boxes > MAX_BOXES:
            raise DataWrong(f"The set has more than {MAX_BOXES} boxes, up to {index}; none of the known sets has a tenth of that.")
        for box in image.boxes:
            where = f"{image.entry}, {box.entry}"
            if not box.category:
                if self.preset.format != "coco":
                    self.problems.report("category_unknown", index, where, "the name of a category", "none")
                unsure.add(None)
                continue
            self.found.categories[box.category] += 1
            category = self.mapping.get(compared(box.category))
            if category is None:
                continue
            found = usable(box)
            if isinstance(found, Misplaced):
                self.problems.report(found.kind, index, where, found.expected, found.found)
                unsure.add(category)
            elif (category, *found) in seen:
                self.problems.report("box_twice", index, where, "each box once", "the same category and corners again")
            else:
                seen.add((category, *found))
                kept.append(EntryBox(where, category, found))
        return kept, unsure

    def _compared_with_list(
        self, split: FoundSplit, image: IndexImage, boxes: list[EntryBox], said: Listed, looked_for: set[str], *, is_listed_only: bool
    ) -> set[str]:
        """Take back what a list contradicts: a category that it says is there and no box shows; without labels also what it does not name."""
        assert split.listing is not None
        there = {box.category for box in boxes}
        named: set[str] = set()
        for name in (*said.present, *said.absent):
            self.found.categories[name] += 0
            category = self.mapping.get(compared(name))
            if category is None:
                continue
            named.add(category)
            if name in said.present and category not in there:
                self.problems.report("listed_without_box", split.listing, said.entry, f"a box of {name} in {image.name}", "none")
                looked_for = looked_for - {category}
            if name in said.absent and category in there and not self._is_present_otherwise(category, said):
                self.problems.report("list_contradicted", split.listing, said.entry, f"no {name} in {image.name}", "a box of it")
        return looked_for & named if is_listed_only else looked_for

    def _is_present_otherwise(self, category: str, said: Listed) -> bool:
        """Whether another name of the same category is said to be there."""
        return any(self.mapping.get(compared(name)) == category for name in said.present)


encode_entry = msgspec.json.Encoder().encode
decode_entry = msgspec.json.Decoder(Entry).decode
