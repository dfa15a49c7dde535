"""The scanner models of the simulation. Manufacturers and models are invented; each differs as real ones do."""

from __future__ import annotations

from dataclasses import dataclass

from scanloop.simulator.geometry import ViewGeometry


@dataclass(frozen=True)
class ScannerModel:
    """One product of one manufacturer."""

    manufacturer: str
    """Who makes it."""
    model: str
    """What they call it."""
    code: str
    """Start of its serial numbers."""
    software: str
    """Version it runs."""
    energies_kev: tuple[float, float]
    """Effective energies of the high and the low plane."""
    photons: tuple[float, float]
    """Photons a detector element counts in air, high and low: quantum noise is their square root."""
    dark_noise: float
    """Electronic noise, as a share of full scale."""
    scatter: float
    """Share of the air signal that reaches every element whatever lies in front of it."""
    air_level: tuple[float, float]
    """Gain: where air lies in full scale, high and low."""
    blur_px: tuple[float, float]
    """Standard deviation of the point spread across and along the belt, pixels."""
    weak_elements: tuple[float, float]
    """Share of detector elements that are weak (noisy, badly corrected) and dead."""
    banding: float
    """Line-to-line fluctuation of the tube, as a share."""
    bits: int
    """Significant bits of a pixel."""
    views: tuple[ViewGeometry, ViewGeometry]
    """Top, then side."""
    file_format: str
    """dicos, dicos-jpeg, tiff or png."""
    palette: str
    """Name of the vendor's colours, a key of scanloop.scans.views.PALETTES."""

    @property
    def full_scale(self) -> int:
        """Largest pixel value."""
        return (1 << self.bits) - 1


SCANNER_MODELS = (
    ScannerModel(
        "Halvard Imaging", "HX 6040-2V", "HX", "4.2.1", (105.0, 60.0), (42_000.0, 26_000.0), 4e-4, 2e-3, (0.985, 0.982), (0.55, 0.5), (0.012, 0.0008), 0.002, 16,
        (ViewGeometry("top", 0.0, 74.0, 108.0, 312, 372, 0.218, 0.152), ViewGeometry("side", 90.0, 76.0, 112.0, 240, 372, 0.218, 0.152)),
        "dicos", "standard",
    ),
    ScannerModel(
        "Corvane", "DualView 62", "CV", "R7.0", (112.0, 64.0), (30_000.0, 15_000.0), 7e-4, 3e-3, (0.99, 0.988), (0.8, 0.6), (0.02, 0.0015), 0.003, 14,
        (ViewGeometry("top", 8.0, 68.0, 104.0, 300, 344, 0.235, 0.166), ViewGeometry("side", 82.0, 70.0, 104.0, 248, 344, 0.235, 0.166)),
        "dicos-jpeg", "cool",
    ),
    ScannerModel(
        "Tessaract Security", "TS-2D", "TS", "2025.1", (102.0, 57.0), (52_000.0, 30_000.0), 3e-4, 1.5e-3, (0.975, 0.972), (0.5, 0.75), (0.008, 0.0005), 0.0015, 16,
        (ViewGeometry("top", 180.0, 80.0, 112.0, 304, 390, 0.212, 0.145), ViewGeometry("side", 78.0, 80.0, 116.0, 250, 390, 0.212, 0.145)),
        "tiff", "warm",
    ),
    ScannerModel(
        "Okari", "LineScan 200", "OK", "11.3", (100.0, 55.0), (20_000.0, 11_000.0), 9e-4, 4e-3, (0.98, 0.976), (0.95, 0.7), (0.03, 0.002), 0.004, 16,
        (ViewGeometry("top", 0.0, 66.0, 100.0, 300, 330, 0.24, 0.178), ViewGeometry("side", 90.0, 66.0, 100.0, 236, 330, 0.24, 0.178)),
        "png", "standard",
    ),
)  # fmt: skip
"""Every model: two deliver DICOS (one of them compressed, 14 bits), one TIFF, one PNG."""
