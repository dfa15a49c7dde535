from __future__ import annotations

import matplotlib.image as images
import numpy as np
import pytest
from snapshot_records import KNIFE, record

from scanloop.labelling.boxes import Box
from scanloop.snapshots.balance import balance_of, weighed
from scanloop.snapshots.picture import cells, draw

GUN = Box("handgun", (1, 1, 2, 2))


def test_cells_count_scans_before_and_weights_after():
    rows = [record(f"k{n}") for n in range(30)] + [record("g", boxes=(GUN, KNIFE), scanner_id="b")]
    rows += [record(f"c{n}", boxes=()) for n in range(40)] + [record("t", split="test", boxes=(GUN,)), record("w", split="withheld")]
    balance = balance_of([row for row in rows if row.split == "train"], repeat_threshold=0.25, clean_bag_ratio=0.5, seed=1)
    found = cells((weighed(row, balance, 1) for row in rows), ("handgun", "knife"))
    assert (found.scanners, found.columns) == (("acme-one-1", "b"), ("handgun", "knife", "nothing"))
    assert found.before.tolist() == [[0, 30, 40], [1, 1, 0]]
    factor = weighed(rows[30], balance, 1).weight
    assert factor > 2
    assert found.after == pytest.approx(np.array([[0, 30, 15], [factor, factor, 0]]))


def test_a_picture_shows_the_scanners_with_the_most_scans(tmp_path):
    rows = [record(f"{scanner}-{n}", scanner_id=f"s{scanner:03}") for scanner in range(70) for n in range(1 + scanner % 7)]
    draw(cells(rows, ("handgun", "knife")), "title", tmp_path / "many.png")
    draw(cells(rows[:1], ("handgun", "knife")), "title", tmp_path / "one.png")
    draw(cells([], ("knife",)), "title", tmp_path / "none.png")
    draw(cells([record("m", scanner_id="x$^$y_{")], ("knife",)), "of $^$", tmp_path / "marks.png")
    many, one, none = (images.imread(tmp_path / f"{name}.png") for name in ("many", "one", "none"))
    assert many.shape[0] > 5 * one.shape[0]
    assert many.shape[0] < 40 * one.shape[0]
    assert none.ndim == 3
    assert one.std() > 0.02
