"""Torch module to ONNX graph with external tunable weights, under their torch names, in their torch orientation."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from device_runtime.manifest import TUNABLE_FILE, TensorEntry
from export.errors import ExportError

OPSET = 20  # what onnxruntime 1.21, the oldest we name, understands


def trace(
    module: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    dynamic: tuple[Any, ...],
    names: Sequence[str],
    output: str,
    folder: Path,
) -> onnx.ModelProto:
    """Export ``module`` with ``optimize=False``: the default renames weights and transposes them.

    ``dynamic`` gives each input's dynamic dimensions, ``names`` the inputs' names. ``folder`` is scratch space.
    """
    with _quiet():
        program = torch.onnx.export(
            module,
            inputs,
            dynamo=True,
            optimize=False,
            verbose=False,
            dynamic_shapes=(dynamic,) if len(inputs) > 1 else dynamic,
            input_names=list(names),
            output_names=[output],
            opset_version=OPSET,
        )
    assert program is not None  # only with dynamo=False does torch return nothing
    path = folder / "traced.onnx"
    program.save(str(path))
    return onnx.load(str(path))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch's exporter says about operators of torchvision and about its own pytrees."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def tunable_names(graph: onnx.ModelProto, module: nn.Module, frozen: Sequence[str]) -> list[str]:
    """Name the module's parameters that the graph uses, sorted, except the ``frozen`` ones."""
    used = {tensor.name for tensor in graph.graph.initializer}
    return sorted(name for name, _ in module.named_parameters() if name in used and name not in frozen)


def externalise(graph: onnx.ModelProto, entries: Sequence[TensorEntry]) -> None:
    """Point the initializers of ``entries`` to their bytes in `TUNABLE_FILE`, in place."""
    by_name = {entry.name: entry for entry in entries}
    for tensor in graph.graph.initializer:
        entry = by_name.get(tensor.name)
        if entry is None:
            continue
        if tuple(tensor.dims) != entry.shape or tensor.data_type != onnx.TensorProto.FLOAT:
            got = f"{tuple(tensor.dims)}, ONNX type {tensor.data_type}"
            raise ExportError(
                f"{tensor.name}: traced as {got}; want float32 {entry.shape}",
                hint="this torch rewrites weights as it traces; use the version pinned in constraints.txt",
            )
        for field in ("raw_data", "float_data", "external_data"):
            tensor.ClearField(field)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", TUNABLE_FILE), ("offset", entry.offset), ("length", 4 * entry.size)):
            tensor.external_data.add(key=key, value=str(value))
    # The exporter's notes on where each node came from are half of the file, and name the machine's folders.
    for node in graph.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    graph.ClearField("metadata_props")
    graph.graph.ClearField("metadata_props")
    for value in (*graph.graph.value_info, *graph.graph.input, *graph.graph.output, *graph.graph.initializer):
        value.ClearField("metadata_props")
    del graph.functions[:]
