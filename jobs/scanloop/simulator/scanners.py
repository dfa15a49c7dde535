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
        manufacturer="Halvard Imaging",
        model="HX 6040-2V",
        code="HX",
        software="4.2.1",
        energies_kev=(105.0, 60.0),
        photons=(42_000.0, 26_000.0),
        dark_noise=4e-4,
        scatter=2e-3,
        air_level=(0.985, 0.982),
        blur_px=(0.55, 0.5),
        weak_elements=(0.012, 0.0008),
        banding=0.002,
        bits=16,
        views=(
            ViewGeometry("top", 0.0, 74.0, 108.0, 312, 372, 0.218, 0.152),
            ViewGeometry("side", 90.0, 76.0, 112.0, 240, 372, 0.218, 0.152),
        ),
        file_format="dicos",
        palette="standard",
    ),
    ScannerModel(
        manufacturer="Corvane",
        model="DualView 62",
        code="CV",
        software="R7.0",
        energies_kev=(112.0, 64.0),
        photons=(30_000.0, 15_000.0),
        dark_noise=7e-4,
        scatter=3e-3,
        air_level=(0.99, 0.988),
        blur_px=(0.8, 0.6),
        weak_elements=(0.02, 0.0015),
        banding=0.003,
        bits=14,
        views=(
            ViewGeometry("top", 8.0, 68.0, 104.0, 300, 344, 0.235, 0.166),
            ViewGeometry("side", 82.0, 70.0, 104.0, 248, 344, 0.235, 0.166),
        ),
        file_format="dicos-jpeg",
        palette="cool",
    ),
    ScannerModel(
        manufacturer="Tessaro Security",
        model="TS-2D",
        code="TS",
        software="2025.1",
        energies_kev=(102.0, 57.0),
        photons=(52_000.0, 30_000.0),
        dark_noise=3e-4,
        scatter=1.5e-3,
        air_level=(0.975, 0.972),
        blur_px=(0.5, 0.75),
        weak_elements=(0.008, 0.0005),
        banding=0.0015,
        bits=16,
        views=(
            ViewGeometry("top", 180.0, 80.0, 112.0, 304, 390, 0.212, 0.145),
            ViewGeometry("side", 78.0, 80.0, 116.0, 250, 390, 0.212, 0.145),
        ),
        file_format="tiff",
        palette="warm",
    ),
    ScannerModel(
        manufacturer="Okari",
        model="LineScan 200",
        code="OK",
        software="11.3",
        energies_kev=(100.0, 55.0),
        photons=(20_000.0, 11_000.0),
        dark_noise=9e-4,
        scatter=4e-3,
        air_level=(0.98, 0.976),
        blur_px=(0.95, 0.7),
        weak_elements=(0.03, 0.002),
        banding=0.004,
        bits=16,
        views=(
            ViewGeometry("top", 0.0, 66.0, 100.0, 300, 330, 0.24, 0.178),
            ViewGeometry("side", 90.0, 66.0, 100.0, 236, 330, 0.24, 0.178),
        ),
        file_format="png",
        palette="standard",
    ),
)
"""Every model: two deliver DICOS (one of them compressed, 14 bits), one TIFF, one PNG."""
