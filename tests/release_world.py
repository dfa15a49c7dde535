"""A detector with random weights, bundles of it, signed channels and devices: what tests of releases start from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from scanloop.edge.device import DeviceHome
    from scanloop.release.signer import Signer
    from scanloop.training.config import ModelConfig

CATEGORIES = ("handgun", "knife")
NOW = datetime.now(UTC)


def make_network(seed: int = 0, size_px: int = 64) -> tuple[ModelConfig, torch.nn.Module]:
    """An RTMDet-tiny that was never trained but whose outputs vary from place to place, as a trained one's do."""
    import torch

    from scanloop.training.config import make_config
    from scanloop.training.network import build_model
    from scanloop.training.options import TrainingOptions

    config = make_config("rtmdet_tiny", TrainingOptions(size_px=size_px, seed=seed), CATEGORIES)
    model = build_model(config)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    with torch.no_grad():
        for _ in range(8):
            model(torch.rand(4, 3, size_px, size_px, generator=generator) * 2, mode="tensor")
        for name, parameter in model.named_parameters():
            if "rtm_cls" in name and name.endswith("weight"):
                parameter.normal_(0, 0.4, generator=generator)
            if "rtm_reg" in name and name.endswith("bias"):
                parameter.fill_(2.0)
    return config, model.eval()


def make_scan(seed: int = 0, height: int = 48, width: int = 64) -> dict[str, np.ndarray]:
    """Two planes of random rectangles in air."""
    random = np.random.default_rng(seed)
    high = np.full((height, width), 60000, np.uint16)
    for _ in range(5):
        x, y = int(random.integers(0, width - 12)), int(random.integers(0, height - 12))
        high[y : y + 12, x : x + 12] //= int(random.integers(2, 6))
    return {"high": high, "low": (high * 0.7).astype(np.uint16)}


def make_bundle_folder(folder: Path, seed: int = 0, threshold: float = 0.3) -> Path:
    """Every file of a bundle, made by the code that makes real ones."""
    from scanloop.edge.detector import Detector
    from scanloop.release.bundle import write_rules, write_selftest
    from scanloop.release.export_onnx import export_onnx

    folder.mkdir(parents=True)
    config, model = make_network(seed)
    export_onnx(model, 3, config.options.size_px, folder / "model.onnx")
    point = {"thresholds": dict.fromkeys(CATEGORIES, threshold), "target_pfa": 0.1}
    write_rules(folder, config.categories, config.preprocess, config.postprocess, point)
    (folder / "evidence.json").write_text(json.dumps({"verdict": "promote"}))
    detector, planes = Detector(folder), make_scan(7)
    write_selftest(folder, detector, planes, detector.alarms(planes))
    return folder


@dataclass
class Channel:
    """A signer, its keys and its channel in one folder, without catalog: it signs what it is told."""

    folder: Path
    now: datetime = NOW
    product_lines: tuple[str, ...] = ("cabin", "hold")
    signer: Signer = field(init=False)

    def __post_init__(self) -> None:
        from scanloop.release.ceremony import hold_ceremony
        from scanloop.release.keys import open_keys
        from scanloop.release.signer import Signer
        from scanloop.store import open_store

        self.store = open_store((self.folder / "store").as_uri())
        self.url = (self.folder / "channel").as_uri()
        self.published = open_store(self.url)
        keys = open_keys(self.folder / "signer", None, make=True)
        self.ceremony = hold_ceremony(keys, self.published, self.product_lines, self.now)
        self.signer = Signer(keys, self.store, self.published, None, now=lambda: self.now)  # type: ignore[arg-type]

    @property
    def root(self) -> bytes:
        return self.published.get("metadata/1.root.json")

    def release(self, bundle: Path, version: int, *, product_line: str = "cabin", channel: str = "stable", **facts: Any) -> str:
        """Sign and publish a bundle. Returns the digest of its manifest."""
        from scanloop.edge.manifest import REQUIRED_FILES
        from scanloop.release.bundle import store_bundle

        known = {"product_line": product_line, "channel": channel, "version": version, "model_id": f"model-{version}"}
        known |= {"snapshot_id": "s", "decision_id": "d", **facts}
        stored = store_bundle(self.store, bundle, REQUIRED_FILES, known)
        state = self.signer.sign_manifest(self.signer.state(), stored.manifest, f"{product_line}-{version}-{stored.manifest.sha256[:12]}")
        self.signer.folder.publish(state, self.published)
        return stored.manifest.sha256

    def device(self, home: Path, *, product_line: str = "cabin", channel: str = "stable") -> DeviceHome:
        """Enrol a device that follows this channel."""
        from scanloop.edge.device import DeviceHome, enrol

        place = DeviceHome(home)
        enrol(place, site="ams", product_line=product_line, channel=channel, channel_url=self.url, root=self.root)
        return place

    @property
    def files(self) -> Path:
        """The channel's folder."""
        return self.folder / "channel"

    def copy(self, folder: Path) -> str:
        """Copy the published channel, as onto a USB medium. Returns its URL."""
        shutil.copytree(self.files, folder)
        return folder.as_uri()


def snapshot_of(home: DeviceHome) -> Mapping[str, Any]:
    """What matters of a device: its current release, its files, its memory without times."""
    from scanloop.edge.install import current_version
    from scanloop.edge.state import load_state

    state = load_state(home.state)
    files = {
        str(path.relative_to(home.folder)): path.stat().st_size for path in sorted(home.versions.rglob("*")) if path.is_file()
    }
    return {"current": current_version(home), "counter": state.counter, "installed": dict(state.installed), "files": files}


def assert_whole(home: DeviceHome) -> int | None:
    """Invariant E: the current release, if there ever was one, is complete, verified and loads. Returns its number."""
    from scanloop.edge.detector import Detector
    from scanloop.edge.install import current_version, verified
    from scanloop.edge.state import load_state

    version = current_version(home)
    if version is None:
        assert not home.current.is_symlink()
        return None
    installed = verified(home, version, load_state(home.state))
    Detector(installed.folder, threads=1)
    return version
