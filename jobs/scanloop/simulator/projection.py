"""Line integrals through parts: path lengths, attenuation planes, and the exact box of an object."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from scanloop.simulator.geometry import ViewGeometry
from scanloop.simulator.materials import mu_per_cm
from scanloop.simulator.parts import Part

Window = tuple[slice, slice]
VISIBLE_ATTENUATION = 0.02
"""High-energy attenuation of an object from which one of its pixels counts as showing it: about the noise of one pixel behind clutter."""


def window(part: Part, view: ViewGeometry) -> Window | None:
    """Rows and columns that can show the part; None if it lies outside the picture."""
    pixels = view.project(part.corners())
    c0, r0 = np.floor(pixels.min(axis=0)).astype(int)
    c1, r1 = np.ceil(pixels.max(axis=0)).astype(int) + 1
    rows, columns = slice(max(r0, 0), min(r1, view.rows_px)), slice(max(c0, 0), min(c1, view.columns_px))
    return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None


def path_length(part: Part, view: ViewGeometry, where: Window) -> np.ndarray:
    """Equivalent path length in the part at its material's density, cm, for the pixels of `where` (R, C).

    Density waves are integrated exactly: along a ray, a sine averages to the sine at the middle of the path times sinc of half the phase run.
    """
    rows, columns = where
    origins = (view.origins[columns] - part.centre) @ part.rotation
    directions = view.directions[rows] @ part.rotation
    chord = part.shape.chord(origins, directions)
    length = chord.length_cm
    if part.waves is not None and chord.middle_cm is not None:
        length = length * _mean_density(part, origins, directions, length, chord.middle_cm)
    return length if part.fill == 1.0 else length * part.fill


def _mean_density(part: Part, origins: np.ndarray, directions: np.ndarray, length: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """Mean of 1 + sum of waves over each path, (R, C)."""
    assert part.waves is not None
    mean = np.ones(length.shape, np.float32)
    inside = np.where(length > 0, middle, 0).astype(np.float32)
    for vector, amplitude, phase in zip(part.waves.vectors, part.waves.amplitudes, part.waves.phases, strict=True):
        along = (directions @ vector).astype(np.float32)[:, None]
        at_middle = along * inside + (origins @ vector + phase).astype(np.float32)[None, :]
        run = np.maximum(np.abs(along * (0.5 * length).astype(np.float32)), 1e-4)
        mean += np.float32(amplitude) * np.sin(at_middle) * (np.sin(run) / run)
    return mean


def attenuation(parts: Iterable[Part], view: ViewGeometry, energies_kev: Sequence[float]) -> np.ndarray:
    """Attenuation A = sum of mu * path, (E, H, W) float32, one plane an energy. Not negative."""
    total = np.zeros((len(energies_kev), view.rows_px, view.columns_px), np.float32)
    for part in parts:
        where = window(part, view)
        if where is None:
            continue
        length = path_length(part, view, where).astype(np.float32, copy=False)
        for plane, energy in zip(total, energies_kev, strict=True):
            plane[where] += np.float32(mu_per_cm(part.material, energy)) * length
    return np.maximum(total, 0, out=total)


def box_of(shown: np.ndarray) -> tuple[int, int, int, int] | None:
    """The tight `bbox_xywh`, whole pixels, of the True pixels of a mask (H, W); None if there is none."""
    columns, rows = np.flatnonzero(shown.any(axis=0)), np.flatnonzero(shown.any(axis=1))
    if not len(columns):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)
