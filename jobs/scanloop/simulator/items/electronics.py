"""Things with circuit boards and batteries: boards are green and busy, cells blue-green, cases pale."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scanloop.simulator.parts import Part, Parts, Waves, ball, box, centred, circle, move, plate, rod, rounded, tube, turn, wire


def board(rng: np.random.Generator, width: float, height: float, chips: int) -> Parts:
    """A populated circuit board in the xy plane: copper planes, chips, shields, capacitors, connectors."""
    traces = Waves(np.array([[2 * np.pi / 0.9, 1.1, 0], [0.7, 2 * np.pi / 1.3, 0]]), np.array([0.35, 0.35]), rng.uniform(0, 6, 2))
    parts = [box((width, height, 0.16), "pcb"), box((0.94 * width, 0.94 * height, 0.007), "copper", waves=traces)]
    for _ in range(chips):
        size = np.exp(rng.uniform(np.log(0.5), np.log(max(0.8, 0.28 * min(width, height) + 0.5)), 2))
        at = (rng.uniform(-0.45, 0.45) * (width - size[0]), rng.uniform(-0.45, 0.45) * (height - size[1]), rng.choice([-0.2, 0.2]))
        kind = rng.random()
        if kind < 0.45:
            parts += [box((*size, 0.22), "silicon", at), box((*size * 0.8, 0.05), "copper", at)]
        elif kind < 0.65:
            parts.append(box((*size, 0.05), "steel", at))
        elif kind < 0.85:
            parts.append(rod(0.28, 0.7, "aluminium", at, fill=0.9))
        else:
            parts.append(box((0.9, 0.7, 0.5), "copper", at, fill=0.35))
    return tuple(parts)


def cells(rng: np.random.Generator, count: int, *, is_round: bool) -> Parts:
    """A pack of lithium cells side by side along x."""
    if is_round:
        one = (rod(0.9, 6.5, "lithium_cell", axis="y"), *tube(0.92, 0.03, 6.5, "steel", axis="y"))
        return centred([part for k in range(count) for part in move(one, (1.9 * k, rng.normal(0, 0.03), 0))])
    one = (box((4.6, 7.5, 0.45), "lithium_cell", bevel=0.1), box((4.7, 7.6, 0.05), "aluminium"))
    return centred([part for k in range(count) for part in move(one, (4.9 * k, 0, 0))])


def laptop(rng: np.random.Generator) -> Parts:
    """A closed laptop: two shells, glass, keyboard, board with heat pipe and fan, pack of cells, hinges."""
    width, depth = rng.uniform(29, 34), rng.uniform(20, 23)
    shell = "aluminium" if rng.random() < 0.55 else "abs"
    keys = Waves(np.array([[2 * np.pi / 1.9, 0, 0], [0, 2 * np.pi / 1.9, 0]]), np.array([0.45, 0.45]), np.zeros(2))
    parts = [
        rounded((width, depth, 0.12), 1.2, shell, (0, 0, 0.95)),
        rounded((width, depth, 0.12), 1.2, shell, (0, 0, -0.95)),
        box((width - 0.6, depth - 1.2, 0.12), "glass", (0, 0.2, 0.7)),
        box((width - 3.4, 0.42 * depth, 0.22), "abs", (0, -0.18 * depth, 0.1), waves=keys),
        box((width - 3.0, 0.44 * depth, 0.012), "steel", (0, -0.18 * depth, 0.0)),
    ]
    parts += move(board(rng, 0.62 * width, 0.3 * depth, 22), (-0.1 * width, -0.28 * depth, -0.4))
    parts += move(cells(rng, int(rng.integers(3, 5)), is_round=rng.random() < 0.35), (0.02 * width, 0.26 * depth, -0.45))
    fan = np.array([0.3 * width, -0.3 * depth, -0.4])
    parts += [*tube(2.5, 0.12, 0.5, "aluminium", fan), rod(0.8, 0.5, "copper", fan, fill=0.6)]
    parts += wire([np.add(fan, (-2.0, 1.6, 0)), np.add(fan, (-5.0, 1.8, 0)), np.add(fan, (-9.0, 0.6, 0))], 0.28, "copper")
    parts += [rod(0.35, 3.2, "steel", (side * 0.32 * width, -0.48 * depth, 0.2), "x") for side in (-1, 1)]
    parts += [rod(0.16, 1.4, "steel", (sx * (width / 2 - 1), sy * (depth / 2 - 1), -0.3)) for sx in (-1, 1) for sy in (-1, 1)]
    parts.append(box((9.0, 5.6, 0.1), "glass", (0, 0.3 * depth, 0.1)))
    return centred(parts)


def phone(rng: np.random.Generator) -> Parts:
    """A smartphone."""
    width, height = rng.uniform(6.6, 7.6), rng.uniform(14, 16)
    parts = [
        rounded((width, height, 0.8), 0.9, "aluminium"),
        rounded((width - 0.4, height - 0.4, 0.75), 0.8, "aluminium", fill=-1.0),
        rounded((width - 0.1, height - 0.1, 0.09), 0.9, "glass", (0, 0, 0.4)),
        rounded((width - 0.1, height - 0.1, 0.07), 0.9, "glass", (0, 0, -0.4)),
        box((0.55 * width, 0.55 * height, 0.42), "lithium_cell", (0.12 * width, 0.08 * height, 0)),
    ]
    parts += move(board(rng, 0.9 * width, 0.24 * height, 9), (0, -0.34 * height, 0))
    parts += move(board(rng, 0.26 * width, 0.5 * height, 4), (-0.32 * width, 0.1 * height, 0))
    parts += [rod(0.42, 0.5, "steel", (-0.3 * width, -0.42 * height + 1.4 * k, -0.1), fill=0.7) for k in range(2)]
    return centred(parts)


def tablet(rng: np.random.Generator) -> Parts:
    """A tablet computer."""
    width, height = rng.uniform(23, 26), rng.uniform(16, 18)
    parts = [
        rounded((width, height, 0.12), 1.0, "aluminium", (0, 0, -0.3)),
        rounded((width, height, 0.1), 1.0, "glass", (0, 0, 0.3)),
        *(box((7.6, 11.5, 0.3), "lithium_cell", (x, 0, 0)) for x in (-4.2, 4.2)),
    ]
    parts += move(board(rng, 3.6, 12.0, 9), (0.42 * width - 0.6, 0, 0))
    return centred(parts)


def power_bank(rng: np.random.Generator) -> Parts:
    """A power bank of round or flat cells with its board."""
    is_round = rng.random() < 0.6
    pack = cells(rng, int(rng.integers(2, 5)) if is_round else 2, is_round=is_round)
    size = np.max([part.corners().max(axis=0) for part in pack], axis=0) * 2 + (0.8, 2.4, 0.6)
    case = (rounded(size, 0.8, "abs"), rounded(size - 0.4, 0.7, "abs", fill=-1.0))
    return centred((*case, *move(pack, (0, 0.8, 0)), *move(board(rng, float(size[0]) - 0.8, 1.4, 4), (0, -float(size[1]) / 2 + 1.1, 0))))


def charger(rng: np.random.Generator) -> Parts:
    """A laptop power supply with its coiled cable."""
    width, depth, height = rng.uniform(9, 12), rng.uniform(4.2, 5.2), rng.uniform(2.6, 3.1)
    parts = [rounded((width, depth, height), 0.5, "abs"), rounded((width - 0.5, depth - 0.5, height - 0.5), 0.4, "abs", fill=-1.0)]
    parts += board(rng, width - 1.0, depth - 0.8, 6)
    parts += [box((2.4, 2.2, 1.9), "ferrite", (-0.6, 0.2, 0.1), fill=0.8), box((1.3, 2.5, 1.2), "copper", (-0.6, 0.2, 0.1), fill=0.5)]
    parts += [rod(0.85, 2.4, "aluminium", (0.3 * width, 0, 0), "y", fill=0.7), box((2.2, 0.15, 1.8), "aluminium", (-0.3 * width, 1.4, 0))]
    parts += move(cable(rng), (0, depth + 2.0, 0))
    return centred(parts)


def cable(rng: np.random.Generator) -> Parts:
    """A coiled cable: copper in PVC, with two plugs."""
    radius, turns = rng.uniform(2.6, 4.2), rng.uniform(2.2, 4.5)
    angle = np.arange(0, turns * 2 * np.pi, 0.5)
    drift = np.cumsum(rng.normal(0, 0.06, (len(angle), 2)), axis=0)
    r = radius * (1 + 0.05 * np.sin(3.1 * angle))
    path = np.stack([r * np.cos(angle) + drift[:, 0], 0.6 * r * np.sin(angle) + drift[:, 1], 0.12 * angle], axis=1)
    parts = [*wire(path, 0.22, "pvc"), *wire(path, 0.075, "copper")]
    for end in (path[0], path[-1]):
        parts += [box((2.2, 1.1, 0.6), "abs", end, bevel=0.15), box((1.6, 0.7, 0.35), "steel", end, fill=0.3)]
    return centred(parts)


def headphones(rng: np.random.Generator) -> Parts:
    """Over-ear headphones: a steel band, two cups with magnets."""
    radius = rng.uniform(7.6, 8.6)
    band = [(radius * np.cos(a), radius * 1.05 * np.sin(a), 0) for a in np.linspace(0.05, np.pi - 0.05, 13)]
    parts = [*wire(band, 0.2, "steel"), *wire([(x, y + 0.5, z) for x, y, z in band[2:-2]], 0.6, "foam")]
    for side in (-1, 1):
        at = np.array([side * radius, -1.5, 0.0])
        parts += [*tube(3.6, 0.3, 2.2, "abs", at, "x"), rod(3.4, 0.25, "abs", at, "x"), *tube(3.7, 1.2, 1.4, "foam", at, "x")]
        parts += [rod(1.5, 0.5, "steel", at, "x"), rod(1.9, 0.2, "copper", at, "x", fill=0.4)]
    return centred(parts)


def camera(rng: np.random.Generator) -> Parts:
    """A camera body with its lens."""
    parts = [
        box((12.6, 8.2, 4.6), "abs", bevel=0.8, fill=0.5),
        box((12.0, 7.6, 0.15), "aluminium", (0, 0, -1.6)),
        box((2.6, 6.4, 3.4), "lithium_cell", (-4.6, 0, 0)),
    ]
    parts += move(board(rng, 9.5, 6.2, 12), (0.5, 0, -1.0))
    length = rng.uniform(4.5, 8.5)
    parts += tube(3.3, 0.35, length, "aluminium", (0.8, 0, 2.3 + length / 2))
    for share in (0.12, 0.4, 0.62, 0.92):
        parts.append(ball((2.7, 2.7, rng.uniform(0.35, 0.8)), "glass", (0.8, 0, 2.3 + share * length)))
    return centred(parts)


def hair_dryer(rng: np.random.Generator) -> Parts:
    """A hair dryer: barrel and grip, motor, heating coil. Its outline is a gun's."""
    length = rng.uniform(15, 19)
    parts = [
        *tube(3.6, 0.25, length, "abs", axis="x"),
        rod(1.6, 3.6, "steel", (-length * 0.22, 0, 0), "x", fill=0.55),
        rod(1.3, 2.4, "copper", (-length * 0.22, 0, 0), "x", fill=0.4),
    ]
    parts += [rod(2.4, 0.1, "ceramic", (length * share, 0, 0), "x") for share in (0.08, 0.2, 0.32)]
    for k in range(6):
        parts += [*tube(2.2, 0.16, 0.16, "steel", (length * (0.08 + 0.05 * k), 0, 0), "x")]
    rotation = turn("z", rng.uniform(-12, 12))
    grip = (
        rounded((3.4, 11.0, 3.0), 1.2, "abs"),
        rounded((2.9, 10.6, 2.5), 1.0, "abs", fill=-1.0),
        box((1.2, 3.2, 1.2), "copper", (0, -1.5, 0), fill=0.3),
    )
    parts += move(grip, (-length * 0.2, 8.2, 0), rotation)
    return centred(parts)


