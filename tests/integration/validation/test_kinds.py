"""Scans that are no pairs of energies: volumes, colour exports, captures, members of imported sets. Healthy they pass, broken they fail."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from fleet_world import START
from scan_files import picture, png, sidecar

from scanloop.catalog.tables import quarantine, scans
from scanloop.cli.options import World
from scanloop.intake.landing import Shard
from scanloop.intake.rows import identity_rows, measurement
from scanloop.intake.shard import ingest_shard
from scanloop.scans.content import ScanContent, ScanMetadata
from scanloop.store import open_store
from scanloop.validation.run import validate_scans

Run = Callable[..., dict[str, Any]]


def colours(seed: int = 1, black: bool = False) -> dict[str, np.ndarray]:
    """A vendor's colours: white air, a green and an orange thing."""
    rng = np.random.default_rng(seed)
    planes = {name: np.full((64, 80), 255, np.uint16) for name in ("red", "green", "blue")}
    for name, values in (("red", (40, 250)), ("green", (190, 150)), ("blue", (60, 60))):
        planes[name][10:30, 10:40], planes[name][35:55, 30:70] = values
        planes[name] -= rng.integers(0, 4, (64, 80)).astype(np.uint16)
    return {name: np.zeros_like(pixels) for name, pixels in planes.items()} if black else planes


def volume(seed: int = 1, slices: int = 16, level: int = 200, empty: bool = False) -> dict[str, np.ndarray]:
    """A bag in a tube: dark air, denser things."""
    rng = np.random.default_rng(seed)
    voxels = rng.normal(level, 15, (slices, 48, 48)).clip(0, 4095)
    if empty:
        voxels[:] = level
    else:
        voxels[2:-2, 10:30, 12:40] += 900
        voxels[4:8, 20:26, 20:30] += 1500
    return {"density": voxels.clip(0, 4095).astype(np.uint16)}


def content(planes: dict[str, np.ndarray], bits: int, modality: str, **about: Any) -> ScanContent:
    said = {
        "manufacturer": "Veritas",
        "model": "CT 80",
        "serial": "9",
        "site": "fleet",
        "issuer": "x",
        "bag": "1",
        "view": "ct",
        "acquired_at": START,
    }
    return ScanContent(planes, dict.fromkeys(planes, bits), ScanMetadata(**(said | {"modality": modality} | about)), "dicos")


def unnamed(planes: dict[str, np.ndarray], **about: Any) -> ScanContent:
    nothing = dict.fromkeys(("manufacturer", "model", "serial", "view"), "") | {"acquired_at": None}
    return content(planes, 8, "OT", **(nothing | about))


CASES: dict[str, tuple[ScanContent, list[str]]] = {
    "volume": (content(volume(), 12, "CT"), []),
    "volume without a bag": (content(volume(empty=True), 12, "CT"), ["is_not_blank", "is_more_than_air"]),
    "few slices": (content(volume(slices=4), 12, "CT"), ["slices_are_many"]),
    "volume with bright air": (content(volume(level=3000, seed=3), 12, "CT"), ["air_is_dark"]),
    "colours": (content(colours(), 8, "DX", model="unheard of"), []),
    "capture": (unnamed(colours(2)), []),
    "grey capture": (unnamed({"grey": colours(3)["red"]}), []),
    "black colours": (unnamed(colours(black=True)), ["is_not_dark", "is_not_blank"]),
    "capture without a bag": (unnamed(colours(5), bag=""), ["bag_is_known"]),
    "two of three colours": (unnamed({"red": colours(6)["red"], "blue": colours(6)["blue"]}), ["planes_make_a_picture"]),
    "colours of a machine of energies": (
        content(colours(7), 8, "DX", manufacturer="Okari", model="LineScan 200", view="top"),
        ["height_is_plausible", "width_is_plausible", "depth_is_enough", "has_both_energies", "has_no_other_planes", "software_is_known"],
    ),
    "imported": (unnamed(colours(8), attributes={"dataset": "pidray", "software": "1"}), []),
}


def test_each_kind_is_judged_by_what_it_is(world: World, run_body: Run) -> None:
    rows = {}
    for number, (name, (scan, _)) in enumerate(CASES.items()):
        scan_id = hashlib.sha256(name.encode()).hexdigest()
        at = START + timedelta(minutes=number)
        row = measurement(scan, f"scans/planes/{scan_id}", delivered_site="fleet", sidecar_sha256=None)
        rows[scan_id] = row | {"scan_id": scan_id, "raw_key": f"scans/raw/{scan_id}", "acquired_at": scan.metadata.acquired_at and at}
        run_body("test.rows", lambda run, scan=scan, row=rows[scan_id]: _add(run, scan, row), run_id=f"add-{number}")
    result = run_body("validation.run", validate_scans, run_id="check", lease="validation")
    assert result["quarantined"] == sum(bool(checks) for _, checks in CASES.values())
    with world.catalog.read() as connection:
        reasons = dict(connection.execute(sa.select(quarantine.c.quarantine_id, quarantine.c.reason)).all())
    found = {name: sorted(_names(reasons.get(hashlib.sha256(name.encode()).hexdigest(), ""))) for name in CASES}
    assert found == {name: sorted(checks) for name, (_, checks) in CASES.items()}


def _names(reason: str) -> list[str]:
    return [part.split(" ")[0] for part in reason.split("; ") if " (expected" in part]


def _add(run: Any, scan: ScanContent, row: dict[str, Any]) -> dict[str, Any]:
    for table, values in identity_rows(scan).items():
        run.publication.insert(table, [values], action="x.seen", subject=f"{table.removesuffix('s')}_id")
    run.publication.insert("scans", [row], action="scan.received", subject="scan_id")
    return {}


@pytest.mark.parametrize(("planes", "is_healthy"), [(colours(), True), (colours(black=True), False)], ids=["healthy", "black"])
def test_a_colour_export_as_a_file(world: World, run_body: Run, planes: dict[str, np.ndarray], is_healthy: bool) -> None:
    landing = open_store(world.settings.landing_url)
    for name, file, about in (
        (
            "colours",
            png({name: pixels * np.uint16(257) for name, pixels in planes.items()}),
            sidecar(planes=["red", "green", "blue"], bag_id="B1"),
        ),
        ("energies", png(picture(5, 64, 64)), sidecar()),
    ):
        landing.put(f"north-terminal/SN-7/2026-03-01/{name}.png.json", about)
        landing.put(f"north-terminal/SN-7/2026-03-01/{name}.png", file)
    run_body("ingest.shard", lambda run: ingest_shard(run, Shard(0, 1)), run_id="ingest", part="00/01")
    result = run_body("validation.run", validate_scans, run_id="check", lease="validation")
    assert (result["validated"], result["quarantined"]) == ((2, 0) if is_healthy else (1, 1))
    with world.catalog.read() as connection:
        states = set(connection.scalars(sa.select(scans.c.state)))
    assert states == ({"validated"} if is_healthy else {"validated", "quarantined"})
