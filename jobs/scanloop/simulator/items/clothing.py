"""Soft things: clothes with folds, shoes, belts, a towel."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from scanloop.simulator.parts import Part, Parts, Waves, ball, box, centred, circle, move, plate, rod, turn, wire


def folds(rng: np.random.Generator, count: int, shortest_cm: float, longest_cm: float, depth: float) -> Waves:
    """Irregular folds: `count` waves mostly across the layers, wavelengths between two bounds, that together vary density by `depth`."""
    wavelengths = np.exp(rng.uniform(np.log(shortest_cm), np.log(longest_cm), count))
    heading = rng.uniform(0, 2 * np.pi, count)
    tilt = rng.normal(0, 0.35, count)
    unit = np.stack([np.cos(heading) * np.cos(tilt), np.sin(heading) * np.cos(tilt), np.sin(tilt)], axis=1)
    weights = rng.uniform(0.5, 1.0, count)
    return Waves(unit * (2 * np.pi / wavelengths)[:, None], depth * weights / weights.sum(), rng.uniform(0, 2 * np.pi, count))


def layers(rng: np.random.Generator, inside_cm: np.ndarray) -> list[Parts]:
    """Clothes that fill a bag: folded garments, wide and thin, spread over all of it."""
    garments = []
    for _ in range(int(rng.integers(4, 10))):
        size = inside_cm * (rng.uniform(0.3, 0.62), rng.uniform(0.45, 0.92), rng.uniform(0.13, 0.32))
        room = inside_cm - size
        garments.append(move(garment(rng, size), room * rng.uniform(-0.5, 0.5, 3), turn("z", rng.normal(0, 8))))
    return garments


def garment(rng: np.random.Generator, size: np.ndarray) -> Parts:
    """One folded garment."""
    material = "denim" if rng.random() < 0.25 else "textile"
    waves = folds(rng, 4, 1.1, 7.0, rng.uniform(0.45, 0.9))
    weight = rng.uniform(0.6, 1.3)
    body = (
        ball(size / 2 * 1.15, material, waves=waves, fill=weight)
        if rng.random() < 0.25
        else box(size, material, bevel=0.45 * float(size[2]), waves=waves, fill=weight)
    )
    parts = [body]
    if rng.random() < 0.6:
        y = rng.uniform(-0.35, 0.35) * size[1]
        parts.append(box((0.85 * size[0], 0.7, 0.5), "textile", (0, y, 0.3 * size[2]), fill=1.6))
    if rng.random() < 0.4:
        parts += _buttons(rng, size)
    elif rng.random() < 0.35:
        parts += zip_line(np.array([[-0.35 * size[0], 0.1 * size[1], 0.0], [0.2 * size[0], 0.18 * size[1], 0.0]]), 0.5)
    return tuple(parts)


def _buttons(rng: np.random.Generator, size: np.ndarray) -> list[Part]:
    """A row of buttons: plastic, or brass on denim."""
    material, fill = ("brass", 0.6) if rng.random() < 0.3 else ("abs", 1.0)
    count, y = int(rng.integers(3, 6)), rng.uniform(-0.3, 0.3) * size[1]
    return [
        rod(0.55, 0.25, material, (x, y + rng.normal(0, 0.3), 0.25 * size[2]), fill=fill) for x in np.linspace(-0.38, 0.38, count) * size[0]
    ]


def zip_line(points: np.ndarray, width: float, material: str = "zinc", fill: float = 0.16) -> Parts:
    """A zip along a path (n, 3): a thin strip whose density alternates like its teeth, on a tape."""
    parts: list[Part] = []
    for a, b in pairwise(points):
        along = b - a
        length = float(np.linalg.norm(along))
        x = along / length
        z = np.cross(x, (0.0, 1.0, 0.0) if abs(x[1]) < 0.9 else (1.0, 0.0, 0.0))
        z /= np.linalg.norm(z)
        rotation = np.stack([x, np.cross(z, x), z], axis=1)
        teeth = Waves(np.array([[2 * np.pi / 0.62, 0.0, 0.0]]), np.array([0.85]), np.zeros(1))
        strip = (box((length, width, width), material, fill=fill, waves=teeth), box((length, 2.6 * width, 0.15), "webbing"))
        parts += move(strip, (a + b) / 2, rotation)
    return tuple(parts)


def shoe(rng: np.random.Generator) -> Parts:
    """One shoe: sole with tread and heel, upper, sometimes a steel shank, eyelets."""
    length = rng.uniform(24, 29)
    width = 0.36 * length
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    blunt_x, blunt_y = (np.sign(wave) * np.abs(wave) ** 0.72 for wave in (np.cos(angle), np.sin(angle)))
    x = 0.5 * length * blunt_x
    y = width * 0.5 * blunt_y * (0.82 + 0.24 * np.cos(angle) - 0.22 * np.cos(2 * angle))
    sole = np.stack([x, y + 0.05 * width * np.cos(angle)], axis=1)
    is_trainer = rng.random() < 0.55
    tread = Waves(np.array([[2 * np.pi / rng.uniform(0.9, 1.8), 0, 0]]), np.array([0.4]), np.zeros(1))
    parts = [plate(sole, 2.0 if is_trainer else 1.0, "rubber", fill=0.62 if is_trainer else 1.0)]
    parts.append(box((0.62 * length, 0.55 * width, 0.6), "rubber", (0.1 * length, 0, -0.9), fill=0.5, waves=tread))
    if not is_trainer:
        parts.append(box((0.24 * length, 0.6 * width, 2.2), "rubber", (-0.34 * length, 0, -1.5), bevel=0.5))
        if rng.random() < 0.7:
            parts.append(box((0.4 * length, 1.5, 0.16), "steel", (-0.08 * length, 0, 0.1)))
    thick = 0.32
    radii = np.array([0.49 * length, 0.46 * width, 4.2])
    upper = (ball(radii, "leather", (0, 0, 1.5), fill=0.9), ball(radii - thick, "leather", (0, 0, 1.5), fill=-0.9))
    parts += [*upper, ball((0.2 * length, 0.3 * width, 2.6), "foam", (0.28 * length, 0, 1.8))]
    for k in range(4):
        parts += [rod(0.28, 0.15, "brass", (0.02 * length + 1.5 * k, side * 1.5, 4.6), fill=0.55) for side in (-1, 1)]
    return centred(parts)


def shoe_pair(rng: np.random.Generator) -> Parts:
    """Two shoes, one turned, packed sole to sole or side by side."""
    one = shoe(rng)
    other = move(one, rotation=turn("z", 180 + rng.normal(0, 4)))
    if rng.random() < 0.5:
        return centred((*one, *move(other, (rng.normal(0, 1), 10.4, rng.normal(0, 0.4)))))
    return centred((*one, *move(other, (0, rng.normal(0, 1.0), 6.5), turn("x", 180))))


def belt(rng: np.random.Generator) -> Parts:
    """A coiled leather belt with its buckle."""
    parts: list[Part] = []
    turns, radius = int(rng.integers(3, 5)), rng.uniform(4.0, 5.2)
    for k in range(turns):
        r = radius - 0.62 * k
        parts += [rod((r, 0.85 * r), 3.4, "leather"), rod((r - 0.36, 0.85 * r - 0.36), 3.4, "leather", fill=-1.0)]
    outer = np.array([(-2.2, -2.4), (2.2, -2.4), (2.2, 2.4), (-2.2, 2.4)])
    material = str(rng.choice(["zinc", "brass", "steel"]))
    buckle = (
        plate(outer, 0.45, material, holes=[0.72 * outer]),
        rod(0.2, 4.4, material, axis="x"),
        rod(0.19, 4.6, material, (0, 0.6, 0.3), axis="x"),
    )
    parts += move(buckle, (radius + 0.4, 0.5, 0), turn("y", 90) @ turn("z", 90))
    parts += [
        rod(0.16, 0.5, material, (radius * np.cos(a), 0.85 * radius * np.sin(a), 0), (np.cos(a), np.sin(a), 0)) for a in (1.0, 1.5, 2.0)
    ]
    return centred(parts)


def towel_roll(rng: np.random.Generator) -> Parts:
    """A rolled towel: rings of cloth."""
    radius, length = rng.uniform(3.5, 5.5), rng.uniform(18, 28)
    waves = folds(rng, 3, 1.0, 3.0, 0.7)
    parts = [rod(radius, length, "textile", axis="x", waves=waves, fill=0.9), rod(0.3 * radius, length, "textile", axis="x", fill=-0.5)]
    return centred(parts)


def hanger(rng: np.random.Generator) -> Parts:
    """A wire coat hanger."""
    half = rng.uniform(16, 19)
    points = [(0, -9, 0), (0.5, -5.5, 0), (-half, 4, 0), (half, 4, 0), (0.5, -5.5, 0)]
    hook = [(0.0, -9.0, 0.0), *((1.6 * np.sin(a) + 0.0, -9.0 - 1.6 + 1.6 * np.cos(a), 0.0) for a in np.linspace(0.3, 4.2, 8))]
    return centred((*wire(points, 0.13, "steel"), *wire(hook, 0.13, "steel")))


def glasses_case(rng: np.random.Generator) -> Parts:
    """A hard case with spectacles in it."""
    size = np.array([16.0, 6.2, 4.0])
    radii = size / 2
    case = (ball(radii, "aluminium", fill=0.5), ball(radii - 0.14, "aluminium", fill=-0.5), ball(radii - 0.14, "foam"))
    lenses = [plate(circle(2.4, 12, (side * 3.2, 0), 0.75), 0.22, "polycarbonate") for side in (-1, 1)]
    rims = [
        part
        for side in (-1, 1)
        for part in wire([(side * 3.2 + 2.5 * np.cos(a), 1.9 * np.sin(a), 0) for a in np.linspace(0, 2 * np.pi, 11)], 0.09, "steel")
    ]
    arms = [part for z in (-0.5, 0.5) for part in wire([(-6.0, 1.2, z), (6.5, 0.6, z), (7.2, -0.8, z)], 0.1, "steel")]
    return centred((*case, *lenses, *rims, *arms, *wire([(-0.8, 0.3, 0), (0.0, 0.8, 0), (0.8, 0.3, 0)], 0.1, "steel")))


CLOTHING: dict[str, Callable[[np.random.Generator], Parts]] = {
    "shoe": shoe,
    "shoe_pair": shoe_pair,
    "belt": belt,
    "towel_roll": towel_roll,
    "hanger": hanger,
    "glasses_case": glasses_case,
}
"""Soft and worn things by name; clothes themselves come in `layers`."""
