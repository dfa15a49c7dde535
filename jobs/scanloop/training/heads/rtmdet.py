"""The RTMDet head, taught that a scan is a negative only for categories that somebody looked for."""

from __future__ import annotations

import math
from typing import Any

import torch
from mmdet.models.dense_heads import RTMDetSepBNHead
from mmdet.registry import MODELS

NOT_LOOKED_FOR_LOGIT = -30.0
"""A logit this low as a negative costs nothing (below 1e-12) and, being a constant, gives no gradient."""
FIRST_REACH = 2.5
"""Distance, in strides, of a fresh network's box edges from their prior. mmdet starts at 0: such boxes overlap nothing, the assigner then
finds one positive a threat, and the first hundreds of steps are spent on growing boxes."""


@MODELS.register_module()
class LookedForRTMDetHead(RTMDetSepBNHead):
    """RTMDetSepBNHead whose classification loss leaves out, per scan, categories that nobody looked for there.

    Reads `looked_for` from the image meta information: (C,) bool; absent means all were looked for. Prediction is unchanged.
    """

    def init_weights(self) -> None:
        super().init_weights()
        for layer in self.rtm_reg:
            torch.nn.init.constant_(layer.bias, math.log(FIRST_REACH) if self.exp_on_reg else FIRST_REACH)

    def loss_by_feat(
        self,
        cls_scores: list[torch.Tensor],
        bbox_preds: list[torch.Tensor],
        batch_gt_instances: list[Any],
        batch_img_metas: list[dict[str, Any]],
        batch_gt_instances_ignore: list[Any] | None = None,
    ) -> dict[str, Any]:
        """Compute losses as the base class does, on masked logits. Each level's logits are (N, C, H, W)."""
        everything = [True] * self.num_classes
        looked_for = torch.tensor([list(meta.get("looked_for", everything)) for meta in batch_img_metas], dtype=torch.bool)
        if not looked_for.all():
            hidden = ~looked_for[:, :, None, None].to(cls_scores[0].device)
            cls_scores = [scores.masked_fill(hidden, NOT_LOOKED_FOR_LOGIT) for scores in cls_scores]
        losses: dict[str, Any] = super().loss_by_feat(
            cls_scores, bbox_preds, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore
        )
        return losses
