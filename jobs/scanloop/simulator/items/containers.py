"""The bags themselves: shells, frames, wheels, zips, handles. x along the belt, z up; each leaves a free inside for its contents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scanloop.simulator.items.clothing import zip_line
from scanloop.simulator.parts import Parts, Waves, box, rod, rounded, tube, wire


@dataclass(frozen=True, eq=False)
class Container:
    """An empty bag."""

    kind: str
    """suitcase, trolley, backpack, holdall or tray."""
    parts: Parts
    """What it is made of, centred."""
    inside_cm: np.ndarray
    """(3,) full size of the free inside, centred."""


def _shell(size: np.ndarray, radius: float, wall: float, material: str, fill: float = 1.0) -> Parts:
    bevel = 0.45 * radius
    return (
        rounded(size, radius, material, bevel=bevel, fill=fill),
        rounded(size - 2 * wall, max(radius - wall, 0.3), material, bevel=bevel - 0.4 * wall, fill=-fill),
    )


def _frame(size: np.ndarray, radius: float, wall: float, material: str, z: float = 0.0) -> Parts:
    """A rim: a shell without top and bottom."""
    inner = size - (2 * wall, 2 * wall, 0)
    return rounded(size, radius, material, (0, 0, z)), rounded(inner, radius - wall, material, (0, 0, z), fill=-1.0)


def _around(size: np.ndarray, z: float, inset: float) -> np.ndarray:
    """A rounded rectangle of points (n, 3) around a bag at one height."""
    x, y, cut = size[0] / 2 - inset, size[1] / 2 - inset, 3.0
    corners = [
        (-x, -y + cut),
        (-x + cut, -y),
        (x - cut, -y),
        (x, -y + cut),
        (x, y - cut),
        (x - cut, y),
        (-x + cut, y),
        (-x, y - cut),
        (-x, -y + cut),
    ]
    return np.array([(*corner, z) for corner in corners])


def _pull_handle(size: np.ndarray) -> Parts:
    """Telescopic rails on the floor of the bag and the grip between them."""
    z = -size[2] / 2 + 1.0
    rails = [
        part
        for y in (-5.5, 5.5)
        for part in (
            box((0.86 * size[0], 1.7, 0.9), "aluminium", (0, y, z)),
            box((0.86 * size[0], 1.4, 0.6), "aluminium", (0, y, z), fill=-1.0),
        )
    ]
    return (
        *rails,
        box((2.4, 13.0, 1.6), "abs", (size[0] / 2 - 1.0, 0, z), bevel=0.4),
        *(rod(0.35, 2.0, "steel", (-0.42 * size[0], y, z), "y") for y in (-5.5, 5.5)),
    )


def _wheels(size: np.ndarray) -> Parts:
    """Four or two castors at one end."""
    parts: list = []
    for y in (-size[1] / 2 + 3.0, size[1] / 2 - 3.0):
        at = (-size[0] / 2 - 0.3, y, -size[2] / 2 + 2.2)
        parts += [
            rod(2.3, 1.9, "rubber", at, "y", fill=0.9),
            rod(0.5, 3.0, "steel", at, "y"),
            *tube(1.0, 0.2, 1.2, "steel", at, "y"),
            box((2.6, 3.2, 3.4), "abs", (at[0] + 2.2, y, at[2] + 0.6), bevel=0.4, fill=0.6),
        ]
    return tuple(parts)


def suitcase(rng: np.random.Generator) -> Container:
    """A hard-shell cabin case: ribbed polycarbonate, an aluminium frame or a zip between the halves, lock, wheels, pull handle."""
    size = np.array([rng.uniform(47, 51), rng.uniform(32, 35), rng.uniform(18, 21)])
    ribs = Waves(np.array([[0.0, 2 * np.pi / rng.uniform(2.4, 3.6), 0.0]]), np.array([0.35]), np.zeros(1))
    parts = [
        *_shell(size, 4.5, 0.32, "polycarbonate"),
        *(box((0.9 * size[0], 0.9 * size[1], 0.16), "polycarbonate", (0, 0, s * (size[2] / 2 - 0.25)), waves=ribs) for s in (-1, 1)),
    ]
    if rng.random() < 0.4:
        parts += _frame(np.array([size[0] + 0.3, size[1] + 0.3, 1.4]), 4.5, 0.35, "aluminium")
    else:
        parts += zip_line(_around(size, 0.0, 0.0), 0.55)
    parts += [
        box((4.6, 1.2, 2.6), "zinc", (6, -size[1] / 2 - 0.2, 0), bevel=0.2, fill=0.45),
        box((9.0, 1.8, 2.0), "abs", (-6, -size[1] / 2 - 0.9, 0), bevel=0.5),
    ]
    parts += [*_pull_handle(size), *_wheels(size)]
    return Container("suitcase", tuple(parts), size - (3.0, 2.0, 3.2))


def trolley(rng: np.random.Generator) -> Container:
    """A soft cabin case on a steel-wire frame, with an outer pocket, zips, wheels, pull handle."""
    size = np.array([rng.uniform(46, 51), rng.uniform(31, 35), rng.uniform(18, 21)])
    parts = [*_shell(size, 3.0, 0.22, "webbing"), box((0.94 * size[0], 0.94 * size[1], 0.2), "polyethylene", (0, 0, -size[2] / 2 + 0.4))]
    for z in (-size[2] / 2 + 0.7, size[2] / 2 - 0.7):
        parts += wire(_around(size, z, 0.5), 0.16, "steel")
    parts += [
        *zip_line(_around(size, 0.28 * size[2], 0.1), 0.5),
        *zip_line(np.array([[-0.36 * size[0], -0.3 * size[1], size[2] / 2], [0.36 * size[0], -0.3 * size[1], size[2] / 2]]), 0.5),
    ]
    parts += [
        rounded((2.2, 0.7, 0.5), 0.3, "zinc", (rng.uniform(-10, 10), -size[1] / 2, 0.28 * size[2])),
        *_pull_handle(size),
        *_wheels(size),
    ]
    return Container("trolley", tuple(parts), size - (2.4, 2.0, 3.0))


def _strap(rng: np.random.Generator, size: np.ndarray, y: float) -> Parts:
    """A padded strap with an adjuster."""
    z = -size[2] / 2 - 0.2
    slider = np.array([rng.uniform(-12, -4), y, z - 0.3])
    return (
        box((0.8 * size[0], 4.6, 0.9), "foam", (0, y, z), bevel=0.3, fill=2.0),
        box((0.9 * size[0], 2.4, 0.2), "webbing", (0, y, z - 0.2)),
        box((2.6, 3.4, 0.5), "abs", slider),
        box((1.2, 2.4, 0.5), "abs", slider, fill=-1.0),
    )


def backpack(rng: np.random.Generator) -> Container:
    """A backpack: thin cloth, back panel, padded straps with sliders, two zips."""
    size = np.array([rng.uniform(42, 48), rng.uniform(28, 32), rng.uniform(15, 19)])
    parts = [*_shell(size, 6.0, 0.16, "webbing"), box((0.88 * size[0], 0.86 * size[1], 0.9), "foam", (0, 0, -size[2] / 2 + 0.5), fill=1.5)]
    parts += [*_strap(rng, size, -7.0), *_strap(rng, size, 7.0), *zip_line(_around(size, 0.2 * size[2], 0.2)[:7], 0.5)]
    x = -0.1 * size[0]
    pocket = np.array([[x, -0.38 * size[1], size[2] / 2 - 0.5], [x + 5, 0.0, size[2] / 2], [x, 0.38 * size[1], size[2] / 2 - 0.5]])
    parts += [*zip_line(pocket, 0.45), rounded((1.6, 0.6, 0.4), 0.2, "zinc", (x + 4, 3, size[2] / 2))]
    return Container("backpack", tuple(parts), size - (3.0, 3.0, 2.4))


def holdall(rng: np.random.Generator) -> Container:
    """A leather or cloth holdall: handles, metal rings, feet, one zip along the top."""
    size = np.array([rng.uniform(43, 50), rng.uniform(25, 29), rng.uniform(19, 22)])
    parts = [
        *_shell(size, 5.0, 0.24, "leather" if rng.random() < 0.4 else "webbing"),
        box((0.85 * size[0], 0.8 * size[1], 0.3), "polyethylene", (0, 0, -size[2] / 2 + 0.5)),
    ]
    parts += zip_line(np.array([[-0.42 * size[0], 0, size[2] / 2 - 0.2], [0.42 * size[0], 0, size[2] / 2 - 0.2]]), 0.7, "brass")
    for y in (-0.36 * size[1], 0.36 * size[1]):
        bend = [(0.28 * size[0] * np.cos(a), y + np.sign(y) * 5.0 * np.sin(a), size[2] / 2 - 0.4) for a in np.linspace(0, np.pi, 9)]
        parts += wire(bend, 0.75, "leather")
        for side in (-1, 1):
            at = np.array([side * 0.28 * size[0], y, size[2] / 2 - 0.8])
            parts += wire([np.add(at, (1.4 * np.cos(a), 1.4 * np.sin(a), 0)) for a in np.linspace(0, 2 * np.pi, 10)], 0.2, "brass")
    parts += [
        rod(0.7, 0.6, "brass", (sx * 0.38 * size[0], sy * 0.34 * size[1], -size[2] / 2 - 0.2), fill=0.8) for sx in (-1, 1) for sy in (-1, 1)
    ]
    return Container("holdall", tuple(parts), size - (3.5, 3.0, 3.0))


def tray(rng: np.random.Generator) -> Container:
    """A plastic checkpoint tray: floor, slanted walls, thick rim. What is in it lies in one layer."""
    size = np.array([rng.uniform(50, 52), rng.uniform(34, 36), 13.0])
    rim = _frame(np.array([size[0], size[1], 1.2]), 3.0, 1.0, "polyethylene", 5.6)
    walls = _frame(np.array([size[0] - 2.0, size[1] - 2.0, 11.0]), 3.0, 0.35, "polyethylene")
    parts = (*walls, *rim, box((size[0] - 3, size[1] - 3, 0.4), "polyethylene", (0, 0, -5.6)))
    return Container("tray", parts, np.array([size[0] - 5, size[1] - 5, 10.0]))


CONTAINERS: dict[str, Callable[[np.random.Generator], Container]] = {
    "suitcase": suitcase,
    "trolley": trolley,
    "backpack": backpack,
    "holdall": holdall,
    "tray": tray,
}
"""Kinds of bag by name."""
