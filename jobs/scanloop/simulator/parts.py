"""Parts of objects: a shape, a material, a place; and the small verbs that objects are built with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from scanloop.simulator.shapes import Cylinder, Ellipsoid, Prism, Shape, Slabs

_SIGNS = np.array([(x, y, z) for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
Vector = Sequence[float] | np.ndarray


@dataclass(frozen=True, eq=False)
class Waves:
    """A density that varies inside a part: 1 + sum of amplitude * sin(k . p + phase), the folds of cloth or the teeth of a zip."""

    vectors: np.ndarray
    """(n, 3) wave vectors, radians a cm, in the part's frame."""
    amplitudes: np.ndarray
    """(n,) shares of the mean density; they sum to at most 1."""
    phases: np.ndarray
    """(n,) radians."""


@dataclass(frozen=True, eq=False)
class Part:
    """A homogeneous (or waved) piece of an object."""

    shape: Shape
    """Its body, in its own frame."""
    material: str
    """A key of MATERIALS."""
    rotation: np.ndarray
    """(3, 3): columns are the shape's axes in the frame of the object or the world."""
    centre: np.ndarray
    """(3,) cm, in the same frame."""
    fill: float = 1.0
    """Share of the material's density; negative takes matter away, which is how hollows and bores are made."""
    waves: Waves | None = None
    """Variation of density, if any."""

    def corners(self) -> np.ndarray:
        """(8, 3) corners of the part's box, in the frame of the object or the world."""
        return self.centre + (_SIGNS * self.shape.half_extent_cm) @ self.rotation.T


Parts = tuple[Part, ...]
_EYE = np.eye(3)
_AXES = {"x": 0, "y": 1, "z": 2}


def turn(axis: str, degrees: float) -> np.ndarray:
    """The (3, 3) rotation about x, y or z."""
    angle, k = np.deg2rad(degrees), _AXES[axis]
    i, j = (k + 1) % 3, (k + 2) % 3
    rotation = np.eye(3)
    rotation[i, i] = rotation[j, j] = np.cos(angle)
    rotation[i, j], rotation[j, i] = -np.sin(angle), np.sin(angle)
    return rotation


def align_z(direction: Vector) -> np.ndarray:
    """A (3, 3) rotation that takes z to `direction`."""
    z = np.asarray(direction, float)
    z = z / np.linalg.norm(z)
    x = np.cross((0.0, 1.0, 0.0) if abs(z[1]) < 0.9 else (1.0, 0.0, 0.0), z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=1)


def move(parts: Iterable[Part], offset: Vector = (0, 0, 0), rotation: np.ndarray = _EYE) -> Parts:
    """The parts rotated about the origin, then moved."""
    shift = np.asarray(offset, float)
    return tuple(replace(part, rotation=rotation @ part.rotation, centre=rotation @ part.centre + shift) for part in parts)


def box(
    size: Vector, material: str, centre: Vector = (0, 0, 0), *, bevel: float = 0.0, fill: float = 1.0, waves: Waves | None = None
) -> Part:
    """A box of full `size`, its edges cut back by `bevel` cm."""
    half = np.asarray(size, float) / 2
    normals, halves = [*_EYE], [*half]
    if bevel > 0:
        for i, j in ((0, 1), (0, 2), (1, 2)):
            for sign in (1, -1):
                normal = (_EYE[i] + sign * _EYE[j]) / np.sqrt(2)
                normals.append(normal)
                halves.append((half[i] + half[j] - min(bevel, 0.9 * half[i], 0.9 * half[j])) / np.sqrt(2))
    return Part(Slabs(np.array(normals), np.array(halves)), material, _EYE, np.asarray(centre, float), fill, waves)


