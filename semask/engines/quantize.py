"""int8 for onnxruntime: what convolutions and linear layers take is scaled by what they were seen to take."""

import logging
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from semask.files.atomic import temporary_folder

if TYPE_CHECKING:
    from torch import Tensor

LAST = r".*/(classifier|class_predictor)/.*"
"""Nodes of the last layer, which stay as they are; so do products of activations: attention, masks."""
WIDEST = 64
"""Largest size of a weight in 8 bits, for processors that add two products in 16 bits; see `quantized`."""


def quantized(graph: Any, calibration: "Iterable[Tensor]", *, symmetric: bool = False) -> Any:
    """Quantize an `onnx.ModelProto`: weights by channel, activations by tensor.

    A processor without VNNI adds two products of an unsigned and a signed byte in 16 bits, which saturate: 2 x 255 x
    127 is above 32,767, 2 x 255 x 64 is not. So weights are from -64 to 64, and every processor computes the same.

    Args:
        graph: In float32.
        calibration: Normalized images [1, C, H, W].
        symmetric: Whether 0 stays 0 in activations too, as TensorRT asks for, and weights have all 8 bits, which GPUs
            multiply exactly; else the range of activations is used better.

    Raises:
        ValueError: If there are no images.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Images(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.images: Iterator[Tensor] = iter(calibration)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self.images, None)
            return None if image is None else {"image": image.cpu().numpy()}

    weights = {tensor.name for tensor in graph.graph.initializer}
    kept = [
        node.name
        for node in graph.graph.node
        if re.fullmatch(LAST, node.name) or (node.op_type == "MatMul" and not weights & set(node.input))
    ]
    with temporary_folder() as folder:
        before, after = folder / "before.onnx", folder / "after.onnx"
        onnx.save(graph, before)
        level = logging.root.level
        logging.root.setLevel(logging.ERROR)  # it asks for a preparation that this graph has had
        try:
            quantize_static(
                before,
                after,
                Images(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=not symmetric,
                op_types_to_quantize=["Conv", "MatMul"],
                nodes_to_exclude=kept,
                activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                extra_options={"ActivationSymmetric": symmetric},
            )
        finally:
            logging.root.setLevel(level)
        return onnx.load(after)
