"""Small made-up research sets of exactly the shape of the public ones: layout, names, ids and oddities, with pictures of their kinds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

SIZE_PX = (64, 80)
"""Height and width of every picture."""
PIDRAY = ("Baton", "Pliers", "Hammer", "Powerbank", "Scissors", "Wrench", "Gun", "Bullet", "Sprayer", "HandCuffs", "Knife", "Lighter")
"""Categories of PIDray; the place from 1 is the id."""
_CUTTERS = ["blade", "dagger", "knife", "scissors", "swiss army knife"]
CLCXRAY = (*_CUTTERS, "cans", "carton drinks", "glass bottle", "plastic bottle", "vacuum cup", "spray cans", "tin")
GUN, KNIFE, BATON = 7, 11, 1

Boxes = Sequence[tuple[int, Sequence[Any]]]


def colours(seed: int, size_px: tuple[int, int] = SIZE_PX) -> np.ndarray:
    """A picture as an operator sees it: (H, W, 3) uint8, white air and a few coloured things."""
    drawn = np.random.default_rng(seed)
    pixels = np.full((*size_px, 3), 255, np.uint8)
    for _ in range(5):
        top, left = int(drawn.integers(0, size_px[0] - 20)), int(drawn.integers(0, size_px[1] - 24))
        pixels[top : top + 18, left : left + 22] = drawn.integers(20, 230, 3)
    return pixels


def write_picture(path: Path, seed: int, size_px: tuple[int, int] = SIZE_PX) -> bytes:
    """A PNG or JPEG, by its suffix; returns the bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = colours(seed, size_px)
    content = imagecodecs.png_encode(pixels) if path.suffix == ".png" else imagecodecs.jpeg8_encode(pixels, level=92)
    path.write_bytes(bytes(content))
    return bytes(content)


def coco(images: Mapping[str, Boxes], categories: Sequence[str], size_px: tuple[int, int] = SIZE_PX) -> dict[str, Any]:
    """An index of images, by file name, with (category id, bbox) of each, and fields that real ones have beside those used."""
    index: dict[str, Any] = {"info": {"year": 2021}, "licenses": [], "images": [], "annotations": []}
    index["categories"] = [{"id": place, "name": name, "supercategory": name} for place, name in enumerate(categories, start=1)]
    for image_id, (name, boxes) in enumerate(images.items()):
        index["images"].append({"id": image_id, "file_name": name, "height": size_px[0], "width": size_px[1], "license": 1})
        for category_id, bbox in boxes:
            number = len(index["annotations"])
            about = {"id": number, "image_id": image_id, "category_id": category_id, "bbox": list(bbox), "iscrowd": 0}
            index["annotations"].append({**about, "area": 100, "segmentation": [[1.5, 2, 30, 2, 30, 40]]})
    return index


