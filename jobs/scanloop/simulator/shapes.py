"""Solid primitives, and how long a ray runs inside each.

Rays form a fan: all start on one line parallel to the belt (x), above which the source sits, so a ray is an origin that depends on the image
column alone and a direction that depends on the image row alone. Every function here uses that: what depends on one of them is computed once
per column or once per row, and only the last step makes an (R, C) array.

A shape lives in its own frame, centred on the origin, in cm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

_TINY = 1e-9


@dataclass(frozen=True)
class Chord:
    """Where rays are inside a shape."""

    length_cm: np.ndarray
    """(R, C): path length inside, 0 where the ray misses."""
    middle_cm: np.ndarray | None
    """(R, C): distance along the ray to the middle of the path; None for shapes that a ray may enter more than once."""


class Shape(Protocol):
    """A solid body."""

    @property
    def half_extent_cm(self) -> np.ndarray:
        """(3,): half the size of the box around the shape, in its own frame."""

    def scaled(self, factor: float) -> Shape:
        """The same body, `factor` times as large."""

    def chord(self, origins: np.ndarray, directions: np.ndarray) -> Chord:
        """Path of rays from `origins` (C, 3) along unit `directions` (R, 3), both in the shape's frame."""


@dataclass(frozen=True, eq=False)
class Slabs:
    """The intersection of slabs |normal . p| <= half: a box, or one with bevelled edges. Convex and point-symmetric."""

    normals: np.ndarray
    """(k, 3) unit normals; the first three are the axes."""
    halves_cm: np.ndarray
    """(k,) half thicknesses."""

    @property
    def half_extent_cm(self) -> np.ndarray:
        return self.halves_cm[:3]

    def scaled(self, factor: float) -> Slabs:
        return Slabs(self.normals, self.halves_cm * factor)

    def chord(self, origins: np.ndarray, directions: np.ndarray) -> Chord:
        along_o = (origins @ self.normals.T).astype(np.float32)
        along_d = (directions @ self.normals.T).astype(np.float32)
        inverse = 1 / np.where(np.abs(along_d) < 1e-6, 1e-6, along_d)
        reach = np.abs(inverse) * self.halves_cm.astype(np.float32)
        enter = np.full((len(directions), len(origins)), -np.inf, np.float32)
        leave = np.full_like(enter, np.inf)
        middle, edge = np.empty_like(enter), np.empty_like(enter)
        for k in range(len(self.normals)):
            np.multiply(-inverse[:, k, None], along_o[None, :, k], out=middle)
            np.maximum(enter, np.subtract(middle, reach[:, k, None], out=edge), out=enter)
            np.minimum(leave, np.add(middle, reach[:, k, None], out=edge), out=leave)
        length = np.maximum(np.subtract(leave, enter, out=edge), 0, out=edge)
        enter += leave
        enter *= 0.5
        return Chord(length, enter)


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """An ellipsoid with its axes along x, y, z."""

    radii_cm: np.ndarray
    """(3,) half axes."""

    @property
    def half_extent_cm(self) -> np.ndarray:
        return self.radii_cm

    def scaled(self, factor: float) -> Ellipsoid:
        return Ellipsoid(self.radii_cm * factor)

    def chord(self, origins: np.ndarray, directions: np.ndarray) -> Chord:
        return Chord(*_quadric(origins / self.radii_cm, directions / self.radii_cm))


@dataclass(frozen=True, eq=False)
class Cylinder:
    """A cylinder along z with elliptic ends."""

    radii_cm: np.ndarray
    """(2,) half axes of the ends."""
    half_length_cm: float
    """Half the length along z."""

    @property
    def half_extent_cm(self) -> np.ndarray:
        return np.array([*self.radii_cm, self.half_length_cm])

    def scaled(self, factor: float) -> Cylinder:
        return Cylinder(self.radii_cm * factor, self.half_length_cm * factor)

    def chord(self, origins: np.ndarray, directions: np.ndarray) -> Chord:
        length, middle = _quadric(origins[:, :2] / self.radii_cm, directions[:, :2] / self.radii_cm)
        z = np.where(np.abs(directions[:, 2]) < 1e-7, 1e-7, directions[:, 2])
        inverse = (1 / z)[:, None]
        middle_z, reach_z = -inverse * origins[None, :, 2], np.abs(inverse) * self.half_length_cm
        half = length * 0.5
        enter = np.maximum(middle - half, middle_z - reach_z)
        leave = np.minimum(middle + half, middle_z + reach_z)
        return Chord(np.where(half > 0, np.maximum(leave - enter, 0), 0), 0.5 * (enter + leave))


