"""What a bundle is: one manifest that names flat files by hash. Shared by the side that writes bundles and the device that reads them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scanloop.errors import DataWrong

MANIFEST_SCHEMA = 1
MAX_FILES = 32
MAX_FILE_BYTES = 2 << 30
REQUIRED_FILES = ("model.onnx", "labels.json", "thresholds.json", "preprocessing.json", "selftest.tiff", "selftest.json", "evidence.json")
_NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,40}\.(onnx|json|tiff)$")
_SHA256 = re.compile(r"^[0-9a-f]{64}$")
_FIELDS = {"schema", "product_line", "channel", "version", "model_id", "snapshot_id", "decision_id", "files"}


@dataclass(frozen=True)
class BundleFile:
    """One file of a bundle."""

    name: str
    """Its plain name in the bundle."""
    sha256: str
    """Digest of its content."""
    size_bytes: int
    """Length of its content."""


@dataclass(frozen=True)
class Manifest:
    """A bundle as its manifest tells it."""

    product_line: str
    """For which product line it is."""
    channel: str
    """On which channel it is released."""
    version: int
    """Release number, from 1, rising."""
    model_id: str
    """The model in it: SHA-256 of its weights."""
    snapshot_id: str
    """What the model was trained on."""
    decision_id: str
    """Why it became champion."""
    files: tuple[BundleFile, ...]
    """Its files, by name."""

    def file(self, name: str) -> BundleFile:
        """The entry of `name`."""
        return next(file for file in self.files if file.name == name)

    def to_bytes(self) -> bytes:
        """The one JSON form of this manifest; its SHA-256 names the bundle."""
        content = {
            "schema": MANIFEST_SCHEMA,
            "product_line": self.product_line,
            "channel": self.channel,
            "version": self.version,
            "model_id": self.model_id,
            "snapshot_id": self.snapshot_id,
            "decision_id": self.decision_id,
            "files": {
                file.name: {"sha256": file.sha256, "size_bytes": file.size_bytes} for file in sorted(self.files, key=lambda file: file.name)
            },
        }
        return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()

    @property
    def sha256(self) -> str:
        """Digest of the manifest: the bundle's name."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


def parse_manifest(data: bytes) -> Manifest:
    """Read a manifest and check every field; nothing in it is trusted to be a path.

    Raises:
        DataWrong: it is no manifest this version knows; the message names what is wrong.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise DataWrong("The bundle's manifest is not JSON.") from None
    if not isinstance(content, dict) or set(content) != _FIELDS:
        raise DataWrong(f"The bundle's manifest must have exactly the fields {', '.join(sorted(_FIELDS))}.")
    if content["schema"] != MANIFEST_SCHEMA:
        raise DataWrong(
            f"The bundle's manifest has schema {content['schema']!r}; this version reads {MANIFEST_SCHEMA}. Update the device's software."
        )
    for field in ("product_line", "channel", "model_id", "snapshot_id", "decision_id"):
        if not isinstance(content[field], str) or not content[field]:
            raise DataWrong(f"The bundle's manifest: {field} must be a text.")
    version = content["version"]
    if type(version) is not int or not 1 <= version < 1 << 31:
        raise DataWrong("The bundle's manifest: version must be a whole number from 1.")
    return Manifest(
        content["product_line"],
        content["channel"],
        version,
        content["model_id"],
        content["snapshot_id"],
        content["decision_id"],
        _parse_files(content["files"]),
    )


def _parse_files(entries: object) -> tuple[BundleFile, ...]:
    if not isinstance(entries, Mapping) or len(entries) > MAX_FILES:
        raise DataWrong(f"The bundle's manifest: files must be a mapping of at most {MAX_FILES} names.")
    files = tuple(_parse_file(name, entry) for name, entry in sorted(entries.items()))
    missing = sorted(set(REQUIRED_FILES) - {file.name for file in files})
    if missing:
        raise DataWrong(f"The bundle lacks {', '.join(missing)}.")
    return files


def _parse_file(name: Any, entry: Any) -> BundleFile:
    if not isinstance(name, str) or not _NAME.match(name):
        raise DataWrong(f"The bundle's manifest: {str(name)[:60]!r} is not a plain file name.")
    if not isinstance(entry, dict) or set(entry) != {"sha256", "size_bytes"}:
        raise DataWrong(f"The bundle's manifest: {name} must have exactly sha256 and size_bytes.")
    sha256, size = entry["sha256"], entry["size_bytes"]
    if not isinstance(sha256, str) or not _SHA256.match(sha256) or type(size) is not int or not 0 <= size <= MAX_FILE_BYTES:
        raise DataWrong(f"The bundle's manifest: {name} has no usable sha256 and size_bytes.")
    return BundleFile(name, sha256, size)


def channel_target(product_line: str, channel: str) -> str:
    """Target path of the newest release on a channel."""
    return f"{product_line}/channel/{channel}.json"


def release_target(product_line: str, version: int) -> str:
    """Target path of one release, for ever."""
    return f"{product_line}/release/{version}.json"


def file_target(product_line: str, name: str) -> str:
    """Target path of a bundle's file; in a repository with consistent snapshots its hash stands before its name."""
    return f"{product_line}/file/{name}"
