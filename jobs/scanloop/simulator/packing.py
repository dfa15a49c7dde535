"""Where objects lie in a bag: inside it, rarely through one another."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from scanloop.simulator.parts import Parts, extent, move, turn

_TRIES = 14


@dataclass
class Packer:
    """Places objects one after another, preferring places that are free."""

    inside_cm: np.ndarray
    """(3,) full size of the free inside, centred on the origin."""
    taken: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    """Boxes (lowest, highest corner) of what lies there already."""

    def place(self, rng: np.random.Generator, parts: Parts, *, tilt_deg: float, max_overlap: float = np.inf) -> Parts | None:
        """The object turned by any angle about z and tilted by about `tilt_deg`, at the best of several places.

        None if it does not fit in any orientation tried, or if more than `max_overlap` of its box would be taken already.
        """
        best: tuple[float, np.ndarray, np.ndarray] | None = None
        corners = np.concatenate([part.corners() for part in parts])
        for attempt in range(_TRIES):
            heading = turn("z", rng.uniform(0, 360)) if attempt < _TRIES - 4 else turn("z", 90.0 * (attempt % 4) + rng.normal(0, 3))
            tilt = turn("x", rng.normal(0, tilt_deg)) @ turn("y", rng.normal(0, tilt_deg))
            rotation = tilt @ heading
            turned = corners @ rotation.T
            lowest, highest = turned.min(axis=0), turned.max(axis=0)
            room = self.inside_cm - (highest - lowest)
            if (room < 0).any():
                continue
            offset = room * rng.uniform(-0.5, 0.5, 3) - (lowest + highest) / 2
            overlap = self._overlap(lowest + offset, highest + offset)
            if best is None or overlap < best[0]:
                best = (overlap, offset, rotation)
            if overlap == 0:
                break
        if best is None or best[0] > max_overlap:
            return None
        placed = move(parts, best[1], best[2])
        self.taken.append(extent(placed))
        return placed

    def _overlap(self, lowest: np.ndarray, highest: np.ndarray) -> float:
        """Share of a box that other boxes take, counted once for each."""
        shared = sum(
            float(np.prod(np.maximum(np.minimum(highest, other_high) - np.maximum(lowest, other_low), 0)))
            for other_low, other_high in self.taken
        )
        return shared / max(float(np.prod(highest - lowest)), 1e-6)
