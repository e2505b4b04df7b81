"""The rate of a large matrix product on this machine: what no forecast's products can go above."""

from __future__ import annotations

import time

import numpy as np
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper

from device_runtime.forecast.session import SessionSettings, session_options
from export.graph import OPSET

SIZE = 1_024
ROUNDS = 20


def operations_per_ms(threads: int) -> float:
    """Return the float32 operations a millisecond of the faster of torch's and ONNX Runtime's large product.

    Torch's library need not use all that a processor has: on AMD processors with AVX-512 it reaches half. The best of
    several runs in turn counts, since other work on a machine does not lower its peak.
    """
    torch.set_num_threads(threads)
    a = torch.randn(SIZE, SIZE)
    session = _product(a.numpy(), threads)
    feed = {"x": a.numpy()}
    least = np.inf
    for _ in range(ROUNDS):
        for function in (lambda: a @ a, lambda: session.run(None, feed)):
            start = time.perf_counter()
            function()
            least = min(least, time.perf_counter() - start)
    return 2 * SIZE**3 / (least * 1e3)


def _product(weight: np.ndarray, threads: int) -> ort.InferenceSession:
    """Open a graph of one product with a constant ``weight`` ``[SIZE, SIZE]``, as a forecast's are."""
    shape = list(weight.shape)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weight"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    options = session_options(SessionSettings(threads=threads, spinning=True))
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
