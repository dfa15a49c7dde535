"""How far annotators agree about one scan, and what they agree on. Rules only; the order of annotators does not matter for two of them.

Boxes of one category are the same finding when their IoU reaches a threshold; pairs are chosen so that as many as possible match and, among
those, so that the sum of IoU is largest (Hungarian method). What all, or with three and more annotators most, marked becomes one box: the mean
of its edges. Source: Solovyev et al., "Weighted boxes fusion", arXiv:1910.13302, here with equal confidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.optimize import linear_sum_assignment

from scanloop.labelling.boxes import Box, iou_matrix

_DECIMALS = 3


@dataclass(frozen=True)
class Disputed:
    """A finding that some annotators have and others lack."""

    box: Box
    """Where it is said to be, and what."""
    authors: tuple[str, ...]
    """Who says so, sorted."""
    instead: str | None
    """Another category that somebody else gave to the same place, if any."""

    def __str__(self) -> str:
        x, y, width, height = self.box.bbox_xywh
        other = f", called {self.instead} by another" if self.instead else ""
        return f"{self.box.category} at ({x:.0f}, {y:.0f}) of {width:.0f} × {height:.0f} px marked by {', '.join(self.authors)} only{other}"


@dataclass(frozen=True)
class Agreement:
    """What annotators of one scan agree on."""

    score: float
    """Mean over pairs of annotators of 2 × matches / (boxes of both); 1 where neither has a box."""
    consensus: tuple[Box, ...]
    """The boxes that all or most marked, sorted."""
    disputed: tuple[Disputed, ...]
    """Findings that exactly half or, of two annotators, one marked."""
    dismissed: tuple[Disputed, ...]
    """Findings of fewer than half: outvoted."""


def match(boxes_a: Sequence[Box], boxes_b: Sequence[Box], iou_threshold: float) -> list[tuple[int, int]]:
    """Pairs of positions of boxes that are the same finding: same category, IoU at least `iou_threshold`; as many as possible."""
    if not boxes_a or not boxes_b:
        return []
    same = np.array([[a.category == b.category for b in boxes_b] for a in boxes_a])
    overlap = iou_matrix(boxes_a, boxes_b)
    allowed = same & (overlap >= iou_threshold)
    # One match more outweighs any difference in IoU.
    gain = np.where(allowed, 1.0 + overlap / (min(allowed.shape) + 1), 0.0)
    rows, columns = linear_sum_assignment(gain, maximize=True)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if allowed[i, j]]


def pair_score(boxes_a: Sequence[Box], boxes_b: Sequence[Box], iou_threshold: float) -> float:
    """Agreement of two annotators in [0, 1], symmetric: the F1 of one against the other."""
    total = len(boxes_a) + len(boxes_b)
    return 1.0 if not total else 2.0 * len(match(boxes_a, boxes_b, iou_threshold)) / total


def agree(boxes_by_author: Mapping[str, Sequence[Box]], iou_threshold: float) -> Agreement:
    """Compare what everybody marked. One annotator alone agrees with themselves."""
    authors = sorted(boxes_by_author)
    findings = _findings({author: sorted(boxes_by_author[author]) for author in authors}, iou_threshold)
    scores = [pair_score(boxes_by_author[a], boxes_by_author[b], iou_threshold) for a, b in combinations(authors, 2)]
    agreed = [members for members in findings if 2 * len(members) > len(authors)]
    contested = [members for members in findings if 2 * len(members) <= len(authors)]
    disputes = [(2 * len(members) == len(authors), _disputed(members, contested, iou_threshold)) for members in contested]
    return Agreement(
        score=float(np.mean(scores)) if scores else 1.0,
        consensus=tuple(sorted(mean_box(list(members.values())) for members in agreed)),
        disputed=tuple(dispute for is_open, dispute in disputes if is_open),
        dismissed=tuple(dispute for is_open, dispute in disputes if not is_open),
    )


def mean_box(boxes: Sequence[Box]) -> Box:
    """One box of the same category whose edges are the means of the edges of `boxes`."""
    left, top, right, bottom = np.mean([box.xyxy for box in boxes], axis=0)
    x, y, width, height = (round(float(value), _DECIMALS) for value in (left, top, right - left, bottom - top))
    return Box(boxes[0].category, (x, y, width, height))


def _findings(boxes_by_author: Mapping[str, Sequence[Box]], iou_threshold: float) -> list[dict[str, Box]]:
    """Group boxes into findings, each with at most one box of an author."""
    findings: list[dict[str, Box]] = []
    for author, boxes in boxes_by_author.items():
        known = [mean_box(list(members.values())) for members in findings]
        matched = {j: i for i, j in match(known, boxes, iou_threshold)}
        for position, box in enumerate(boxes):
            if position in matched:
                findings[matched[position]][author] = box
            else:
                findings.append({author: box})
    return findings


def _disputed(members: Mapping[str, Box], others: Sequence[Mapping[str, Box]], iou_threshold: float) -> Disputed:
    box = mean_box(list(members.values()))
    instead = sorted(
        rival.category
        for other in others
        if not set(other) & set(members) and (rival := mean_box(list(other.values()))).category != box.category
        if iou_matrix([box], [rival])[0, 0] >= iou_threshold
    )
    return Disputed(box, tuple(sorted(members)), instead[0] if instead else None)
