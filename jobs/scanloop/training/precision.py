"""Steps in bfloat16. mmengine's own wrapper for mixed precision asserts a GPU and scales gradients, which this type does not need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """OptimWrapper that runs the network in bfloat16 where that is safe; weights, gradients and optimizer stay float32."""

    @contextmanager
    def optim_context(self, model: torch.nn.Module) -> Iterator[None]:
        """Autocast around the forward pass."""
        with super().optim_context(model), torch.autocast(next(model.parameters()).device.type, dtype=torch.bfloat16):
            yield
