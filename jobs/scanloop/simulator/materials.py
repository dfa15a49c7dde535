"""How strongly each material attenuates X-rays, and how that depends on energy.

A line of matter of areal density m (g/cm²) attenuates by A(E) = (mu/rho)(E) * m, and A adds along a ray. A scanner's polychromatic planes are
described by one effective energy each, as is usual for dual-energy line scanners.

Source: mass attenuation coefficients with coherent scattering, Hubbell and Seltzer, Tables of X-Ray Mass Attenuation Coefficients, NISTIR 5632
(NIST Standard Reference Database 126), and NIST XCOM (Standard Reference Database 8); compounds by the mixture rule from their elements.
Densities are those of things as they lie in bags: cloth and paper contain air.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

GRID_KEV = (50.0, 60.0, 80.0, 100.0, 150.0)
"""Energies at which coefficients are tabulated. Lead's K edge (88.0 keV) lies between grid points: see `Material.mu_per_cm`."""


@dataclass(frozen=True)
class Material:
    """Something an object is made of."""

    name: str
    """What parts call it."""
    density_g_cm3: float
    """Bulk density."""
    mass_attenuation_cm2_g: tuple[float, float, float, float, float]
    """mu/rho at GRID_KEV."""

    def mu_per_cm(self, energy_kev: float) -> float:
        """Linear attenuation coefficient at an effective energy, by log-log interpolation.

        Raises:
            ValueError: the energy is outside the grid, or between 80 and 100 keV, where lead jumps and interpolation would lie.
        """
        if not GRID_KEV[0] <= energy_kev <= GRID_KEV[-1] or 80.0 < energy_kev < 100.0:
            raise ValueError(f"Expected an effective energy in 50..80 or 100..150 keV, found {energy_kev}.")
        logarithm = np.interp(np.log(energy_kev), np.log(GRID_KEV), np.log(self.mass_attenuation_cm2_g))
        return self.density_g_cm3 * float(np.exp(logarithm))


_CELLULOSE = (0.2092, 0.1923, 0.1736, 0.1621, 0.1435)
_POLYETHYLENE = (0.2084, 0.1970, 0.1823, 0.1719, 0.1534)
_WATER = (0.2269, 0.2059, 0.1837, 0.1707, 0.1505)
_PROTEIN = (0.2066, 0.1906, 0.1726, 0.1613, 0.1429)
_STEEL = (1.9574, 1.2049, 0.5952, 0.3717, 0.1964)

MATERIALS = {
    material.name: material
    for material in (
        Material("textile", 0.22, _CELLULOSE),
        Material("denim", 0.3, _CELLULOSE),
        Material("webbing", 0.7, _CELLULOSE),
        Material("leather", 0.9, _PROTEIN),
        Material("paper", 0.78, _CELLULOSE),
        Material("wood", 0.68, _CELLULOSE),
        Material("foam", 0.12, _PROTEIN),
        Material("rubber", 1.05, (0.2029, 0.1884, 0.1717, 0.1610, 0.1429)),
        Material("polyethylene", 0.94, _POLYETHYLENE),
        Material("polycarbonate", 1.2, (0.2003, 0.1866, 0.1705, 0.1600, 0.1422)),
        Material("abs", 1.05, (0.1998, 0.1880, 0.1732, 0.1631, 0.1453)),
        Material("pvc", 1.38, (0.4559, 0.3324, 0.2298, 0.1887, 0.1486)),
        Material("water", 1.0, _WATER),
        Material("gel", 1.03, (0.2284, 0.2057, 0.1822, 0.1688, 0.1485)),
        Material("oil", 0.92, _POLYETHYLENE),
        Material("food", 0.75, _WATER),
        Material("chocolate", 1.25, _PROTEIN),
        Material("glass", 2.5, (0.3667, 0.2791, 0.2048, 0.1738, 0.1413)),
        Material("ceramic", 2.3, (0.3091, 0.2455, 0.1904, 0.1663, 0.1389)),
        Material("aluminium", 2.699, (0.3682, 0.2778, 0.2018, 0.1704, 0.1378)),
        Material("steel", 7.87, _STEEL),
        Material("zinc", 6.6, (2.8931, 1.7606, 0.8367, 0.4974, 0.2342)),
        Material("brass", 8.5, (2.7166, 1.6547, 0.7902, 0.4729, 0.2263)),
        Material("copper", 8.96, (2.6130, 1.5926, 0.7630, 0.4585, 0.2217)),
        Material("ferrite", 4.8, (1.4332, 0.9001, 0.4668, 0.3066, 0.1783)),
        Material("lead", 11.35, (8.0420, 5.0197, 2.4195, 5.5488, 2.0146)),
        Material("pcb", 1.85, (0.4637, 0.3390, 0.2331, 0.1900, 0.1480)),
        Material("silicon", 2.1, (0.4385, 0.3207, 0.2228, 0.1835, 0.1448)),
        Material("lithium_cell", 2.3, (1.1484, 0.7347, 0.3969, 0.2707, 0.1674)),
        Material("explosive", 1.6, (0.2034, 0.1864, 0.1677, 0.1564, 0.1383)),
        Material("powder", 1.0, (0.4348, 0.3183, 0.2211, 0.1820, 0.1436)),
    )
}
"""Every material by name."""


@cache
def mu_per_cm(material: str, energy_kev: float) -> float:
    """Linear attenuation coefficient (1/cm) of a named material at an effective energy. Raises KeyError, ValueError."""
    return MATERIALS[material].mu_per_cm(energy_kev)
