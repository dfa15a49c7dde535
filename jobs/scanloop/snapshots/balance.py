"""How train is balanced: repeat factors for rare cells, and a cap on clean bags.

Source: repeat-factor sampling of LVIS, arXiv:1908.03195, section 4, r = max(1, sqrt(t / f)), here over scanner × category cells.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from scanloop.snapshots.manifest import Balance, SnapshotRecord
from scanloop.snapshots.splits import bag_draw

CLEAN_CUT = "clean train bag beyond the ratio"
SYNTHETIC_CUT = "synthetic train scan beyond the share"
_ROUNDING = 1e-9
_ALL = "g"
"""Above every draw."""


def cells_of(record: SnapshotRecord) -> set[tuple[str, str]]:
    """The scanner × category cells that a record is in."""
    return {(record.scanner_id, box.category) for box in record.boxes}


def repeat_factors(records: Iterable[SnapshotRecord], threshold: float) -> tuple[tuple[str, str, float], ...]:
    """Cells whose share f of the train scans is below `threshold`, with their factor sqrt(threshold / f), sorted."""
    seen: Counter[tuple[str, str]] = Counter()
    total = 0
    for record in records:
        total += 1
        seen.update(cells_of(record))
    factors = ((scanner, category, math.sqrt(threshold * total / count)) for (scanner, category), count in sorted(seen.items()))
    return tuple((scanner, category, round(factor, 6)) for scanner, category, factor in factors if factor > 1)


def clean_cut(clean_bag_ids: Iterable[str], threat_bags: int, ratio: float, seed: int) -> str | None:
    """The highest draw of a clean train bag to keep, so that at most `ratio` × `threat_bags` are kept; None keeps all.

    Without any threat bag nothing is cut: there is nothing to balance against.
    """
    draws = sorted(bag_draw(seed, bag_id) for bag_id in set(clean_bag_ids))
    allowed = int(ratio * threat_bags)
    if not threat_bags or len(draws) <= allowed:
        return None
    return draws[allowed - 1] if allowed else ""


def synthetic_cut(train: Iterable[SnapshotRecord], share: float, seed: int) -> str | None:
    """The highest draw of a bag whose synthetic scans are kept, so that they are at most `share` of all train scans; None keeps all."""
    synthetic: Counter[str] = Counter()
    real = 0
    for record in train:
        real += not record.is_synthetic
        synthetic.update([bag_draw(seed, record.bag_id)] if record.is_synthetic else ())
    cut, kept = "", 0
    for draw in sorted(synthetic):
        kept += synthetic[draw]
        if kept > share * (real + kept) + _ROUNDING:
            return cut
        cut = draw
    return None


def balance_of(
    train: Iterable[SnapshotRecord], *, repeat_threshold: float, clean_bag_ratio: float, seed: int, synthetic_share: float = 1.0
) -> Balance:
    """Balance the train records of a snapshot.

    Clean bags are capped by the bags with a threat that are left, and synthetic scans as a share of the scans that are left. Each cap lowers what the
    other one is measured by, so both are applied until neither changes. Repeat factors are computed over what is left then.
    """
    known = list(train)
    capped = Balance((), None)
    while True:
        kept = [record for record in known if cut_reason(record, replace(capped, clean_cut=None), seed) is None]
        threat_bags = len({record.bag_id for record in kept if not record.is_clean_bag})
        clean = clean_cut((record.bag_id for record in known if record.is_clean_bag), threat_bags, clean_bag_ratio, seed)
        kept = [record for record in known if cut_reason(record, Balance((), clean), seed) is None]
        synthetic = synthetic_cut(kept, synthetic_share, seed)
        # Never up again, or it would not end: without a threat that is left, clean bags are not capped, and make room for synthetic ones.
        now = Balance((), clean, min(synthetic, capped.synthetic_cut, key=lambda cut: _ALL if cut is None else cut))
        if now == capped:
            break
        capped = now
    kept = [record for record in known if cut_reason(record, capped, seed) is None]
    return replace(capped, repeat_factors=repeat_factors(kept, repeat_threshold))


def weighed(record: SnapshotRecord, balance: Balance, seed: int) -> SnapshotRecord:
    """Give a record its weight: for train the largest factor of its cells (0 if cut), for val and test 1, for withheld rows 0."""
    if record.split == "train":
        if cut_reason(record, balance, seed) is not None:
            return replace(record, weight=0.0)
        cells = cells_of(record)
        factors = (factor for scanner, category, factor in balance.repeat_factors if (scanner, category) in cells)
        return replace(record, weight=max(factors, default=1.0))
    return replace(record, weight=1.0 if record.split in ("val", "test") else 0.0)


def cut_reason(record: SnapshotRecord, balance: Balance, seed: int) -> str | None:
    """Why a train record is left out; None: it is not."""
    cuts = ((record.is_clean_bag, balance.clean_cut, CLEAN_CUT), (record.is_synthetic, balance.synthetic_cut, SYNTHETIC_CUT))
    return next((why for applies, cut, why in cuts if applies and cut is not None and bag_draw(seed, record.bag_id) > cut), None)
