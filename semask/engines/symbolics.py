"""How some of torch's operations are said in ONNX that torch's exporter does not know for sizes that change."""

from typing import Any

import torch
from torch.onnx import symbolic_helper
from torch.onnx.utils import register_custom_op_symbolic


def transpose(g: Any, x: Any) -> Any:
    """`x.mT`: swap the last two dimensions."""
    last = x.type().dim() - 1
    return g.op("Transpose", x, perm_i=[*range(last - 1), last, last - 1])


@symbolic_helper.parse_args("v", "is")
def adaptive_average(g: Any, x: Any, sides: list[int]) -> Any:
    """`adaptive_avg_pool2d` as a product with the matrices that average the rows and the columns."""
    if list(sides) == [1, 1]:
        return g.op("GlobalAveragePool", x)
    rows, columns = (averages(g, x, axis, side) for axis, side in zip((2, 3), sides, strict=True))
    return g.op("MatMul", g.op("MatMul", rows, x), g.op("Transpose", columns, perm_i=[1, 0]))


def averages(g: Any, x: Any, axis: int, side: int) -> Any:
    """The matrix [side, n] that averages n locations of an axis to `side` locations, from floor(i n / side) on."""

    def constant(*values: int) -> Any:
        return g.op("Constant", value_t=torch.tensor(values))

    n = g.op("Gather", g.op("Shape", x), g.op("Constant", value_t=torch.tensor(axis)), axis_i=0)
    zero, one = (g.op("Constant", value_t=torch.tensor(value)) for value in (0, 1))
    cells = g.op("Range", zero, n, one)  # [n]
    bins = g.op("Constant", value_t=torch.arange(side)[:, None])
    first = g.op("Div", g.op("Mul", bins, n), constant(side))  # [side, 1]
    after = g.op("Mul", g.op("Add", bins, constant(1)), n)
    after = g.op("Div", g.op("Add", after, constant(side - 1)), constant(side))
    inside = g.op("And", g.op("GreaterOrEqual", cells, first), g.op("Less", cells, after))
    weights = g.op("Cast", inside, to_i=1)  # float32
    counts = g.op("ReduceSum", weights, constant(1), keepdims_i=1)
    return g.op("Div", weights, counts)


def register(opset: int) -> None:
    """Tell torch's exporter."""
    register_custom_op_symbolic("aten::mT", transpose, opset)
    register_custom_op_symbolic("aten::adaptive_avg_pool2d", adaptive_average, opset)
