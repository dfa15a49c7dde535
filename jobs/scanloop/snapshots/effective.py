"""What is known about a scan, from every annotation that was accepted for it over time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scanloop.labelling.boxes import Box


@dataclass(frozen=True)
class AnnotationSet:
    """One accepted annotation: boxes, and the categories that were looked for."""

    annotation_id: str
    """Its id."""
    accepted_at: str
    """When it was accepted, ISO 8601 UTC; later ones replace earlier ones, category by category."""
    looked_for: frozenset[str]
    """Categories that it speaks about, boxes or none."""
    boxes: tuple[Box, ...]
    """Its boxes; those of categories not looked for are ignored."""


@dataclass(frozen=True)
class EffectiveAnnotation:
    """The union of accepted annotations, the newest for each category."""

    looked_for: tuple[str, ...]
    """Categories that somebody looked for, in the order of the definition."""
    boxes: tuple[Box, ...]
    """Boxes of these categories, sorted."""
    annotation_ids: tuple[str, ...]
    """The annotations that had the last word for at least one category, sorted."""


def effective_annotation(sets: Iterable[AnnotationSet], categories: Sequence[str]) -> EffectiveAnnotation:
    """Merge annotation sets for the given categories. The order of the input does not matter; ties in time go to the larger id."""
    last_word: dict[str, AnnotationSet] = {}
    for annotation in sorted(sets, key=lambda one: (one.accepted_at, one.annotation_id)):
        last_word.update(dict.fromkeys(annotation.looked_for, annotation))
    looked_for = tuple(category for category in categories if category in last_word)
    boxes = sorted(box for category in looked_for for box in last_word[category].boxes if box.category == category)
    return EffectiveAnnotation(looked_for, tuple(boxes), tuple(sorted({last_word[category].annotation_id for category in looked_for})))
