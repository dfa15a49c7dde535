"""Which machine looked at which bag, when: everything a file says beside its pixels, derived from a seed and never from a clock."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

from scanloop.scans.content import bag_id, site_id
from scanloop.simulator.scanners import SCANNER_MODELS, ScannerModel

SITE_NAMES = (
    "north-terminal",
    "harbour",
    "east-gate",
    "mail-centre",
    "court-house",
    "ferry-pier",
    "central-station",
    "south-terminal",
)
"""Names of the first sites; later ones are numbered."""
MACHINES_A_SITE = 2
ISSUER = "bag-tags"
"""Who numbers the bags."""
_EPOCH = datetime(2025, 1, 6, 5, 30, tzinfo=UTC)
_BAG_INTERVAL_S = 41
_ROUND_DAYS = 7
_MAX_NAMED_DAYS = 3650


@dataclass(frozen=True)
class Machine:
    """One scanner at one site."""

    site: str
    """Name of the place; also its folder in the landing zone."""
    scanner: ScannerModel
    """Its model."""
    serial: str
    """Its serial number."""

    @cached_property
    def elements_seed(self) -> int:
        """Fixes which of its detector elements are weak: the same for every scan it ever makes."""
        return int.from_bytes(hashlib.sha256(self.serial.encode()).digest()[:4], "big")


@dataclass(frozen=True)
class Acquisition:
    """One view of one bag on one machine."""

    machine: Machine
    """Where."""
    bag_number: str
    """The bag's number, unique for its issuer."""
    view_name: str
    """top or side."""
    view_number: int
    """1 for the top view, 2 for the side view."""
    acquired_at: datetime
    """When, UTC."""
    calibrated_at: datetime
    """When the machine was last calibrated, UTC."""
    issuer: str = ISSUER
    """Who numbers the bags."""
    scan_type: str = "OPERATIONAL"
    """OPERATIONAL, or CALIBRATION and the like for test scans."""

    @property
    def bag_id(self) -> str:
        """The bag's id, as intake makes it."""
        return bag_id(site_id(self.machine.site), self.issuer, self.bag_number)

    def uid(self, kind: str) -> str:
        """A deterministic UID of this acquisition: of its `study` (the bag), its `series` (the view) or its `instance` (the file)."""
        scope = (
            (self.machine.site, self.issuer, self.bag_number) if kind == "study" else (self.machine.serial, self.bag_number, self.view_name)
        )
        digest = hashlib.sha256("/".join((kind, *scope)).encode()).digest()
        # Source: DICOM PS3.5 B.2, a UUID (here of version 8: custom) as one decimal number under 2.25.
        number = int.from_bytes(digest[:16], "big") & ~(0xF << 76) & ~(0x3 << 62) | (0x8 << 76) | (0x2 << 62)
        return f"2.25.{number}"


def site_name(number: int) -> str:
    """Name of the site with a number from 0."""
    return SITE_NAMES[number] if number < len(SITE_NAMES) else f"site-{number + 1:03d}"


def machine_at(site_number: int, place: int) -> Machine:
    """The machine at a place (0, 1, ...) of a site. Models go round, so that two sites have all of them and one has both that write DICOS."""
    scanner = SCANNER_MODELS[(site_number * MACHINES_A_SITE + place) % len(SCANNER_MODELS)]
    return Machine(site_name(site_number), scanner, f"{scanner.code}{1100 + 10 * site_number + place}")


def acquire(seed: int, round_number: int, bag: int, sites: int) -> tuple[Acquisition, ...]:
    """The acquisitions of bag number `bag` of a round: which machine, which number, when. One for each view."""
    machine = machine_at(bag % sites, (bag // sites) % MACHINES_A_SITE)
    digest = hashlib.sha256(f"{seed}/{round_number}/{bag}".encode()).digest()
    day = _EPOCH + timedelta(days=_ROUND_DAYS * round_number % _MAX_NAMED_DAYS)
    moment = day + timedelta(seconds=_BAG_INTERVAL_S * bag)
    calibrated = day.replace(hour=4, minute=10) - timedelta(days=machine.elements_seed % 5)
    return tuple(
        Acquisition(
            machine,
            f"{int.from_bytes(digest[:8], 'big') % 10**10:010d}",
            view.name,
            number,
            moment + timedelta(seconds=number - 1),
            calibrated,
        )
        for number, view in enumerate(machine.scanner.views, start=1)
    )
