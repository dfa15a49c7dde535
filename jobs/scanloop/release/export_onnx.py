"""The network as one ONNX file: raw outputs, before decoding and non-maximum suppression, which stay in NumPy (`training.postprocess`)."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from scanloop.edge.detector import INPUT_NAME, OUTPUT_NAMES
from scanloop.errors import DataWrong

if TYPE_CHECKING:
    import torch

OPSET = 18


def export_onnx(model: torch.nn.Module, channels: int, size_px: int, path: Path) -> Path:
    """Write `model` to `path`; the batch axis stays free. The file is whole: weights inside, no data file beside it.

    By the TorchScript exporter: the same weights give the same bytes, and it takes a tenth of the time of the newer one, which replaces it
    here when PyTorch removes it (tried with torch 2.13: equal outputs, but the file is not reproducible).

    Raises:
        DataWrong: what was written does not pass ONNX's own checker, or refers to another file.
    """
    import onnx
    import torch

    class Raw(torch.nn.Module):
        """Flattens the two lists that an RTMDet returns."""

        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, planes: torch.Tensor) -> tuple[torch.Tensor, ...]:
            logits, distances = self.network(planes, mode="tensor")
            return (*logits, *distances)

    batch = torch.zeros(2, channels, size_px, size_px)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # deprecations inside torch.onnx, and tracer notes about constant shapes
        torch.onnx.export(
            Raw(model).eval(),
            (batch,),
            str(path),
            dynamo=False,
            input_names=[INPUT_NAME],
            output_names=list(OUTPUT_NAMES),
            opset_version=OPSET,
            dynamic_axes={name: {0: "batch"} for name in (INPUT_NAME, *OUTPUT_NAMES)},
        )
    exported = onnx.load(str(path), load_external_data=False)
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in exported.graph.initializer):
        raise DataWrong(f"The exported network {path.name} keeps weights in another file.")
    try:
        onnx.checker.check_model(exported, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise DataWrong(f"The exported network {path.name} is not valid ONNX: {str(error).splitlines()[0]}.") from None
    return path
