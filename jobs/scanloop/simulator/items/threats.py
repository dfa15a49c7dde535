"""Threat categories, as silhouettes of metal and matter: only shape and material, as an X-ray sees them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scanloop.simulator.parts import Part, Parts, ball, box, centred, circle, move, plate, rod, scaled, tube, turn, wire


def handgun(rng: np.random.Generator) -> Parts:
    """A self-loading pistol with its magazine, or a revolver. x along the barrel, y down the grip."""
    return centred(_revolver(rng) if rng.random() < 0.3 else _pistol(rng))


def _cartridge(radius: float, length: float, at: tuple[float, float, float], axis: str) -> Parts:
    """A brass case and a lead bullet; the bullet towards +axis."""
    unit = np.eye(3)["xyz".index(axis)]
    place = np.asarray(at)
    return (
        rod(radius, 0.62 * length, "brass", place - 0.19 * length * unit, axis, fill=0.55),
        rod(0.9 * radius, 0.38 * length, "lead", place + 0.31 * length * unit, axis, fill=0.8),
    )


def _pistol(rng: np.random.Generator) -> Parts:
    size = rng.uniform(0.86, 1.08)
    frame_material = "steel" if rng.random() < 0.45 else "abs"
    lean = rng.uniform(0.24, 0.36)
    slide = box((17.0, 2.6, 2.4), "steel", (0, -1.3, 0), bevel=0.35, fill=0.8)
    port = box((3.2, 1.5, 2.0), "steel", (1.2, -1.7, 0), fill=-0.55)
    barrel = rod(0.65, 16.4, "steel", (0.4, -1.3, 0), "x", fill=0.45)
    bore = rod(0.46, 16.4, "steel", (0.3, -1.3, 0), "x", fill=-0.95)
    spring = rod(0.4, 8.5, "steel", (3.6, 0.1, 0), "x", fill=0.4)
    rail = plate(
        [(-7.6, 0), (8.2, 0), (8.2, 1.1), (1.2, 1.3), (-7.6, 1.4)], 2.2, frame_material, fill=0.55 if frame_material == "steel" else 0.9
    )
    grip_outline = [
        (-8.3, 0.9),
        (-2.6, 1.2),
        (-2.9 - lean * 3.0, 4.2),
        (-3.1 - lean * 8.8, 10.0),
        (-8.6 - lean * 8.6, 10.2),
        (-8.6 - lean * 2.0, 3.2),
    ]
    grip = plate(grip_outline, 2.8, frame_material, fill=0.3 if frame_material == "steel" else 0.75)
    guard_outer = np.array([(-2.9, 1.2), (2.4, 1.2), (2.7, 2.6), (1.6, 3.9), (-2.2, 4.2), (-3.4, 3.6)])
    guard = plate(guard_outer, 1.0, frame_material, holes=[0.8 * (guard_outer - (-0.3, 2.5)) + (-0.3, 2.45)])
    trigger = plate([(-1.6, 1.2), (-0.9, 1.2), (-0.7, 2.4), (-1.2, 3.3), (-1.5, 2.4)], 0.6, "steel")
    sights = (box((0.8, 0.5, 0.4), "steel", (7.6, -2.8, 0)), box((0.8, 0.5, 1.4), "steel", (-7.6, -2.8, 0)))
    parts = [slide, port, barrel, bore, spring, rail, grip, guard, trigger, *sights]
    if rng.random() < 0.8:
        parts += _magazine(rng, lean)
    return scaled(parts, size)


def _magazine(rng: np.random.Generator, lean: float) -> Parts:
    """A steel box of cartridges in the grip, nearly full to nearly empty."""
    rotation = turn("z", -np.rad2deg(np.arctan(-lean)))
    shell = (box((3.1, 9.0, 2.0), "steel", bevel=0.3), box((2.9, 8.8, 1.85), "steel", fill=-1.0, bevel=0.3))
    rounds = [part for k in range(int(rng.integers(3, 8))) for part in _cartridge(0.48, 2.6, (0, -3.9 + 1.02 * k, 0.25 * (-1) ** k), "x")]
    return move((*shell, *rounds), (-5.9 - lean * 4.6, 5.4, 0), rotation)


def _revolver(rng: np.random.Generator) -> Parts:
    size = rng.uniform(0.88, 1.08)
    length = rng.uniform(6.0, 10.0)
    drum_x = -2.0
    barrel = tube(0.85, 0.4, length, "steel", (drum_x + 2.4 + length / 2, -1.5, 0), "x")
    shroud = box((length * 0.85, 0.8, 0.8), "steel", (drum_x + 2.2 + length / 2, -0.4, 0), bevel=0.2)
    drum = [rod(2.0, 4.0, "steel", (drum_x, -0.6, 0), "x", fill=0.9)]
    turned = rng.uniform(0, 60)
    for k in range(6):
        angle = np.deg2rad(turned + 60 * k)
        at = (drum_x, -0.6 + 1.25 * np.cos(angle), 1.25 * np.sin(angle))
        drum.append(rod(0.5, 4.1, "steel", at, "x", fill=-0.9))
        if rng.random() < 0.8:
            drum += _cartridge(0.45, 3.2, at, "x")
    frame_outer = np.array([(-5.4, -3.0), (0.9, -3.2), (1.2, 1.8), (-4.6, 2.2), (-6.6, 1.4)])
    frame = plate(frame_outer, 1.5, "steel", holes=[np.array([(-4.1, -2.6), (0.1, -2.6), (0.1, 1.4), (-4.1, 1.4)])])
    guard = plate(circle(1.9, 14, (-2.0, 3.0), 0.8), 0.8, "steel", holes=[circle(1.45, 14, (-2.0, 3.0), 0.78)])
    trigger = plate([(-2.6, 2.0), (-1.9, 2.0), (-1.7, 3.2), (-2.3, 3.9)], 0.6, "steel")
    hammer_spur = plate([(-6.2, -2.8), (-5.2, -2.2), (-5.4, 0.2), (-6.4, -0.6), (-7.2, -2.2)], 0.7, "steel")
    grip_outline = [(-6.8, 0.4), (-4.4, 2.0), (-5.6, 4.6), (-6.6, 8.6), (-10.2, 8.8), (-9.4, 4.6), (-8.0, 2.0)]
    grip = plate(grip_outline, 3.0, "wood" if rng.random() < 0.6 else "rubber")
    strap = plate([(-6.5, 0.8), (-4.8, 2.2), (-6.4, 5.0), (-7.4, 8.2), (-8.6, 8.2), (-7.8, 4.8)], 0.9, "steel", fill=0.7)
    return scaled([*barrel, shroud, *drum, frame, guard, trigger, hammer_spur, grip, strap], size)


def knife(rng: np.random.Generator) -> Parts:
    """A kitchen knife, a dagger or an opened folding knife. x from pommel to tip."""
    kind = rng.choice(["kitchen", "dagger", "folding"])
    length, width, thickness = rng.uniform(10.5, 15.0), rng.uniform(2.2, 3.6), rng.uniform(0.22, 0.38)
    if kind == "dagger":
        width *= 0.85
        outline = [(0, -0.45 * width), (0.75 * length, -0.42 * width), (length, 0), (0.75 * length, 0.42 * width), (0, 0.45 * width)]
    elif kind == "kitchen":
        outline = [
            (0, -0.5 * width),
            (0.6 * length, -0.5 * width),
            (0.88 * length, -0.25 * width),
            (length, 0.42 * width),
            (0, 0.5 * width),
        ]
    else:
        length *= 0.85
        outline = [
            (0, -0.4 * width),
            (0.55 * length, -0.5 * width),
            (0.8 * length, -0.3 * width),
            (length, 0.25 * width),
            (0.5 * length, 0.45 * width),
            (0, 0.4 * width),
        ]
    parts = [plate(outline, thickness, "steel")]
    grip_length = rng.uniform(9.0, 11.5)
    grip_material = str(rng.choice(["abs", "wood", "rubber"]))
    parts.append(box((grip_length, 0.72 * width, 1.7), grip_material, (-grip_length / 2, 0, 0), bevel=0.4))
    if kind == "folding":
        parts += [box((grip_length - 0.4, 0.62 * width, 0.14), "steel", (-grip_length / 2, 0, z)) for z in (-0.55, 0.55)]
        parts.append(rod(0.35, 1.9, "steel", (-0.5, 0, 0)))
    else:
        parts.append(box((grip_length * 0.92, 0.42 * width, thickness), "steel", (-grip_length * 0.46, 0, 0)))
        parts.append(box((1.1, 1.05 * width, 1.3), "steel", (-0.2, 0, 0), bevel=0.25, fill=0.85))
        parts += [rod(0.3, 1.75, "brass", (-grip_length * share, 0, 0)) for share in (0.25, 0.5, 0.78)]
    return centred(scaled(parts, rng.uniform(0.92, 1.02)))


def scissors(rng: np.random.Generator) -> Parts:
    """Scissors, closed to half open, with steel or plastic bows. x towards the tips."""
    half_open = rng.uniform(3, 20)
    blade, bow_at, bow = rng.uniform(6.8, 9.5), rng.uniform(5.4, 6.8), rng.uniform(1.7, 2.3)
    is_plastic = rng.random() < 0.6
    parts: list[Part] = []
    for side in (1, -1):
        outline = [
            (-1.2, -0.7 * side),
            (1.0, -0.75 * side),
            (blade, 0.15 * side),
            (blade - 0.4, 0.35 * side),
            (0.8, 0.75 * side),
            (-1.2, 0.75 * side),
        ]
        shank = [(-0.6, -0.55), (-0.6, 0.55), (-bow_at + bow * 0.6, 0.45 - 1.2 * side), (-bow_at + bow * 0.6, -0.45 - 1.2 * side)]
        ring = circle(bow, 14, (-bow_at, -1.6 * side), 0.78)
        hole = circle(0.66 * bow, 14, (-bow_at, -1.6 * side), 0.7)
        half = [plate(outline, 0.26, "steel"), plate(shank, 0.3 if is_plastic else 0.42, "steel")]
        half.append(plate(ring, 0.9 if is_plastic else 0.5, "abs" if is_plastic else "steel", holes=[hole]))
        if is_plastic:
            half.append(
                plate(
                    [(-2.2, 0.75), (-2.2, -0.75), (-bow_at + bow * 0.5, -0.9 - 1.2 * side), (-bow_at + bow * 0.5, 0.9 - 1.2 * side)],
                    0.85,
                    "abs",
                )
            )
        parts += move(half, (0, 0, 0.14 * side), turn("z", half_open * side))
    parts.append(rod(0.42, 0.8, "steel"))
    return centred(parts)


def hammer(rng: np.random.Generator) -> Parts:
    """A claw or ball-peen hammer with a wooden, steel or fibreglass handle. x along the handle, the head across it."""
    length = rng.uniform(17.5, 22.0)
    head = rng.uniform(0.85, 1.05)
    material, fill = [("wood", 1.0), ("steel", 0.35), ("rubber", 1.1)][int(rng.integers(3))]
    parts = [rod((1.35, 1.0), length * 0.94, material, (-length * 0.5, 0, 0), "x", fill=fill)]
    parts.append(rod((1.65, 1.25), length * 0.42, "rubber" if material != "wood" else "wood", (-length * 0.76, 0, 0), "x", fill=0.8))
    parts.append(box((2.3 * head, 3.0 * head, 2.2 * head), "steel", bevel=0.4))
    parts.append(rod(0.95 * head, 2.4 * head, "steel", (0, 2.6 * head, 0), "y"))
    parts.append(rod(1.35 * head, 1.3 * head, "steel", (0, 4.2 * head, 0), "y"))
    if rng.random() < 0.7:
        claw = (
            np.array([(-1.1, -1.2), (1.1, -1.2), (0.9, -3.0), (-0.1, -4.8), (-1.9, -6.2), (-2.1, -5.9), (-1.0, -4.4), (-0.7, -2.9)]) * head
        )
        parts += [plate(claw, 0.75 * head, "steel", (0, 0, z)) for z in (-0.6 * head, 0.6 * head)]
    else:
        parts += [rod(0.85 * head, 2.0 * head, "steel", (0, -2.4 * head, 0), "y"), ball(1.25 * head, "steel", (0, -3.9 * head, 0))]
    return centred(parts)


def grenade(rng: np.random.Generator) -> Parts:
    """A hand grenade: a steel body with a filling, the fuze, its lever and the ring. x along the body's axis."""
    long, wide = rng.uniform(3.4, 4.3), rng.uniform(2.7, 3.1)
    is_ribbed = rng.random() < 0.6
    body = [ball((long, wide, wide), "steel", fill=0.95), ball((long - 0.5, wide - 0.5, wide - 0.5), "steel", fill=-0.95)]
    if is_ribbed:
        for share in (-0.6, -0.2, 0.2, 0.6):
            radius = wide * np.sqrt(1 - (abs(share) + 0.2 / long) ** 2)
            body += (
                rod(radius - 0.02, 0.3, "steel", (long * share, 0, 0), "x", fill=-0.6),
                rod(radius - 0.32, 0.3, "steel", (long * share, 0, 0), "x", fill=0.6),
            )
    body.append(ball((long - 0.5, wide - 0.5, wide - 0.5), "explosive"))
    body += tube(0.55, 0.12, 4.6, "aluminium", (long - 2.4, 0, 0), "x")
    fuze = [rod(1.15, 1.5, "zinc", (long + 0.4, 0, 0), "x", fill=0.8), rod(0.85, 1.6, "zinc", (long + 1.7, 0, 0), "x", fill=0.7)]
    lever = plate(
        [
            (long + 2.6, 0.4),
            (long + 2.6, 1.2),
            (long + 0.8, 2.0),
            (-0.2 * long, wide + 0.9),
            (-0.7 * long, wide + 0.8),
            (-0.2 * long, wide + 0.5),
            (long + 0.6, 1.5),
        ],
        1.3,
        "steel",
        fill=0.55,
    )
    ring_at = np.array([long + 1.9, -1.9, 0.9])
    ring = wire([np.add(ring_at, (1.35 * np.cos(a), 1.35 * np.sin(a), 0.0)) for a in np.linspace(0, 2 * np.pi, 13)], 0.15, "steel")
    return centred(scaled([*body, *fuze, lever, *ring], rng.uniform(0.92, 1.08)))


