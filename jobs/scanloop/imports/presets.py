"""Known research sets as data: what lies where, which splits there are, and what their categories are here.

Source: the sets' own pages and loaders: github.com/bywang2018/security-dataset and lutao2021/PIDray (PIDray), MeioJane/SIXray, OPIXray-author/OPIXray
(DOAM/data/OPIXray.py), HiXray-author/HiXray (MuBo/data/HiXray.py), GreysonPhoenix/CLCXray. Their licences allow academic use only; none of their data
is here.

A category that the taxonomy has no id for is left out on purpose (None): under a coarser id every other thing of that kind would look
as if it was not there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from scanloop.errors import WrongArguments
from scanloop.imports.mapping import CategoryMapping

Format = Literal["coco", "voc", "text"]


@dataclass(frozen=True)
class Split:
    """One part of a set, as the set itself divides it. Of alternatives the first that is there is used; `*` matches within one name."""

    name: str
    """What the set calls it."""
    pictures: tuple[str, ...]
    """Folders of its pictures; all that are there are searched."""
    index: tuple[str, ...] = ()
    """COCO: alternatives of its JSON file."""
    labels: tuple[str, ...] = ()
    """VOC and text: alternatives of the folder of label files, one an image."""
    listing: tuple[str, ...] = ()
    """VOC and text: alternatives of the list of its images; none: every image with labels."""


@dataclass(frozen=True)
class Preset:
    """One set, or the usual layout of one format."""

    name: str
    """What the command line calls it; also the name of the dataset, where no other is given."""
    title: str
    """What people call it; the model of its scanner here."""
    format: Format
    """coco, voc or text."""
    splits: tuple[Split, ...]
    """Its parts."""
    categories: CategoryMapping = field(default_factory=lambda: CategoryMapping({}))
    """Its categories."""
    default_splits: tuple[str, ...] = ()
    """The splits imported where none is named; none: all that are there."""
    page: str = ""
    """Where it is described."""
    note: str = ""
    """What to know about it."""
    first_pixel: int = 0
    """VOC: 1 where corners count pixels from 1 and include the last one, 0 where they are taken as they stand."""
    is_bag_a_stem: bool = False
    """Whether a file's name without suffix is unique in the whole set, so that the same image has the same bag wherever it lies."""
    is_exhaustive: bool = True
    """Whether every picture in its folders belongs to a split, so that one that no index names is worth a word."""

    def chosen(self, names: tuple[str, ...]) -> tuple[Split, ...]:
        """The splits of these names, or the usual ones. Raises WrongArguments."""
        known = {split.name: split for split in self.splits}
        unknown = [name for name in names if name not in known]
        if unknown:
            raise WrongArguments(f"{self.title} has no split {unknown[0]!r}; it has {', '.join(known)}.")
        wanted = names or self.default_splits or tuple(known)
        return tuple(split for split in self.splits if split.name in wanted)


def _both(kind: str, name: str) -> tuple[Split, ...]:
    """The layout that OPIXray and HiXray share."""
    return tuple(
        Split(
            part,
            pictures=(f"{part}/{part}_image",),
            labels=(f"{part}/{part}_annotation",),
            listing=tuple(f"{part}/{part}_{list_name}.txt" for list_name in (kind, name)),
        )
        for part in ("train", "test")
    )


_SIXRAY_PICTURES = ("JPEGImage", "JPEGImages", "[0-9]", "[0-9][0-9]", "images")
_SIXRAY_LABELS = ("Annotation", "positive-Annotation", "Annotations", "annotations")

PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "pidray",
            "PIDray",
            "coco",
            tuple(
                Split(name, pictures=(name,), index=(f"annotations/xray_{index}.json",))
                for name, index in (("train", "train"), ("easy", "test_easy"), ("hard", "test_hard"), ("hidden", "test_hidden"))
            ),
            CategoryMapping(
                {"Baton": None, "Pliers": None, "Hammer": "hammer", "Powerbank": None, "Scissors": "scissors", "Wrench": None}
                | {"Gun": "handgun", "Bullet": None, "Sprayer": None, "HandCuffs": None, "Knife": "knife", "Lighter": None}
            ),
            page="https://github.com/bywang2018/security-dataset",
            note="Category ids 1 to 12; image ids start from 0 again in each index. Every image holds something, so none is clean of all twelve.",
        ),
        Preset(
            "sixray",
            "SIXray",
            "voc",
            tuple(
                Split(
                    f"{subset}-{part}",
                    pictures=_SIXRAY_PICTURES,
                    labels=_SIXRAY_LABELS,
                    listing=(f"ImageSet/{subset}/{part}.csv", f"ImageSets/{subset}/{part}.csv", f"labels/{subset}/{part}.csv"),
                )
                for subset in ("10", "100", "1000")
                for part in ("train", "test")
            ),
            CategoryMapping(
                {"Gun": "handgun", "Knife": "knife", "Wrench": None, "Pliers": None, "Scissors": "scissors", "Hammer": "hammer"}
            ),
            default_splits=("10-train", "10-test"),
            page="https://github.com/MeioJane/SIXray",
            note="Pictures P… hold something and have XML, N… are clean and have none: the CSV of the subset says so, without a column for Hammer.",
            is_bag_a_stem=True,
            is_exhaustive=False,
        ),
        Preset(
            "opixray",
            "OPIXray",
            "text",
            _both("knife", "name"),
            CategoryMapping(
                {
                    "Folding_Knife": "knife",
                    "Straight_Knife": "knife",
                    "Scissor": "scissors",
                    "Utility_Knife": "knife",
                    "Multi-tool_Knife": "knife",
                }
            ),
            page="https://github.com/OPIXray-author/OPIXray",
            note="The lists test_knife-1 to -3 (levels of occlusion) are parts of test_knife and are not read.",
        ),
        Preset(
            "hixray",
            "HiXray",
            "text",
            _both("name", "knife"),
            CategoryMapping(
                dict.fromkeys(("Portable_Charger_1", "Portable_Charger_2", "Water", "Laptop", "Mobile_Phone", "Tablet"))
                | dict.fromkeys(("Cosmetic", "Nonmetallic_Lighter"))
            ),
            page="https://github.com/HiXray-author/HiXray",
            note="None of its categories is a threat of the shipped taxonomy: its scans come without annotations unless --categories maps some.",
        ),
        Preset(
            "clcxray",
            "CLCXray",
            "coco",
            tuple(
                Split(
                    part,
                    pictures=(f"{part}2017", part, f"images/{part}", "images"),
                    index=(f"annotations/instances_{part}2017.json", f"annotations/{part}.json", f"{part}.json"),
                )
                for part in ("train", "val", "test")
            ),
            CategoryMapping(
                {"blade": None, "dagger": "knife", "knife": "knife", "scissors": "scissors", "swiss army knife": "knife", "cans": None}
                | {"carton drinks": None, "glass bottle": None, "plastic bottle": None, "vacuum cup": None, "spray cans": None, "tin": None}
            ),
            page="https://github.com/GreysonPhoenix/CLCXray",
            note="Cutters and liquid containers. Its part of 16-bit raw pictures has no index and is not read.",
        ),
        Preset(
            "coco",
            "COCO",
            "coco",
            (
                *(
                    Split(
                        part,
                        pictures=(f"{part}2017", part, f"images/{part}2017", f"images/{part}", "images"),
                        index=(
                            f"annotations/instances_{part}2017.json",
                            f"annotations/instances_{part}.json",
                            f"annotations/{part}.json",
                            f"{part}/_annotations.coco.json",
                            f"{part}.json",
                        ),
                    )
                    for part in ("train", "val", "valid", "test")
                ),
                Split("all", pictures=("images", "data"), index=("annotations.json", "annotations/instances.json", "labels.json")),
            ),
            note="Any set in a usual layout of COCO; what is not there is passed over. Needs --categories and --dataset.",
        ),
        Preset(
            "voc",
            "VOC",
            "voc",
            (
                *(
                    Split(part, pictures=("JPEGImages",), labels=("Annotations",), listing=(f"ImageSets/Main/{part}.txt",))
                    for part in ("train", "val", "test")
                ),
                Split("all", pictures=("JPEGImages", "images"), labels=("Annotations", "annotations")),
            ),
            default_splits=("train", "val", "test"),
            first_pixel=1,
            note="Any set in the usual layout of Pascal VOC; without lists the split `all` takes every XML file. Needs --categories and --dataset.",
            is_exhaustive=False,
        ),
        Preset(
            "text",
            "Text",
            "text",
            (
                *(
                    Split(part, pictures=(f"{part}/images", f"{part}/{part}_image"), labels=(f"{part}/labels", f"{part}/{part}_annotation"))
                    for part in ("train", "val", "test")
                ),
                Split("all", pictures=("images",), labels=("labels", "annotations")),
            ),
            note="One text file an image with lines `image class x1 y1 x2 y2`; an empty file is a clean image. Needs --categories and --dataset.",
        ),
    )
}
"""Every preset by name. The last three are formats without a set."""
FORMATS = ("coco", "voc", "text")


def preset_named(name: str) -> Preset:
    """The preset called `name`. Raises WrongArguments."""
    try:
        return PRESETS[name.lower()]
    except KeyError:
        raise WrongArguments(f"No preset or format is called {name!r}. Known: {', '.join(PRESETS)}.") from None
