"""A machine that is not as it was: what wear, faults and lost calibrations do to its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from scanloop.simulator.detector import PLANES, detect
from scanloop.simulator.scanners import ScannerModel


@dataclass(frozen=True)
class Defects:
    """What is wrong with a machine. Nothing, as it stands."""

    gain: float = 1.0
    """Factor on every count: below 1 a tired source, above 1 one that saturates the detector."""
    noise: float = 1.0
    """Noise of photons and electronics, as a multiple of what it was."""
    banding: float = 0.0
    """Fluctuation of the tube from line to line beyond what it was, a standard deviation, as a share."""
    dead_rows: int = 0
    """Detector elements that newly do not measure."""
    dead_columns: int = 0
    """Belt positions that are lost."""
    lost_plane: str | None = None
    """Energy that is lost: its detector gives electronic noise only."""
    is_blank: bool = False
    """Whether there is no beam."""


def detuned(scanner: ScannerModel, defects: Defects) -> ScannerModel:
    """The model as this machine now is: what wears out is a property of source and detector, and acts before the picture is cut off at full scale."""
    high, low = scanner.air_level
    photons = tuple(count / defects.noise**2 for count in scanner.photons)
    return replace(
        scanner,
        air_level=(high * defects.gain, low * defects.gain),
        photons=(photons[0], photons[1]),
        dark_noise=scanner.dark_noise * defects.noise,
        banding=float(np.hypot(scanner.banding, defects.banding)),
    )


def detect_detuned(
    attenuations: np.ndarray, scanner: ScannerModel, defects: Defects, seed: np.random.SeedSequence | list[int], elements_seed: list[int]
) -> dict[str, np.ndarray]:
    """Planes (H, W) uint16 of a machine with defects from attenuations (E, H, W). `elements_seed` fixes its weak and dead lines, old and new."""
    dark = [number for number, name in enumerate(PLANES) if defects.is_blank or name == defects.lost_plane]
    given = attenuations.copy() if dark else attenuations
    given[dark] = 50.0
    machine = replace(detuned(scanner, defects), scatter=0.0) if defects.is_blank else detuned(scanner, defects)
    pixels = detect(given, machine, np.random.default_rng(seed), np.random.default_rng(elements_seed))
    lines = np.random.default_rng([*elements_seed, 17])
    _, height, width = pixels.shape
    pixels[:, lines.choice(height, defects.dead_rows, replace=False)] = 0
    pixels[:, :, lines.choice(width, defects.dead_columns, replace=False)] = 0
    return dict(zip(PLANES, pixels, strict=True))


def named_defects() -> Mapping[str, tuple[tuple[str, Defects], ...]]:
    """The defects that validation is tried on: name to sizes."""
    return {
        "gain falls": tuple((f"{share:.0%}", Defects(gain=1 - share)) for share in (0.01, 0.02, 0.03, 0.05, 0.10, 0.20)),
        "gain rises": tuple((f"{share:.0%}", Defects(gain=1 + share)) for share in (0.03, 0.10)),
        "dead rows": tuple((str(count), Defects(dead_rows=count)) for count in (1, 2, 4, 8)),
        "dead columns": tuple((str(count), Defects(dead_columns=count)) for count in (1, 2, 4, 8)),
        "noise": tuple((f"x {factor:g}", Defects(noise=factor)) for factor in (1.2, 1.5, 2.0, 3.0)),
        "banding": tuple((f"{share:.1%}", Defects(banding=share)) for share in (0.003, 0.006, 0.01, 0.02)),
        "low energy lost": (("whole", Defects(lost_plane="low")),),
        "no beam": (("whole", Defects(is_blank=True)),),
    }