def rounded(size: Vector, radius: float, material: str, centre: Vector = (0, 0, 0), *, bevel: float = 0.0, fill: float = 1.0) -> Part:
    """A box whose corners in the xy plane follow a circle of `radius`, and whose other edges are cut back by `bevel`."""
    half = np.asarray(size, float) / 2
    radius = min(radius, 0.95 * half[0], 0.95 * half[1])
    normals, halves = [*_EYE], [*half]
    for degrees in (22.5, 45.0, 67.5, 112.5, 135.0, 157.5):
        normal = np.array([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees)), 0.0])
        normals.append(normal)
        halves.append(float(np.abs(normal[:2]) @ (half[:2] - radius) + radius))
    for i in (0, 1):
        for sign in (1, -1):
            normals.append((_EYE[i] + sign * _EYE[2]) / np.sqrt(2))
            halves.append((half[i] + half[2] - bevel) / np.sqrt(2))
    return Part(Slabs(np.array(normals), np.array(halves)), material, _EYE, np.asarray(centre, float), fill)


def ball(radii: float | Vector, material: str, centre: Vector = (0, 0, 0), *, fill: float = 1.0, waves: Waves | None = None) -> Part:
    """A ball, or an ellipsoid by three radii."""
    return Part(Ellipsoid(np.broadcast_to(np.asarray(radii, float), 3)), material, _EYE, np.asarray(centre, float), fill, waves)


def rod(
    radii: float | Vector,
    length: float,
    material: str,
    centre: Vector = (0, 0, 0),
    axis: str | Vector = "z",
    *,
    fill: float = 1.0,
    waves: Waves | None = None,
) -> Part:
    """A cylinder of one or two radii along an axis."""
    rotation = align_z(_EYE[_AXES[axis]] if isinstance(axis, str) else axis)
    return Part(
        Cylinder(np.broadcast_to(np.asarray(radii, float), 2), length / 2), material, rotation, np.asarray(centre, float), fill, waves
    )


def tube(radius: float, wall: float, length: float, material: str, centre: Vector = (0, 0, 0), axis: str | Vector = "z") -> Parts:
    """A pipe: a cylinder and the bore taken away from it."""
    return (rod(radius, length, material, centre, axis), rod(radius - wall, length, material, centre, axis, fill=-1.0))


def plate(
    outline: Sequence[Vector] | np.ndarray,
    thickness: float,
    material: str,
    centre: Vector = (0, 0, 0),
    *,
    holes: Sequence[np.ndarray] = (),
    fill: float = 1.0,
) -> Part:
    """A polygon in the xy plane extruded along z."""
    middle = np.asarray(outline, float)
    lowest, highest = middle.min(axis=0), middle.max(axis=0)
    shift = (lowest + highest) / 2
    rings = (middle - shift, *(np.asarray(hole, float) - shift for hole in holes))
    return Part(Prism(rings, thickness / 2), material, _EYE, np.asarray(centre, float) + np.array([*shift, 0.0]), fill)


def wire(points: Sequence[Vector] | np.ndarray, radius: float, material: str, *, min_radius: float = 0.09) -> Parts:
    """A bent wire through `points` (n, 3). One thinner than a detector element is drawn wider and as much lighter, so that none of it is lost."""
    drawn = max(radius, min_radius)
    fill = (radius / drawn) ** 2
    path = np.asarray(points, float)
    return tuple(rod(drawn, float(np.linalg.norm(b - a)) + 0.4 * drawn, material, (a + b) / 2, b - a, fill=fill) for a, b in pairwise(path))


def circle(radius: float, count: int, centre: Vector = (0, 0), squash: float = 1.0) -> np.ndarray:
    """(count, 2) points on a circle, or on an ellipse whose y is squashed."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.asarray(centre, float) + radius * np.stack([np.cos(angle), squash * np.sin(angle)], axis=1)


def extent(parts: Iterable[Part]) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner (3,) of the box around the parts."""
    corners = np.concatenate([part.corners() for part in parts])
    return corners.min(axis=0), corners.max(axis=0)


def scaled(parts: Iterable[Part], factor: float) -> Parts:
    """The parts with every measure multiplied by `factor`; density waves keep their wavelength."""
    return tuple(replace(part, shape=part.shape.scaled(factor), centre=part.centre * factor) for part in parts)


def centred(parts: Iterable[Part]) -> Parts:
    """The parts moved so that the middle of the box around them is the origin."""
    kept = tuple(parts)
    lowest, highest = extent(kept)
    return move(kept, -(lowest + highest) / 2)
