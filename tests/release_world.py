"""A detector with random weights, bundles of it, signed channels and devices: what tests of releases start from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
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


@cache
def make_network(seed: int = 0, size_px: int = 64) -> tuple[ModelConfig, torch.nn.Module]:
    """An RTMDet-tiny that was never trained but whose outputs vary from place to place, as a trained one's do."""
    import torch

    from scanloop.training.config import make_config
    from scanloop.training.network import build_model
    from scanloop.training.options import TrainingOptions
    from scanloop.training.preprocess import prepare_input

    config = make_config("rtmdet_tiny", TrainingOptions(size_px=size_px, seed=seed), CATEGORIES)
    model = build_model(config)
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.from_numpy(np.stack([prepare_input(make_scan(each), size_px, config.options.planes)[0] for each in range(8)]))
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.6
    with torch.no_grad():
        for _ in range(6):
            model(inputs, mode="tensor")
        model.eval()
        for layer, mean, spread in ((model.bbox_head.rtm_cls[0], -2.5, 1.0), (model.bbox_head.rtm_reg[0], 2.0, 0.5)):
            layer.weight.normal_(0, 1, generator=generator)
            layer.bias.zero_()
            logits, distances = model(inputs, mode="tensor")
            outputs = logits[0] if layer is model.bbox_head.rtm_cls[0] else distances[0] / 8
            layer.weight.mul_(spread / outputs.std())
            layer.bias.fill_(mean - float(outputs.mean()) * spread / float(outputs.std()))
    return config, model


def make_scan(seed: int = 0, height: int = 48, width: int = 64) -> dict[str, np.ndarray]:
    """Two planes of random rectangles in air."""
    random = np.random.default_rng(seed)
    high = np.full((height, width), 60000, np.uint16)
    for _ in range(5):
        x, y = int(random.integers(0, width - 12)), int(random.integers(0, height - 12))
        high[y : y + 12, x : x + 12] //= int(random.integers(2, 6))
    return {"high": high, "low": (high * 0.7).astype(np.uint16)}