def _quadric(origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Path length and middle of rays in a unit ball of any dimension: roots of |o + t d|² = 1. float64, for the difference of large squares."""
    a = np.maximum(np.einsum("rk,rk->r", directions, directions), _TINY)[:, None]
    b = directions @ origins.T
    c = np.einsum("ck,ck->c", origins, origins)[None, :] - 1
    middle = -b / a
    discriminant = b * -middle
    np.subtract(discriminant, c, out=discriminant)
    np.maximum(discriminant, 0, out=discriminant)
    return 2 * np.sqrt(discriminant / a), middle


@dataclass(frozen=True, eq=False)
class Prism:
    """A polygon, of any outline and with holes, extruded along z."""

    rings: tuple[np.ndarray, ...]
    """Outlines (n, 2): the first is the outside, the others are holes."""
    half_thickness_cm: float
    """Half the height along z."""

    @property
    def half_extent_cm(self) -> np.ndarray:
        return np.array([*np.abs(self.rings[0]).max(axis=0), self.half_thickness_cm])

    def scaled(self, factor: float) -> Prism:
        return Prism(tuple(ring * factor for ring in self.rings), self.half_thickness_cm * factor)

    def chord(self, origins: np.ndarray, directions: np.ndarray) -> Chord:
        """Sum over crossings of the outline, an exit counted +, an entry -, of the distance, clamped between the two end faces.

        A ray's position relative to a vertex is the sign of one cross product, shared by the two edges that meet there, so no crossing is
        counted twice or lost.
        """
        z = np.where(np.abs(directions[:, 2]) < 1e-6, 1e-6, directions[:, 2])
        inverse = (1 / z)[:, None]
        middle, reach = -inverse * origins[None, :, 2], np.abs(inverse) * self.half_thickness_cm
        low, high = (middle - reach).astype(np.float32), (middle + reach).astype(np.float32)
        length = np.zeros(low.shape, np.float32)
        for number, ring in enumerate(self.rings):
            length += _signed_length(_oriented(ring, is_hole=number > 0), origins, directions, low, high)
        return Chord(np.maximum(length, 0), None)


def _oriented(ring: np.ndarray, *, is_hole: bool) -> np.ndarray:
    """The ring counter-clockwise, or clockwise for a hole."""
    x, y = ring[:, 0], ring[:, 1]
    is_clockwise = np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)) < 0
    return ring[::-1] if is_clockwise != is_hole else ring


def _signed_length(ring: np.ndarray, origins: np.ndarray, directions: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Path length inside one ring between distances `low` and `high` (R, C); negative for a hole."""
    o, d = origins[:, :2].astype(np.float32), directions[:, :2].astype(np.float32)
    vertices = ring.astype(np.float32)
    edges = np.roll(vertices, -1, axis=0) - vertices
    # cross(vertex - o, d): negative where the vertex lies left of the ray.
    of_rows = vertices[:, None, 0] * d[None, :, 1] - vertices[:, None, 1] * d[None, :, 0]
    o_cross_d = d[:, 1, None] * o[None, :, 0] - d[:, 0, None] * o[None, :, 1]
    is_right = of_rows[:, :, None] > o_cross_d[None]
    turn = is_right.astype(np.int8)
    turn = turn - np.roll(turn, -1, axis=0)
    across = edges[:, None, 1] * d[None, :, 0] - edges[:, None, 0] * d[None, :, 1]
    across = np.where(np.abs(across) < 1e-7, 1e-7, across)
    start = (vertices[:, 0] * edges[:, 1] - vertices[:, 1] * edges[:, 0])[:, None] - (
        edges[:, None, 1] * o[None, :, 0] - edges[:, None, 0] * o[None, :, 1]
    )
    total = np.zeros(low.shape, np.float32)
    for k in range(len(vertices)):
        if turn[k].any():
            distance = start[k][None, :] / across[k][:, None]
            total += turn[k] * np.clip(distance, low, high)
    return total