def write_index(path: Path, index: Any) -> Path:
    """Write an index as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(index))
    return path


def pidray(root: Path, splits: Sequence[str] = ("train", "easy", "hard", "hidden"), clean: int = 1, each: int = 2) -> Path:
    """PIDray: `each` images with a gun, a knife or both and `clean` without a box in each split; image ids start from 0 in every index."""
    for number, split in enumerate(splits):
        images: dict[str, Boxes] = {}
        for place in range(each + clean):
            name = f"{'xray_' if split == 'train' else f'xray_{split}'}{place:05d}.png"
            seed = 100 * number + place
            write_picture(root / split / name, seed)
            gun, knife = (GUN, (4 + place, 5, 20, 16)), (KNIFE, (30, 20.5, 18.25, 24))
            images[name] = [] if place >= each else [gun, knife, (BATON, (1, 1, 9, 9))] if place % 2 else [gun]
        index = "train" if split == "train" else f"test_{split}"
        write_index(root / "annotations" / f"xray_{index}.json", coco(images, PIDRAY))
    return root


def clcxray(root: Path) -> Path:
    """CLCXray: JPEG pictures in the folders of COCO."""
    for number, split in enumerate(("train", "val", "test")):
        images: dict[str, Boxes] = {}
        for place in range(2):
            name = f"{number}{place:06d}.jpg"
            write_picture(root / f"{split}2017" / name, 900 + 10 * number + place)
            images[name] = [(3, (3, 4, 20, 20))] if place else [(6, (10, 10, 20, 30))]
        write_index(root / "annotations" / f"instances_{split}2017.json", coco(images, CLCXRAY))
    return root


def voc_xml(name: str, objects: Sequence[tuple[str, Sequence[Any]]], size_px: tuple[int, int] = SIZE_PX) -> str:
    """One label file as the sets have them; corners are xmin, ymin, xmax, ymax."""
    parts = []
    for category, (xmin, ymin, xmax, ymax) in objects:
        corners = f"<xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax>"
        about = f"<name>{category}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>"
        parts.append(f"<object>{about}<bndbox>{corners}</bndbox></object>")
    size = f"<size><width>{size_px[1]}</width><height>{size_px[0]}</height><depth>3</depth></size>"
    head = f"<folder>JPEGImage</folder><filename>{name}.jpg</filename><source><database>Unknown</database></source>"
    return f"<annotation>{head}{size}<segmented>0</segmented>{''.join(parts)}</annotation>"


def sixray(root: Path) -> Path:
    """SIXray: pictures in numbered folders, XML for the positive ones only, and a CSV of labels a subset and part, without a column for Hammer."""
    (root / "Annotation").mkdir(parents=True)
    rows = {
        "train": {"P00001": ("Gun", "Knife"), "P00002": ("Pliers",), "N0000001": (), "N0000002": ()},
        "test": {"P00003": ("Knife",), "N0000003": ()},
    }
    labels = {
        "P00001": [("Gun", (5, 6, 30, 30)), ("Knife", (40, 10, 60, 50)), ("Hammer", (2, 40, 30, 60))],
        "P00002": [("Pliers", (5, 6, 30, 30))],
        "P00003": [("Knife", (7, 8, 50, 40))],
    }
    for number, stem in enumerate(("P00001", "P00002", "P00003", "N0000001", "N0000002", "N0000003", "N0000099")):
        write_picture(root / ("20" if stem[0] == "P" else str(number)) / f"{stem}.jpg", 500 + number)
    for stem, objects in labels.items():
        (root / "Annotation" / f"{stem}.xml").write_text(voc_xml(stem, objects))
    columns = ("Gun", "Knife", "Wrench", "Pliers", "Scissors")
    for part, listed in rows.items():
        lines = [",".join(("name", *columns))]
        lines += [",".join((stem, *("1" if column in said else "-1" for column in columns))) for stem, said in listed.items()]
        path = root / "ImageSet" / "10" / f"{part}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
    return root


def lines(stem: str, boxes: Sequence[tuple[str, Sequence[Any]]], suffix: str = ".jpg") -> str:
    """The label file of an image in OPIXray and HiXray."""
    return "".join(f"{stem}{suffix} {category} {' '.join(map(str, corners))}\n" for category, corners in boxes)


def opixray(root: Path) -> Path:
    """OPIXray: a list, a folder of pictures and one of label files a split, and lists of levels of occlusion, which are parts of another."""
    sets = {
        "train": {
            "009001": [("Folding_Knife", (4, 5, 40, 30))],
            "009002": [("Scissor", (10, 10, 50, 50)), ("Utility_Knife", (3, 3, 20, 20))],
        },
        "test": {"040001": [("Multi-tool_Knife", (10, 12, 44, 40))], "040002": []},
    }
    return _text_set(root, sets, "knife", 700, extra={"test_knife-1.txt": "040001\n"})


def hixray(root: Path) -> Path:
    """HiXray: as OPIXray, with categories that are no threats."""
    sets = {
        "train": {"H_000001": [("Laptop", (4, 5, 40, 30)), ("Water", (5, 6, 20, 30))]},
        "test": {"H_000002": [("Nonmetallic_Lighter", (9, 9, 30, 30))]},
    }
    return _text_set(root, sets, "name", 800, extra={})


def _text_set(root: Path, sets: dict[str, Any], kind: str, seed: int, extra: dict[str, str]) -> Path:
    for part, images in sets.items():
        folder = root / part
        (folder / f"{part}_annotation").mkdir(parents=True)
        for number, (stem, boxes) in enumerate(images.items()):
            write_picture(folder / f"{part}_image" / f"{stem}.jpg", seed + number + (50 if part == "test" else 0))
            (folder / f"{part}_annotation" / f"{stem}.txt").write_text(lines(stem, boxes))
        (folder / f"{part}_{kind}.txt").write_text("".join(f"{stem}\n" for stem in images))
    for name, content in extra.items():
        (root / "test" / name).write_text(content)
    return root


SETS = {"pidray": pidray, "sixray": sixray, "opixray": opixray, "hixray": hixray, "clcxray": clcxray}
"""Preset to what makes such a set."""
