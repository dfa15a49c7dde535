"""The DINO head, taught that a scan is a negative only for categories that somebody looked for."""

from __future__ import annotations

from typing import Any

from mmdet.models.dense_heads import DINOHead
from mmdet.registry import MODELS

from scanloop.training.heads.looked_for import category_weights, looked_for_of


@MODELS.register_module()
class LookedForDINOHead(DINOHead):
    """DINOHead whose focal loss weights (query, category): for the queries of every layer, of the encoder and of denoising.

    Focal loss scores categories one by one, so a weight of 0 leaves one out and nothing else.
    """

    def _get_targets_single(self, cls_score: Any, bbox_pred: Any, gt_instances: Any, img_meta: dict[str, Any]) -> tuple[Any, ...]:
        return self._weighted(super()._get_targets_single(cls_score, bbox_pred, gt_instances, img_meta), img_meta)

    def _get_dn_targets_single(self, gt_instances: Any, img_meta: dict[str, Any], dn_meta: dict[str, int]) -> tuple[Any, ...]:
        return self._weighted(super()._get_dn_targets_single(gt_instances, img_meta, dn_meta), img_meta)

    def _weighted(self, targets: tuple[Any, ...], img_meta: dict[str, Any]) -> tuple[Any, ...]:
        labels, label_weights, *others = targets
        looked_for = looked_for_of(img_meta, self.num_classes, labels.device)
        return (labels, category_weights(label_weights, labels, looked_for), *others)
