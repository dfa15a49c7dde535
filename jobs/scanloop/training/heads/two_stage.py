"""A two-stage detector, taught that a scan is a negative only for categories that somebody looked for.

mmdet's second stage scores categories against each other and a background (softmax). There a place that nobody judged for one category can
only be left out whole, or taught as background, which is a negative. So categories are scored one by one here (sigmoid), each with a weight.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.roi_heads.bbox_heads import Shared2FCBBoxHead
from mmdet.registry import MODELS
from torch.nn import functional

from scanloop.training.heads.looked_for import category_weights, looked_for_of

FIRST_SCORE = 0.01
"""Score that a fresh network gives every place: threats are rare, and from one half the first steps would only teach that."""


@MODELS.register_module()
class PerCategoryLoss(torch.nn.Module):
    """Binary cross entropy of every category by itself, averaged over places.

    The three `custom_*` flags are mmdet's way to say that there is no background column.
    """

    custom_cls_channels = True
    custom_activation = True
    custom_accuracy = True

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def get_cls_channels(self, num_classes: int) -> int:
        """Columns of the class scores."""
        return num_classes

    def get_activation(self, cls_score: torch.Tensor) -> torch.Tensor:
        """(P, C) logits to (P, C + 1) scores; the last column, mmdet's background, is 0."""
        return functional.pad(cls_score.float().sigmoid(), (0, 1))

    def get_accuracy(self, cls_score: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Nothing: it is not watched."""
        return {}

    def forward(
        self,
        cls_score: torch.Tensor,
        labels: torch.Tensor,
        weight: torch.Tensor,
        avg_factor: float | None = None,
        reduction_override: str | None = None,
    ) -> torch.Tensor:
        """The loss. `cls_score` (P, C) logits, `labels` (P,) with C for background, `weight` (P,) or (P, C)."""
        targets = functional.one_hot(labels, cls_score.shape[1] + 1)[:, :-1].to(cls_score)
        losses = functional.binary_cross_entropy_with_logits(cls_score, targets, reduction="none")
        weight = weight if weight.dim() == 2 else weight[:, None]
        return self.loss_weight * (losses * weight).sum() / max(1, len(labels))


@MODELS.register_module()
class LookedForRPNHead(RPNHead):
    """RPNHead for which a place without a mark is no object only where all categories were looked for.

    It asks "is there any threat?", and where one category was not looked for, nobody can say no.
    """

    def forward(self, x: Any) -> tuple[list[torch.Tensor], ...]:
        """Logits and box deltas of every level, in float32 whatever the precision: suppressing overlaps knows no bfloat16."""
        return tuple([output.float() for output in outputs] for outputs in super().forward(x))

    def _get_targets_single(
        self, flat_anchors: Any, valid_flags: Any, gt_instances: Any, img_meta: dict[str, Any], *arguments: Any, **named: Any
    ) -> tuple[Any, ...]:
        targets = super()._get_targets_single(flat_anchors, valid_flags, gt_instances, img_meta, *arguments, **named)
        labels, label_weights = targets[0], targets[1]
        if not all(img_meta.get("looked_for", (True,))):
            label_weights[labels == self.num_classes] = 0.0
        return tuple(targets)


@MODELS.register_module()
class LookedForBBoxHead(Shared2FCBBoxHead):
    """Shared2FCBBoxHead that weights the class loss by (place, category); each sampling result carries `looked_for`."""

    def init_weights(self) -> None:
        super().init_weights()
        torch.nn.init.constant_(self.fc_cls.bias, -math.log(1 / FIRST_SCORE - 1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Class logits and box deltas, in float32 whatever the precision."""
        return tuple(output.float() for output in super().forward(x))

    def get_targets(self, sampling_results: list[Any], rcnn_train_cfg: Any, concat: bool = True) -> tuple[Any, ...]:
        """Targets as the base class gives them, with class weights (P, C)."""
        labels, label_weights, bbox_targets, bbox_weights = super().get_targets(sampling_results, rcnn_train_cfg, concat=False)
        label_weights = [
            category_weights(weights, categories, result.looked_for)
            for weights, categories, result in zip(label_weights, labels, sampling_results, strict=True)
        ]
        parts = (labels, label_weights, bbox_targets, bbox_weights)
        return tuple(torch.cat(part, 0) for part in parts) if concat else parts


@MODELS.register_module()
class LookedForRoIHead(StandardRoIHead):
    """StandardRoIHead that hands each scan's `looked_for` on to its box head."""

    def loss(self, x: Any, rpn_results_list: list[Any], batch_data_samples: list[Any]) -> dict[str, Any]:
        """Losses as the base class computes them."""
        classes = self.bbox_head.num_classes
        self._looked_for = [looked_for_of(sample.metainfo, classes, x[0].device) for sample in batch_data_samples]
        losses: dict[str, Any] = super().loss(x, rpn_results_list, batch_data_samples)
        return losses

    def _bbox_forward(self, x: Any, rois: torch.Tensor) -> dict[str, Any]:
        """As the base class, in float32 whatever the precision: mmcv's RoIAlign knows no bfloat16."""
        results: dict[str, Any] = super()._bbox_forward(tuple(level.float() for level in x), rois)
        return results

    def bbox_loss(self, x: Any, sampling_results: list[Any]) -> dict[str, Any]:
        """Loss of the box head on the sampled places."""
        for result, looked_for in zip(sampling_results, self._looked_for, strict=True):
            result.looked_for = looked_for
        losses: dict[str, Any] = super().bbox_loss(x, sampling_results)
        return losses
