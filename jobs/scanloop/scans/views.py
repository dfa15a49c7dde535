"""Pictures of a scan for people: grey, and the colours that security officers know.

Hue tells material, brightness tells how much was penetrated. Orange is organic (effective atomic number to about 10), green is mixed and light
metal, blue is metal, black is where nothing came through. Where the hues change differs from vendor to vendor, so a palette is a parameter.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from scanloop.errors import WrongArguments
from scanloop.scans.material import air_level, attenuation, ratio_excess

Colour = tuple[int, int, int]
COLOURS = ("red", "green", "blue")
"""Planes of a picture that came in colours, as exports of operators' stations and research sets do."""


@dataclass(frozen=True)
class Palette:
    """How one vendor colours material."""

    name: str
    """What the command line calls it."""
    organic: Colour
    """RGB of organic matter at medium thickness."""
    mixed: Colour
    """RGB of mixed matter and light metal."""
    metal: Colour
    """RGB of metal."""
    organic_below: float
    """Ratio excess R - 1 up to which a place is purely organic."""
    mixed_at: float
    """Ratio excess of purely mixed matter."""
    metal_above: float
    """Ratio excess from which a place is purely metal."""
    half_attenuation: float = 1.0
    """High-energy attenuation at which the hue is strongest; thinner fades to white, thicker to black."""


PALETTES = {
    palette.name: palette
    for palette in (
        Palette("standard", (235, 130, 20), (60, 160, 60), (30, 70, 190), 0.28, 0.45, 0.65),
        Palette("warm", (240, 150, 60), (110, 170, 60), (40, 60, 150), 0.25, 0.42, 0.60, 1.2),
        Palette("cool", (225, 115, 35), (40, 150, 90), (20, 100, 215), 0.30, 0.50, 0.75, 0.9),
    )
}
"""Palettes by name."""


def palette_named(name: str) -> Palette:
    """The palette called `name`. Raises WrongArguments."""
    try:
        return PALETTES[name]
    except KeyError:
        raise WrongArguments(f"No palette is called {name!r}. Known: {', '.join(PALETTES)}.") from None


def grey(pixels: np.ndarray) -> np.ndarray:
    """A plane (H, W) uint16 as (H, W) uint8 for people: square root of transmission, so that dense places stay visible."""
    return np.rint(np.sqrt(pixels.astype(np.float32) / 65535.0) * 255).astype(np.uint8)


def pseudo_colour(high: np.ndarray, low: np.ndarray, palette: Palette | str = "standard") -> np.ndarray:
    """The (H, W, 3) uint8 RGB picture of two planes (H, W) uint16 at full scale 65535."""
    chosen = palette_named(palette) if isinstance(palette, str) else palette
    air_high = air_level(high)
    thickness = attenuation(high, air_high)[..., None]
    excess = ratio_excess(attenuation(_smooth(high), air_high), attenuation(_smooth(low), air_level(low)))
    stops = (chosen.organic_below, chosen.mixed_at, chosen.metal_above)
    hues = np.array((chosen.organic, chosen.mixed, chosen.metal), np.float32) / 255
    hue = np.stack([np.interp(excess, stops, hues[:, channel]) for channel in range(3)], axis=-1).astype(np.float32)
    # Per channel, light falls off exponentially with attenuation, as fast as it takes to show `hue` at half_attenuation; then black.
    colour = np.exp(thickness / chosen.half_attenuation * np.log(np.maximum(hue, 0.02)))
    dense = np.clip((thickness - 3.2) / 2.0, 0, 1)
    return np.rint(255 * colour * (1 - dense)).astype(np.uint8)


def as_seen(planes: Mapping[str, np.ndarray], palette: Palette | str = "standard") -> np.ndarray:
    """The picture of planes (H, W) uint16 at full scale 65535 that people look at.

    (H, W, 3) uint8 RGB of two energies in `palette`, or of a picture's own colours as they came; of anything else (H, W) uint8, its first plane.
    """
    if {"high", "low"} <= planes.keys():
        return pseudo_colour(planes["high"], planes["low"], palette)
    if is_coloured(planes.keys()):
        return np.stack([planes[name] >> 8 for name in COLOURS], axis=-1).astype(np.uint8)
    return grey(next(iter(planes.values())))


def is_coloured(names: Collection[str]) -> bool:
    """Whether planes of these names are the colours of a picture."""
    return set(COLOURS) <= set(names)


def _smooth(pixels: np.ndarray) -> np.ndarray:
    """Mean of 3 x 3 neighbours, (H, W) uint16: hue is noisier than brightness, and the eye forgives softness in it."""
    padded = np.pad(pixels.astype(np.uint32), 1, mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return ((rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) // 9).astype(np.uint16)


def encode_png(pixels: np.ndarray) -> bytes:
    """A picture, (H, W) or (H, W, 3) uint8 or (H, W) uint16, as PNG."""
    import imagecodecs

    return bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels), level=6))