def batteries(rng: np.random.Generator) -> Parts:
    """A few loose AA cells."""
    parts: list[Part] = []
    for k in range(int(rng.integers(2, 5))):
        one = (
            rod(0.7, 4.9, "zinc", axis="y", fill=0.42),
            *tube(0.71, 0.04, 4.9, "steel", axis="y"),
            rod(0.25, 0.3, "steel", (0, 2.6, 0), "y"),
        )
        parts += move(one, (1.6 * k, rng.normal(0, 0.6), 0), turn("z", rng.normal(0, 10)))
    return centred(parts)


def watch(rng: np.random.Generator) -> Parts:
    """A wrist watch."""
    radius = rng.uniform(1.7, 2.1)
    parts = [rod(radius, 0.9, "steel", fill=0.55), rod(radius - 0.2, 0.15, "glass", (0, 0, 0.5))]
    links = 9
    for side in (-1, 1):
        parts += [box((1.7, 0.62, 0.3), "steel", (0, side * (radius + 0.2 + 0.7 * k), 0), bevel=0.08, fill=0.85) for k in range(links)]
    return centred([*parts, plate(circle(0.5, 8, (0, 0)), 0.9, "brass")])


ELECTRONICS: dict[str, Callable[[np.random.Generator], Parts]] = {
    "laptop": laptop,
    "phone": phone,
    "tablet": tablet,
    "power_bank": power_bank,
    "charger": charger,
    "cable": cable,
    "headphones": headphones,
    "camera": camera,
    "hair_dryer": hair_dryer,
    "batteries": batteries,
    "watch": watch,
}
"""Electronics by name."""
