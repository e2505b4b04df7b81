"""Graph to graph: frozen weights as int8 or float16, adapted tensors untouched and external.

int8 is ONNX Runtime's dynamic quantisation (integer weights, activations quantised at run time), with two settings that
matter:

* ``reduce_range``: weights in seven bits. With eight, processors without VNNI saturate sums of two products and
  forecast differently; with seven, every processor adds the same integers (docs/adr/0015).
* a scale for each output of a plain matrix product; one for the whole of a product by heads, for which ONNX Runtime has
  no other.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from device_runtime.format.manifest import TensorEntry
from export.errors import ExportError
from export.graph import externalise, point


@dataclass(frozen=True)
class Outside:
    """An initializer whose numbers are in a file beside the graph."""

    kind: int  # ONNX's number of its type
    shape: tuple[int, ...]
    file: str
    offset: int  # bytes
    length: int

    def initializer(self, name: str) -> onnx.TensorProto:
        """Return it as a graph has it."""
        tensor = onnx.TensorProto(name=name, data_type=self.kind, dims=self.shape)
        point(tensor, self.file, self.offset, self.length)
        return tensor


NOTHING: Mapping[str, Outside] = MappingProxyType({})
SMALLEST = 1_024  # numbers; storing fewer in 16 bits saves nothing worth a node


def store_int8(
    model: onnx.ModelProto, adapted: Collection[str], entries: Sequence[TensorEntry], folder: Path
) -> onnx.ModelProto:
    """Return ``model`` (its weights loaded) with frozen products in int8 and ``entries`` external.

    ``folder`` is scratch space.
    """
    _split_products(model.graph, adapted)
    lift(model.graph, adapted)
    return quantise_rest(model, entries, folder)


def quantise_rest(
    model: onnx.ModelProto, entries: Sequence[TensorEntry], folder: Path, others: Mapping[str, Outside] = NOTHING
) -> onnx.ModelProto:
    """Return ``model`` with what is frozen in int8, and the inputs that `lift` made as external initializers.

    Float32 ones are at their ``entries``, ``others`` where they say.
    """
    arranged = {"op_types_to_quantize": ["Gather", "MatMul"]} if others else {}  # integers are, and need no rounding
    stored = {tensor.name for tensor in model.graph.initializer}
    folded = _optimise(model, folder)
    weights = {tensor.name: tensor for tensor in folded.graph.initializer}
    # Tables folded from others, as position biases: beside -1e9 for a blocked step one scale for all leaves nothing.
    tables = [node.name for node in folded.graph.node if node.op_type == "Gather" and node.input[0] not in stored]
    by_heads = [
        node.name
        for node in folded.graph.node
        if node.op_type == "MatMul" and node.input[1] in weights and len(weights[node.input[1]].dims) != 2
    ]
    path = str(folder / "int8.onnx")
    common = {"weight_type": QuantType.QInt8, "reduce_range": True, **arranged}
    quantize_dynamic(folded, path, per_channel=True, nodes_to_exclude=[*by_heads, *tables], **common)
    if by_heads:
        quantize_dynamic(path, path, nodes_to_quantize=by_heads, **common)
    return _lower(onnx.load(path), entries, others)


def store_float16(model: onnx.ModelProto, adapted: Collection[str], entries: Sequence[TensorEntry]) -> onnx.ModelProto:
    """Return ``model`` (its weights loaded) with frozen weights in float16, cast when a session folds its constants.

    Raises `ExportError` when a weight is too large for float16.
    """
    lift(model.graph, adapted)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST:
            continue
        name = tensor.name
        half = in_float16(name, numpy_helper.to_array(tensor))
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.float16"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], name=f"{name}.float32", to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return _lower(model, entries, NOTHING)


def in_float16(name: str, weights: NDArray[np.floating[Any]]) -> NDArray[np.float16]:
    """Return the weights ``name`` in float16. Raises `ExportError` when one is too large."""
    with np.errstate(over="ignore"):  # refused just below
        half = weights.astype(np.float16)
    if not np.isfinite(half).all():
        raise ExportError(f"{name}: a weight is too large for float16", hint="--precision float32 or int8")
    return half


def float_weights(model: onnx.ModelProto) -> int:
    """Count the numbers of a graph's own float32 weights: what neither int8 nor float16 took."""
    return sum(
        int(np.prod(tensor.dims))
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
        and tensor.data_location != onnx.TensorProto.EXTERNAL
        and len(tensor.dims) > 1
    )


