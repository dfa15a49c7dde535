"""Make a bundle: the exported network and everything a device needs to use, check and explain it, as flat files under a manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanloop.edge.manifest import BundleFile, Manifest
from scanloop.steps import step
from scanloop.store import Store, StoredObject
from scanloop.store.base import sha256_of

if TYPE_CHECKING:
    import numpy as np

    from scanloop.edge.detector import Detector
    from scanloop.training.detections import Detections

BUNDLES_PREFIX = "bundles"


@dataclass(frozen=True)
class StoredBundle:
    """A bundle in the store."""

    manifest: Manifest
    """What it consists of."""
    stored: StoredObject
    """The manifest's object."""
    files: tuple[StoredObject, ...]
    """The files' objects, in the order of the manifest."""


def write_rules(
    folder: Path,
    categories: Sequence[str],
    preprocess: Mapping[str, Any],
    postprocess: Mapping[str, Any],
    operating_point: Mapping[str, Any],
) -> None:
    """Write labels, preprocessing and thresholds. `operating_point`: what the evaluation chose, with `thresholds` by category."""
    _write_json(folder / "labels.json", {"categories": list(categories)})
    _write_json(folder / "preprocessing.json", dict(preprocess))
    alarm = {category: operating_point["thresholds"][category] for category in categories}
    _write_json(folder / "thresholds.json", {"alarm": alarm, "postprocess": dict(postprocess), "target_pfa": operating_point["target_pfa"]})


def write_selftest(folder: Path, detector: Detector, planes: Mapping[str, np.ndarray], alarms: Detections) -> None:
    """Write one real scan, and what the network answers to it here."""
    from scanloop.edge.detector import OUTPUT_NAMES
    from scanloop.edge.selfcheck import sample_outputs
    from scanloop.scans.planes import encode_planes
    from scanloop.training.preprocess import KNOWN_PLANES, prepare_input

    names = [name for name in KNOWN_PLANES if name in planes]
    kept = {name: planes[name] for name in names}
    (folder / "selftest.tiff").write_bytes(encode_planes(kept))
    canvas, _ = prepare_input(kept, detector.rules.size_px, detector.rules.planes)
    samples = sample_outputs(OUTPUT_NAMES, detector.raw(canvas))
    _write_json(folder / "selftest.json", {"samples": samples, "alarms": alarms.to_records(detector.rules.categories)})


def store_bundle(store: Store, folder: Path, names: Sequence[str], facts: Mapping[str, Any]) -> StoredBundle:
    """Put the files of `folder` and their manifest into the store, each under its content. `facts`: the manifest's other fields."""
    files, objects = [], []
    for name in sorted(names):
        sha256, size_bytes = sha256_of(folder / name)
        files.append(BundleFile(name, sha256, size_bytes))
        objects.append(store.put_content(BUNDLES_PREFIX, folder / name, Path(name).suffix))
        step("release.after_bundle_file")
    manifest = Manifest(**facts, files=tuple(files))
    stored = store.put_content(BUNDLES_PREFIX, manifest.to_bytes(), ".json")
    step("release.after_bundle")
    return StoredBundle(manifest, stored, tuple(objects))


def bundle_file_key(file: BundleFile) -> str:
    """Store key of one file of a bundle."""
    return f"{BUNDLES_PREFIX}/{file.sha256[:2]}/{file.sha256}{Path(file.name).suffix}"


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
