"""Torch module to ONNX graph with external tunable weights, under their torch names, in their torch orientation."""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import torch
import torch._dynamo
from numpy.typing import NDArray
from torch import nn

from device_runtime.format.manifest import TUNABLE_FILE, TensorEntry
from export.errors import ExportError
from export.quiet import quiet
from export.repeat import Stack, repeat

FROZEN_FILE = "frozen.bin"
ALIGNMENT = 64  # bytes
OPSET = 20  # what onnxruntime 1.21, the oldest we name, understands


@dataclass(frozen=True, kw_only=True)
class Part:
    """One graph of a bundle, before it is traced."""

    name: str  # in the manifest
    module: nn.Module
    inputs: tuple[torch.Tensor, ...]  # an example
    dynamic: tuple[Any, ...]  # each input's dynamic dimensions, as torch.export takes them
    input_names: Sequence[str]
    output_names: Sequence[str]
    stacks: tuple[Stack, ...] = ()  # of which the module computes the first blocks only


def trace(part: Part, elsewhere: Collection[str] = ()) -> onnx.ModelProto:
    """Export a part with ``optimize=False``: the default renames weights and transposes them.

    Of the initializers named ``elsewhere`` only name, type and shape come back, their bytes are written apart: a model
    need not be in memory twice.
    """
    with quiet("torch.onnx", "onnx_ir"), _swift():
        program = torch.onnx.export(
            part.module.eval(),
            part.inputs,
            dynamo=True,
            optimize=False,
            verbose=False,
            dynamic_shapes=part.dynamic,
            input_names=list(part.input_names),
            output_names=list(part.output_names),
            opset_version=OPSET,
        )
    assert program is not None  # only with dynamo=False does torch return nothing
    for name, value in program.model.graph.initializers.items():
        held = value.const_value
        if name in elsewhere and held is not None:
            shape = onnx_ir.Shape(held.shape.numpy())
            value.const_value = onnx_ir.ExternalTensor(TUNABLE_FILE, 0, held.nbytes, held.dtype, shape=shape, name=name)
    model = program.model_proto
    for stack in part.stacks:
        repeat(model.graph, stack)
    return model


@contextmanager
def _swift() -> Iterator[None]:
    """Leave out what takes a quarter of the time of tracing and gives nothing there.

    Cyclic garbage is looked for among millions of live objects; outputs found in the cache of fake tensors are made
    anew from symbolic sizes, which costs more than computing them.
    """
    collecting = gc.isenabled()
    gc.disable()
    known = hasattr(torch._dynamo.config, "fake_tensor_cache_enabled")
    try:
        with torch._dynamo.config.patch(fake_tensor_cache_enabled=False) if known else nullcontext():
            yield
    finally:
        if collecting:
            gc.enable()


def tunable_names(graph: onnx.ModelProto, module: nn.Module, frozen: Sequence[str]) -> list[str]:
    """Name the module's parameters that the graph uses, sorted, except the ``frozen`` ones."""
    used = {tensor.name for tensor in graph.graph.initializer}
    return sorted(name for name, _ in module.named_parameters() if name in used and name not in frozen)


def name_ties(graph: onnx.ModelProto, model: nn.Module) -> None:
    """Give a parameter that a model uses under several names (tied embeddings) its first one, in place."""
    parameters = dict(model.named_parameters())
    first = {id(parameter): name for name, parameter in parameters.items()}
    ties = {
        name: first[id(parameter)]
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if name not in parameters
    }
    for tensor in graph.graph.initializer:
        tensor.name = ties.get(tensor.name, tensor.name)
    for node in graph.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = ties.get(name, name)


def share(graphs: Sequence[onnx.ModelProto], names: Sequence[str], folder: Path, file: str = FROZEN_FILE) -> None:
    """Write those of ``names`` that several graphs use once, to ``file``, and point the graphs there."""
    data = bytearray()
    for name in names:
        uses = [tensor for graph in graphs for tensor in graph.graph.initializer if tensor.name == name]
        if len(uses) < 2:
            continue
        data.extend(bytes(-len(data) % ALIGNMENT))
        start = len(data)
        data.extend(onnx.numpy_helper.to_array(uses[0]).tobytes())
        for tensor in uses:
            point(tensor, file, start, len(data) - start)
    if data:
        (folder / file).write_bytes(data)


def embed(graph: onnx.ModelProto, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Put the bytes of ``arrays`` back into the graph, in place: weights that no adapter changes."""
    for tensor in graph.graph.initializer:
        if tensor.name in arrays:
            for field in ("data_location", "external_data"):
                tensor.ClearField(field)
            tensor.raw_data = np.ascontiguousarray(arrays[tensor.name], dtype="<f4").tobytes()


def point(tensor: onnx.TensorProto, file: str, offset: int, length: int) -> None:
    """Make an initializer's data those bytes of ``file``."""
    for field in ("raw_data", "float_data", "external_data"):
        tensor.ClearField(field)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", file), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


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
        point(tensor, TUNABLE_FILE, entry.offset, 4 * entry.size)
    # The exporter's notes on where each node came from are half of the file, and name the machine's folders.
    for node in graph.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    graph.ClearField("metadata_props")
    graph.graph.ClearField("metadata_props")
    for value in (*graph.graph.value_info, *graph.graph.input, *graph.graph.output, *graph.graph.initializer):
        value.ClearField("metadata_props")
    del graph.functions[:]
