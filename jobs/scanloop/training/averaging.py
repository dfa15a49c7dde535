"""A running average that averages nothing, for those who want none: mmengine's own asserts a momentum below 1."""

from __future__ import annotations

import torch
from mmengine.model import BaseAveragedModel
from mmengine.registry import MODELS


@MODELS.register_module()
class NewestWeights(BaseAveragedModel):
    """Keeps the newest weights, in the place and with the states of a running average."""

    def avg_func(self, averaged_param: torch.Tensor, source_param: torch.Tensor, steps: int) -> None:
        """Take over the newest value."""
        averaged_param.copy_(source_param)
