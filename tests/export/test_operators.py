"""The operators that graphs name: one node each, and in torch the same numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch")
ort = pytest.importorskip("onnxruntime")

from export.graph import Part, trace  # noqa: E402
from export.operators import counted, reshaped, thirds, written  # noqa: E402


class Module(torch.nn.Module):
    """One operator of an input ``[B, T, 6]``."""

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def put(x: torch.Tensor) -> torch.Tensor:
    """Write ones over the rows (1, 0) and (0, 1)."""
    return written(x, torch.tensor([[1, 0], [0, 1]]), torch.ones(2, 6))


@pytest.mark.parametrize(
    ("function", "node"),
    [
        (lambda x: reshaped(x, (0, -1, 2, 3), (x.shape[0], x.shape[1], 2, 3)), "Reshape"),
        (lambda x: thirds(x, 2)[1], "Split"),
        (put, "ScatterND"),
        (lambda x: x + counted(x, 1)[:, None], "Range"),
    ],
)
def test_a_graph_has_one_node_of_it_and_torchs_numbers_at_every_size(function, node: str) -> None:
    module = Module(function)
    dims = {0: torch.export.Dim("batch", min=2, max=9), 1: torch.export.Dim("steps", min=2, max=9)}
    part = Part(
        name="one", module=module, inputs=(torch.randn(3, 4, 6),), dynamic=(dims,), input_names=["x"],
        output_names=["y"],
    )  # fmt: skip
    model = trace(part)
    kinds = [one.op_type for one in model.graph.node]
    assert kinds.count(node) == 1
    assert not {"Concat", "Transpose", "SplitToSequence"}.intersection(kinds)  # of torch's own
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch, steps in ((2, 2), (3, 7), (5, 4)):
        x = torch.randn(batch, steps, 6)
        (got,) = session.run(None, {"x": x.numpy()})
        assert not np.array_equal(got, np.zeros_like(got))
        np.testing.assert_array_equal(got, module(x).numpy())
