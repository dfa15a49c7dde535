"""Everything else that travels: bottles, toiletries, books, food, metal odds and ends, tools that look like trouble."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scanloop.simulator.parts import Part, Parts, Waves, ball, box, centred, circle, move, plate, rod, rounded, tube, turn, wire


def bottle(rng: np.random.Generator) -> Parts:
    """A plastic bottle, partly full. x along it."""
    radius, length = rng.uniform(2.8, 3.8), rng.uniform(14, 21)
    level = rng.uniform(0.45, 0.97)
    liquid = str(rng.choice(["water", "gel", "oil"], p=[0.7, 0.2, 0.1]))
    parts = [
        *tube(radius, 0.06, length, "polyethylene", axis="x"),
        ball((2.6, radius, radius), "polyethylene", (length / 2, 0, 0), fill=0.06),
    ]
    parts.append(rod(radius - 0.06, level * length, liquid, (-(1 - level) * length / 2, 0, 0), "x"))
    if level > 0.85:
        parts.append(ball((2.4, radius - 0.1, radius - 0.1), liquid, (length / 2, 0, 0), fill=0.5))
    parts += [
        *tube(1.3, 0.15, 3.6, "polyethylene", (length / 2 + 2.8, 0, 0), "x"),
        rod(1.5, 1.6, "polyethylene", (length / 2 + 4.0, 0, 0), "x", fill=0.6),
    ]
    return centred(parts)


def glass_bottle(rng: np.random.Generator) -> Parts:
    """A perfume or spirits bottle of thick glass."""
    size = np.array([rng.uniform(5, 8), rng.uniform(4, 6), rng.uniform(2.6, 4)])
    wall = rng.uniform(0.35, 0.7)
    parts = [rounded(size, 0.8, "glass"), rounded(size - 2 * wall, 0.6, "glass", fill=-1.0), rounded(size - 2 * wall, 0.6, "oil", fill=0.9)]
    parts += [rod(0.8, 1.6, "aluminium", (size[0] / 2 + 0.8, 0, 0), "x", fill=0.6), rod(0.12, size[0], "polyethylene", axis="x")]
    parts.append(rounded((2.4, 2.2, 2.2), 0.4, "abs", (size[0] / 2 + 1.6, 0, 0)))
    return centred(parts)


def thermos(rng: np.random.Generator) -> Parts:
    """A double-walled steel flask, empty or full."""
    radius, length = rng.uniform(3.0, 3.7), rng.uniform(17, 23)
    parts = [*tube(radius, 0.06, length, "steel", axis="x"), *tube(radius - 0.55, 0.06, length - 1.4, "steel", (0.3, 0, 0), "x")]
    parts += [rod(radius, 0.07, "steel", (-length / 2, 0, 0), "x"), rod(radius - 0.55, 0.07, "steel", (-length / 2 + 1.0, 0, 0), "x")]
    parts += [
        rod(radius - 0.5, 2.8, "abs", (length / 2 + 0.6, 0, 0), "x", fill=0.55),
        *tube(radius - 0.3, 0.06, 3.2, "steel", (length / 2 + 1.0, 0, 0), "x"),
    ]
    if rng.random() < 0.5:
        parts.append(rod(radius - 0.65, 0.8 * length, "water", (-0.06 * length, 0, 0), "x"))
    return centred(parts)


def aerosol(rng: np.random.Generator) -> Parts:
    """A spray can: thin metal, a dome, liquid half way, a dip tube."""
    radius, length = rng.uniform(2.1, 2.8), rng.uniform(12, 17)
    material, wall = ("steel", 0.025) if rng.random() < 0.5 else ("aluminium", 0.06)
    parts = [*tube(radius, wall, length, material, axis="x")]
    for end, bulge in ((length / 2, 1.2), (-length / 2, -0.9)):
        parts += [
            ball((abs(bulge), radius, radius), material, (end, 0, 0), fill=0.12),
            rod(radius, 0.1, material, (end, 0, 0), "x", fill=0.6),
        ]
    level = rng.uniform(0.3, 0.8)
    parts += [
        rod(radius - wall, level * length, "gel", (-(1 - level) * length / 2, 0, 0), "x", fill=0.85),
        rod(0.15, length, "polyethylene", axis="x"),
    ]
    parts += [
        rod(0.9, 0.8, "steel", (length / 2 + 1.3, 0, 0), "x", fill=0.3),
        rod(radius * 0.9, 2.6, "polyethylene", (length / 2 + 2.2, 0, 0), "x", fill=0.3),
    ]
    return centred(parts)


def drink_can(rng: np.random.Generator) -> Parts:
    """An aluminium can, full."""
    radius, length = 3.3, rng.uniform(11, 15)
    parts = [*tube(radius, 0.03, length, "aluminium", axis="x"), rod(radius - 0.05, 0.95 * length, "water", axis="x")]
    return centred([*parts, *(rod(radius - 0.3, 0.06, "aluminium", (s * length / 2, 0, 0), "x") for s in (-1, 1))])


def book(rng: np.random.Generator) -> Parts:
    """A book with a cover denser than its pages; the spine side is rounder."""
    size = np.array([rng.uniform(17, 24), rng.uniform(11, 16), rng.uniform(1.4, 4.5)])
    pages = Waves(np.array([[0, 0, 2 * np.pi / 0.4]]), np.array([0.25]), np.zeros(1))
    parts = [box(size - (0.6, 0.6, 0.3), "paper", waves=pages)]
    parts += [box((size[0], size[1], 0.15), "paper", (0, 0, s * size[2] / 2), fill=1.3) for s in (-1, 1)]
    return centred([*parts, box((size[0], 0.2, size[2]), "paper", (0, -size[1] / 2, 0), fill=1.3)])


def notebook(rng: np.random.Generator) -> Parts:
    """A spiral notebook."""
    width, height = rng.uniform(20, 26), rng.uniform(14, 18)
    parts = [box((width, height, 1.1), "paper", fill=0.9)]
    for x in np.arange(-width / 2 + 1, width / 2 - 1, 1.25):
        parts += wire(
            [(x + 0.3 * a / 6.3, -height / 2 + 0.75 * np.cos(a), 0.75 * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 6)],
            0.06,
            "steel",
            min_radius=0.1,
        )
    return centred(parts)


def magazines(rng: np.random.Generator) -> Parts:
    """A stack of papers, not quite aligned."""
    parts: list[Part] = []
    for k in range(int(rng.integers(2, 5))):
        parts += move(
            [box((28, 20, rng.uniform(0.3, 0.7)), "paper", fill=1.2)],
            (rng.normal(0, 0.6), rng.normal(0, 0.6), 0.8 * k),
            turn("z", rng.normal(0, 3)),
        )
    return centred(parts)


def keys(rng: np.random.Generator) -> Parts:
    """A ring of keys with a fob."""
    ring = wire([(1.4 * np.cos(a), 1.4 * np.sin(a), 0) for a in np.linspace(0, 2 * np.pi, 13)], 0.12, "steel")
    parts: list[Part] = [*ring]
    for _ in range(int(rng.integers(2, 6))):
        material = "brass" if rng.random() < 0.6 else "steel"
        teeth = rng.uniform(0.25, 0.55, 5)
        bit = [(1.6, 0.35), (1.6, -0.35), *((2.3 + 0.55 * k, -t) for k, t in enumerate(teeth)), (5.2, -0.1), (5.4, 0.2), (4.9, 0.35)]
        one = (plate(circle(1.15, 12, (0.6, 0)), 0.24, material, holes=[circle(0.35, 8, (-0.1, 0))]), plate(bit, 0.24, material))
        parts += move(one, (1.1, 0, rng.normal(0, 0.3)), turn("y", rng.normal(0, 14)))
        parts = list(move(parts, rotation=turn("z", rng.uniform(35, 80))))
    if rng.random() < 0.5:
        parts += [
            rounded((4.0, 2.4, 1.0), 0.7, "abs", (-3.4, 0, 0)),
            box((2.6, 1.6, 0.15), "pcb", (-3.4, 0, 0)),
            rod(0.9, 0.3, "steel", (-3.0, 0, 0.2), fill=0.6),
        ]
    return centred(parts)


def coins(rng: np.random.Generator) -> Parts:
    """Loose coins in a small heap."""
    parts: list[Part] = []
    for _ in range(int(rng.integers(4, 11))):
        coin = rod(rng.uniform(0.85, 1.3), 0.2, str(rng.choice(["copper", "zinc", "brass"])))
        parts += move([coin], rng.normal(0, (1.9, 1.9, 0.3)), turn("x", rng.normal(0, 18)) @ turn("y", rng.normal(0, 18)))
    return centred(parts)


def umbrella(rng: np.random.Generator) -> Parts:
    """A folded pocket umbrella: shaft, ribs, cloth, handle. x along it."""
    length, turned = rng.uniform(19, 25), rng.uniform(0, 2)
    parts = [
        *tube(0.5, 0.08, length, "steel", axis="x"),
        rod((2.1, 2.3), length * 0.86, "textile", axis="x", fill=1.1),
        rod(1.5, 4.2, "abs", (-length / 2 - 1.6, 0, 0), "x"),
    ]
    for k in range(8):
        angle = turned + k * np.pi / 4
        for r in (1.1, 1.6):
            y, z = r * np.cos(angle), r * np.sin(angle)
            parts += wire([(-0.36 * length, y, z), (0.44 * length, 0.8 * y, 0.8 * z)], 0.1, "steel")
    parts.append(rod(0.7, 1.8, "steel", (0.46 * length, 0, 0), "x", fill=0.6))
    return centred(parts)


def toiletry_bag(rng: np.random.Generator) -> Parts:
    """A pouch of tubes, a razor, a toothbrush, a cream tin and nail clippers."""
    parts: list[Part] = [rounded((22, 13, 7), 2.5, "webbing", bevel=1.2), rounded((21.6, 12.6, 6.6), 2.4, "webbing", bevel=1.1, fill=-1.0)]
    parts += move(
        (*tube(1.7, 0.05, 12.5, "polyethylene", axis="x"), rod(1.65, 12.0, "gel", axis="x"), rod(1.1, 1.8, "abs", (7.2, 0, 0), "x")),
        (-1.5, -3.6, 0),
        turn("z", rng.normal(0, 8)),
    )
    razor = (rod(0.55, 9.5, "abs", axis="x"), box((1.2, 4.2, 0.8), "abs", (5.2, 0, 0)), box((0.7, 3.8, 0.12), "steel", (5.3, 0, 0.3)))
    parts += move(razor, (1.0, 0.4, 1.0), turn("z", rng.normal(0, 20)))
    parts += move(
        (rod(0.45, 16.5, "abs", axis="x"), box((2.6, 0.9, 1.2), "polyethylene", (8.0, 0, 0.6), fill=0.5)),
        (0, 3.2, -0.6),
        turn("z", rng.normal(0, 10)),
    )
    tin = (
        rod(2.6, 1.6, "gel"),
        *tube(2.65, 0.03, 1.7, "aluminium"),
        rod(2.65, 0.04, "aluminium", (0, 0, 0.85)),
        rod(2.65, 0.04, "aluminium", (0, 0, -0.85)),
    )
    parts += move(tin, (rng.uniform(-6, 6), 2.6, -1.6))
    clipper = (
        box((5.4, 1.1, 0.2), "steel", (0, 0, 0.2)),
        box((5.4, 1.1, 0.2), "steel", (0, 0, -0.35)),
        box((4.6, 0.9, 0.16), "steel", (0.4, 0, 0.75)),
    )
    parts += move(clipper, (rng.uniform(-5, 6), -0.6, -1.2), turn("z", rng.uniform(0, 180)))
    return centred(parts)


def food(rng: np.random.Generator) -> Parts:
    """Fruit, a bar of chocolate, or a lunch box."""
    kind = rng.integers(3)
    if kind == 0:
        apples = [ball((3.4, 3.5, 3.2), "food", (k * 7.0, rng.normal(0, 0.6), 0)) for k in range(int(rng.integers(1, 4)))]
        return centred([*apples, *(ball((1.0, 1.0, 1.4), "food", part.centre, fill=-0.25) for part in apples)])
    if kind == 1:
        squares = Waves(np.array([[2 * np.pi / 2.4, 0, 0], [0, 2 * np.pi / 2.4, 0]]), np.array([0.2, 0.2]), np.zeros(2))
        return centred([box((17, 8, 1.1), "chocolate", waves=squares), box((17.6, 8.6, 0.01), "aluminium")])
    inside = [ball(rng.uniform(1.6, 3.2, 3), "food", (rng.uniform(-5, 5), rng.uniform(-3, 3), rng.uniform(-1, 1))) for _ in range(4)]
    return centred([rounded((17, 12, 6.5), 2.0, "polyethylene"), rounded((16.6, 11.6, 6.1), 1.9, "polyethylene", fill=-1.0), *inside])


def mug(rng: np.random.Generator) -> Parts:
    """A ceramic mug, or a souvenir of the same stuff."""
    radius, length = rng.uniform(3.8, 4.4), rng.uniform(8.5, 10.5)
    handle = wire([(2.4 * np.cos(a), radius + 2.3 * np.sin(a), 0) for a in np.linspace(0, np.pi, 9)], 0.55, "ceramic")
    return centred([*tube(radius, 0.38, length, "ceramic", axis="x"), rod(radius, 0.5, "ceramic", (-length / 2, 0, 0), "x"), *handle])


def spanner(rng: np.random.Generator) -> Parts:
    """An open-ended spanner: a tool that is allowed, and long and steel."""
    length = rng.uniform(13, 19)
    jaw = np.array(
        [(-1.2, -1.7), (1.2, -1.9), (2.6, -1.5), (2.4, -0.75), (0.9, -0.7), (0.9, 0.7), (2.4, 0.75), (2.6, 1.5), (1.2, 1.9), (-1.2, 1.7)]
    )
    parts = [plate([(-length / 2, -0.65), (length / 2, -0.8), (length / 2, 0.8), (-length / 2, 0.65)], 0.5, "steel")]
    parts += move([plate(jaw, 0.65, "steel")], (length / 2 + 0.4, 0, 0), turn("z", 15))
    return centred([*parts, plate(circle(1.5, 12, (-length / 2 - 0.6, 0)), 0.65, "steel", holes=[circle(0.85, 6, (-length / 2 - 0.6, 0))])])


def screwdriver(rng: np.random.Generator) -> Parts:
    """A screwdriver: a rod and a fat handle."""
    length = rng.uniform(7, 12)
    return centred(
        [
            rod(0.32, length + 5, "steel", (length / 2 - 2.5, 0, 0), "x"),
            rod(1.5, 9.5, "abs", (-4.75, 0, 0), "x", fill=0.95),
            rod(1.1, 1.2, "abs", (-0.2, 0, 0), "x"),
        ]
    )


def cutlery(rng: np.random.Generator) -> Parts:
    """A spoon and a fork."""
    length = rng.uniform(15, 19)
    handle = [(-length / 2, -0.7), (length / 2 - 5, -0.4), (length / 2 - 5, 0.4), (-length / 2, 0.7)]
    spoon = (plate(handle, 0.22, "steel"), plate(circle(2.1, 12, (length / 2 - 3.1, 0), 0.95), 0.18, "steel"))
    tines = [box((4.0, 0.3, 0.18), "steel", (length / 2 - 1.4, y, 0)) for y in (-0.9, -0.3, 0.3, 0.9)]
    fork = (plate(handle, 0.22, "steel"), plate(circle(1.4, 10, (length / 2 - 4.0, 0)), 0.2, "steel"), *tines)
    return centred((*spoon, *move(fork, (rng.normal(0, 1), rng.uniform(2, 3.4), 0.5), turn("z", rng.normal(0, 12)))))


def pens(rng: np.random.Generator) -> Parts:
    """A pencil case with pens."""
    parts: list[Part] = [rounded((20, 7, 3.4), 1.2, "webbing", fill=0.7), rounded((19.7, 6.7, 3.1), 1.1, "webbing", fill=-0.7)]
    for k in range(int(rng.integers(3, 7))):
        is_metal = rng.random() < 0.3
        pen = (
            rod(0.45, 13.5, "aluminium" if is_metal else "abs", axis="x", fill=0.6),
            rod(0.12, 11.0, "brass", axis="x", fill=0.5),
            rod(0.28, 2.4, "steel", (4.8, 0, 0), "x", fill=0.4),
        )
        parts += move(pen, (rng.normal(0, 1.5), -2.4 + 0.95 * k, rng.normal(0, 0.5)), turn("z", rng.normal(0, 5)))
    return centred(parts)


BELONGINGS: dict[str, Callable[[np.random.Generator], Parts]] = {
    "bottle": bottle,
    "glass_bottle": glass_bottle,
    "thermos": thermos,
    "aerosol": aerosol,
    "drink_can": drink_can,
    "book": book,
    "notebook": notebook,
    "magazines": magazines,
    "keys": keys,
    "coins": coins,
    "umbrella": umbrella,
    "toiletry_bag": toiletry_bag,
    "food": food,
    "mug": mug,
    "spanner": spanner,
    "screwdriver": screwdriver,
    "cutlery": cutlery,
    "pens": pens,
}
"""Belongings by name."""
