"""Which (place, category) pairs may teach a head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def looked_for_of(image_meta: Mapping[str, Any], num_classes: int, device: torch.device) -> torch.Tensor:
    """(C,) bool of one scan: the categories that somebody looked for; absent means all."""
    return torch.tensor(list(image_meta.get("looked_for", [True] * num_classes)), dtype=torch.bool, device=device)


def category_weights(weights: torch.Tensor, labels: torch.Tensor, looked_for: torch.Tensor) -> torch.Tensor:
    """Weights (P, C) of the classification loss of P places of one scan.

    `weights` (P,) are the head's own, `labels` (P,) the categories of the places (C for background), `looked_for` (C,) bool. A place teaches
    every category that was looked for, and in any case the one whose mark lies there: laid over a scan where nobody looked for it, a known
    threat is still one.
    """
    categories = torch.arange(len(looked_for), device=labels.device)
    is_taught = looked_for[None, :] | (labels[:, None] == categories[None, :])
    return weights[:, None] * is_taught