def write_small_network(path: Path, seed: int = 0, size_px: int = 64) -> None:
    """A network with the inputs and outputs of a real one that is one convolution a level: for tests that are not about networks."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from scanloop.edge.detector import INPUT_NAME, OUTPUT_NAMES

    random = np.random.default_rng(seed)
    nodes, weights, outputs = [], [], []
    for name in OUTPUT_NAMES:
        kind, _, stride = name.rpartition("_")
        step_px, channels = int(stride), len(CATEGORIES) if kind == "class_logits" else 4
        values = random.normal(0, 3 / (step_px * np.sqrt(3)), (channels, 3, step_px, step_px)).astype(np.float32)
        bias = np.full(channels, -2.5 if kind == "class_logits" else 12.0, np.float32)
        weights += [numpy_helper.from_array(values, f"{name}_weight"), numpy_helper.from_array(bias, f"{name}_bias")]
        inputs = [INPUT_NAME, f"{name}_weight", f"{name}_bias"]
        nodes.append(helper.make_node("Conv", inputs, [name], kernel_shape=[step_px, step_px], strides=[step_px, step_px]))
        cells = size_px // step_px
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", channels, cells, cells]))
    entry = helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["batch", 3, size_px, size_px])
    graph = helper.make_graph(nodes, "small", [entry], outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))


def make_bundle_folder(folder: Path, threshold: float = 0.12) -> Path:
    """Every file of a bundle, made by the code that makes real ones, around a small network."""
    from scanloop.edge.detector import Detector
    from scanloop.release.bundle import write_rules, write_selftest
    from scanloop.training.postprocess import PostprocessRules
    from scanloop.training.preprocess import preprocess_config

    folder.mkdir(parents=True)
    write_small_network(folder / "model.onnx")
    point = {"thresholds": dict.fromkeys(CATEGORIES, threshold), "target_pfa": 0.1}
    write_rules(folder, CATEGORIES, preprocess_config(64, ("high", "low", "material")), PostprocessRules().to_config(), point)
    (folder / "evidence.json").write_text(json.dumps({"verdict": "promote"}))
    detector, planes = Detector(folder), make_scan(7)
    write_selftest(folder, detector, planes, detector.alarms(planes))
    return folder


_made: dict[str, Path] = {}


def shared_bundle(tmp_path_factory: Any) -> Path:
    """One bundle for every test of a session; nobody changes it."""
    if "bundle" not in _made:
        _made["bundle"] = make_bundle_folder(tmp_path_factory.mktemp("bundle") / "files")
    return _made["bundle"]


def variant(bundle: Path, folder: Path, note: str) -> Path:
    """The same bundle with another word in its evidence: another release for less work."""
    shutil.copytree(bundle, folder)
    (folder / "evidence.json").write_text(json.dumps({"verdict": "promote", "note": note}))
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
    files = {str(path.relative_to(home.folder)): path.stat().st_size for path in sorted(home.versions.glob("[0-9]*/*"))}
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


def seed_champion(run_body: Any, world: Any, *, seed: int = 0, approver: str | None = None, prefix: str = "one") -> dict[str, Any]:
    """Give the product line `cabin` a champion: a model with random weights, a decision with evidence, and the real promotion."""
    from small_world import rows_of

    from scanloop.canonical import canonical_json
    from scanloop.promotion.policy import GatePolicy, decision_id
    from scanloop.promotion.promote import promote_candidate
    from scanloop.training.network import model_id_of, weights_bytes

    snapshot = rows_of(world, "snapshots")[-1]["snapshot_id"]
    config, model = make_network(seed)
    weights = weights_bytes(model.state_dict())
    model_id = model_id_of(weights)
    champions = rows_of(world, "champions", product_line="cabin")
    champion_id = champions[0]["model_id"] if champions else None

    def train(run: Any) -> dict[str, Any]:
        row = {"model_id": model_id, "product_line": "cabin", "snapshot_id": snapshot, "parent_model_id": None, "recipe": "rtmdet_tiny"}
        row |= {"config_key": world.store.put_content("training/configs", config.to_bytes(), ".json").key, "state": "candidate"}
        row |= {"weights_key": world.store.put_content("models", weights, ".safetensors").key, "tracking_id": None}
        run.publication.insert("models", [row], action="model.trained", subject="model_id")
        return {"model_id": model_id}

    def compare(run: Any) -> dict[str, Any]:
        policy = GatePolicy.of(run.definition.gate)
        name = decision_id(model_id, champion_id, snapshot, policy)
        point = {"split": "val", "target_pfa": 0.1, "thresholds": {"handgun": 0.12, "knife": 0.15}}
        needs_approval = policy.approval == "always"
        evidence = {
            "decision_id": name,
            "candidate_id": model_id,
            "policy": policy.as_json(),
            "verdict": "promote",
            "needs_approval": needs_approval,
            "evidence_of": {"candidate": {"model_id": model_id, "operating_point": point}},
        }
        stored = run.store.put_content(f"evidence/{name}", canonical_json(evidence), ".json")
        run.add_output(stored)
        evaluations = [] if rows_of(world, "evaluations", model_id=model_id) else [model_id]
        for each in evaluations:
            row = {"evaluation_id": f"e-{each[:12]}", "model_id": each, "snapshot_id": snapshot, "product_line": "cabin"}
            row |= {"results_key": "r", "outcomes_key": "o", "report_key": "p", "summary": {"operating_point": point}}
            run.publication.insert("evaluations", [row], action="model.evaluated", subject="evaluation_id")
        decision = {"decision_id": name, "product_line": "cabin", "candidate_id": model_id, "champion_id": champion_id}
        decision |= {"snapshot_id": snapshot, "verdict": "promote", "needs_approval": needs_approval, "reasons": ["better"]}
        decision |= {"evidence_key": stored.key, "evidence_sha256": stored.sha256, "approver": None}
        run.publication.insert("decisions", [decision], action="decision.made", subject="decision_id")
        return {"decision_id": name}

    run_body("model.train", train, run_id=f"{prefix}-train", product_line="cabin")
    decision = run_body("promotion.compare", compare, run_id=f"{prefix}-compare", product_line="cabin")["decision_id"]
    return run_body(
        "promotion.promote",
        lambda run: promote_candidate(run, decision, approver),
        run_id=f"{prefix}-promote",
        product_line="cabin",
        lease="cabin/promotion",
    )