def pipe_bomb(rng: np.random.Generator) -> Parts:
    """A capped pipe with a filling, and mostly a fuse or wires to a small battery board. x along the pipe."""
    length, radius = rng.uniform(13.0, 19.0), rng.uniform(1.7, 2.5)
    is_steel = rng.random() < 0.7
    material, wall = ("steel", 0.32) if is_steel else ("pvc", 0.45)
    parts = [*tube(radius, wall, length, material, axis="x"), rod(radius - wall, 0.92 * length, "powder", (0, 0, 0), "x", fill=1.05)]
    for side in (-1, 1):
        parts.append(rod(radius + 0.45, 2.4, material, (side * (length / 2 - 0.7), 0, 0), "x"))
        parts.append(rod(radius - 0.05, 1.9, material, (side * (length / 2 - 0.95), 0, 0), "x", fill=-0.85))
    end = np.array([length / 2 + 0.4, 0, 0])
    if rng.random() < 0.35:
        bend = np.cumsum(rng.normal((0.5, 0.3, 0), 0.5, (5, 3)), axis=0)
        return centred([*parts, *wire(np.vstack([end, end + bend]), 0.22, "powder")])
    board = np.array([rng.uniform(-3, 3), radius + 2.3, 0.0])
    parts += [
        box((5.6, 3.4, 0.16), "pcb", board),
        box((1.6, 1.2, 0.5), "silicon", np.add(board, (0.9, 0.4, 0.3))),
        box((1.0, 1.0, 0.9), "copper", np.add(board, (-1.2, -0.6, 0.4)), fill=0.5),
    ]
    battery = np.add(board, (0, 2.9, 0.6))
    parts += [box((4.6, 2.5, 1.6), "zinc", battery, bevel=0.2, fill=0.32), box((4.7, 2.6, 1.7), "steel", battery, fill=0.06)]
    for start in (-0.2, 0.2):
        sag = np.array([length / 2 - 2, radius + 1.2, 0.8 + start])
        parts += wire(
            [np.add(end, (0, 0, start)), np.add(end, (0.8, 0.9, start)), sag, np.add(board, (2.2, 0.8, 0.2 + start))], 0.07, "copper"
        )
    return centred(parts)


THREATS: dict[str, Callable[[np.random.Generator], Parts]] = {
    "handgun": handgun,
    "knife": knife,
    "scissors": scissors,
    "hammer": hammer,
    "grenade": grenade,
    "pipe_bomb": pipe_bomb,
}
"""Threat categories by name."""