def _split_products(graph: onnx.GraphProto, adapted: Collection[str]) -> None:
    """Split ``x @ [frozen; adapted].T`` into products of frozen and of adapted weights, concatenated afterwards.

    The exporter joins q, k and v of a block; with v adapted, q and k would else stay float32 beside it.
    """
    weights = {tensor.name for tensor in graph.initializer}
    users = {name: node for node in graph.node for name in node.input}  # of what is used once, the user
    uses = [name for node in graph.node for name in node.input]
    nodes = []
    replaced: dict[str, list[onnx.NodeProto]] = {}  # output of a product → what computes it now
    dropped: set[str] = set()  # outputs
    for join in graph.node:
        groups = [list(group) for _, group in itertools.groupby(join.input, key=lambda name: name in adapted)]
        if join.op_type != "Concat" or len(groups) == 1 or not weights.issuperset(join.input):
            continue
        between = [join]  # and the product: a Gemm turns its weight itself, a MatMul has it turned
        product = users[join.output[0]]
        if product.op_type == "Transpose":
            between.append(product)
            product = users[product.output[0]]
        if any(uses.count(node.output[0]) != 1 for node in between) or not _multiplies(product, between):
            continue
        parts, new = [], []
        for number, group in enumerate(groups):
            stem = f"{product.output[0]}.{number}"
            steps = [helper.make_node("Concat", group, [f"{stem}.joined"], axis=0)]
            if len(between) == 2:
                steps.append(helper.make_node("Transpose", [f"{stem}.joined"], [f"{stem}.weight"], perm=[1, 0]))
            part = onnx.NodeProto()
            part.CopyFrom(product)
            part.name = part.output[0] = stem
            part.input[1] = steps[-1].output[0]
            new += [*steps, part]
            parts.append(stem)
        replaced[product.output[0]] = [*new, helper.make_node("Concat", parts, [product.output[0]], axis=-1)]
        dropped |= {node.output[0] for node in between}
    for node in graph.node:
        if not dropped.intersection(node.output):
            nodes += replaced.get(node.output[0], [node])
    del graph.node[:]
    graph.node.extend(nodes)


def _multiplies(product: onnx.NodeProto, between: Sequence[onnx.NodeProto]) -> bool:
    """Say whether ``product`` is ``x @ W.T``, W the joined weight at the end of ``between``, and nothing is added."""
    if list(product.input[1:]) != [between[-1].output[0]]:
        return False
    if len(between) == 2:
        return bool(product.op_type == "MatMul")
    turned = {attribute.name: attribute.i for attribute in product.attribute}.get("transB", 0)
    return bool(product.op_type == "Gemm" and turned)


def lift(graph: onnx.GraphProto, adapted: Collection[str]) -> None:
    """Make adapted weights inputs, which no optimiser may fold and no quantiser may touch."""
    kept = [tensor for tensor in graph.initializer if tensor.name not in adapted]
    for tensor in graph.initializer:
        if tensor.name in adapted:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _lower(model: onnx.ModelProto, entries: Sequence[TensorEntry], others: Mapping[str, Outside]) -> onnx.ModelProto:
    """Make the inputs of `lift` external initializers; drop what tools noted about themselves."""
    names = {entry.name for entry in entries}
    for value in model.graph.input:
        if value.name in others:
            names.add(value.name)
            model.graph.initializer.append(others[value.name].initializer(value.name))
    inputs = [value for value in model.graph.input if value.name not in names]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    for entry in entries:
        model.graph.initializer.append(
            onnx.TensorProto(name=entry.name, data_type=onnx.TensorProto.FLOAT, dims=entry.shape)
        )
    externalise(model, entries)
    domains = {node.domain for node in model.graph.node}
    used = [opset for opset in model.opset_import if opset.domain in domains]
    del model.opset_import[:]
    model.opset_import.extend(used)
    return model


def _optimise(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Run ONNX Runtime's basic optimisation: frozen weights come out folded, transposed and joined, as products."""
    source, target = folder / "lifted.onnx", folder / "folded.onnx"
    onnx.save_model(model, str(source))
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    folded = onnx.load(str(target))
    add_pre_process_metadata(folded)  # or the quantiser says in the log that this step is missing
    return folded
