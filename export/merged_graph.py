"""Graph to graph: products of weights in integers, and the tensors that adapters may change as integers from outside.

A product ``x @ W.T`` becomes ONNX Runtime's dynamic quantisation, written out: x in eight bits with one scale, W in
seven with one for each row (`device_runtime.format.quantised`), an integer product, and both scales on its result.
Where a model multiplies by heads instead, ``x @ W`` sums over W's rows, so their scales go to x. W comes in as two
initializers in its torch orientation; joining and turning it is left to ONNX Runtime, once, as a session opens
(docs/adr/0037).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from device_runtime.format.manifest import TensorEntry
from device_runtime.format.quantised import INTEGERS, SCALES, quantise
from export.quantize_graph import Outside, lift, quantise_rest

INTEGER_FILE = "quantised.bin"

Nodes = Sequence[onnx.NodeProto]


@dataclass(frozen=True, kw_only=True)
class Product:
    """A product of the graph with weights, and the nodes that arrange these."""

    node: onnx.NodeProto
    arranging: Nodes  # in their order; the last one's output is what is multiplied
    weights: tuple[str, ...]  # joined row after row
    heads: int = 0  # by which the weight is divided; 0: not at all
    sums_rows: bool = False  # of the weight: x @ W instead of x @ W.T


def quantised_tensors(graphs: Sequence[onnx.ModelProto], kept: Collection[str]) -> set[str]:
    """Name those of the tensors ``kept`` that no graph uses but in products: the others stay float32."""
    used: set[str] = set()
    elsewhere: set[str] = set()
    for model in graphs:
        products = list(_products(model.graph))
        arranging = {node.output[0] for product in products for node in product.arranging}
        multiplied = {product.node.output[0] for product in products}
        used |= {name for product in products for name in product.weights}
        elsewhere |= {
            name for node in model.graph.node if node.output[0] not in arranging | multiplied for name in node.input
        }
    return used.intersection(kept) - elsewhere


def write_integers(folder: Path, tensors: Mapping[str, NDArray[np.float32]]) -> dict[str, Outside]:
    """Write what graphs take for the base's own ``tensors`` to `INTEGER_FILE`; return where each lies, by name.

    ``tensors`` are those that deltas are added to, so a tensor that an adapter leaves alone has the same bytes merged.
    """
    places: dict[str, Outside] = {}
    at = 0
    with (folder / INTEGER_FILE).open("wb") as file:
        scales = {}
        for name, tensor in tensors.items():  # all scales first: they want four bytes' alignment
            scales[name] = quantise(tensor)
        for suffix, which in ((SCALES, 1), (INTEGERS, 0)):
            for name, both in scales.items():
                array = both[which]
                file.write(array.astype(array.dtype.newbyteorder("<")).tobytes())
                kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
                places[name + suffix] = Outside(kind, array.shape, INTEGER_FILE, at, array.nbytes)
                at += array.nbytes
    return places


def store_merged(
    model: onnx.ModelProto,
    kept: Collection[str],
    entries: Sequence[TensorEntry],
    integers: Mapping[str, Outside],
    folder: Path,
) -> onnx.ModelProto:
    """Return ``model`` (its weights loaded) with its products in integers.

    Of the tensors ``kept``, those among ``integers`` come in as integers and scales, the rest as float32 ``entries``.
    ``folder`` is scratch space.
    """
    _replace_products(model.graph, kept, integers)
    _prune(model.graph)
    lift(model.graph, {*kept, *integers})
    floats = [entry for entry in entries if not entry.quantised]
    return quantise_rest(model, floats, folder, integers)


def _replace_products(graph: onnx.GraphProto, kept: Collection[str], integers: Mapping[str, Outside]) -> None:
    """Write every product of weights in integers, but those with a kept tensor that has to stay float32."""
    floats = {name for name in kept if name + INTEGERS not in integers}
    products = {p.node.output[0]: p for p in _products(graph) if not floats.intersection(p.weights)}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for name in sorted({name for product in products.values() for name in product.weights}):
        for suffix, array in zip((INTEGERS, SCALES), quantise(numpy_helper.to_array(weights[name])), strict=True):
            graph.initializer.append(numpy_helper.from_array(array, name + suffix))
    nodes: list[onnx.NodeProto] = []
    rounded: dict[str, str] = {}
    for node in graph.node:
        product = products.get(node.output[0])
        nodes += [node] if product is None else _in_integers(product, rounded)
    del graph.node[:]
    graph.node.extend(nodes)


def _in_integers(product: Product, rounded: dict[str, str]) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that compute a product; ``rounded`` are the values that were quantised already."""
    out = product.node.output[0]
    integers = {name: name + INTEGERS for name in product.weights}
    for node in product.arranging:
        integers[node.output[0]] = f"{out}.{node.output[0]}{INTEGERS}"
        copy = helper.make_node(node.op_type, [integers.get(name, name) for name in node.input],
                                [integers[node.output[0]]], name=integers[node.output[0]])  # fmt: skip
        copy.attribute.extend(node.attribute)
        yield copy
    weight = integers[product.node.input[1]]
    if product.node.op_type == "Gemm":
        yield helper.make_node("Transpose", [weight], [f"{out}.turned"], name=f"{out}.turned", perm=[1, 0])
        weight = f"{out}.turned"
    yield from _scales(product)
    x = product.node.input[0]
    if product.sums_rows:
        yield helper.make_node("Mul", [x, f"{out}{SCALES}"], [f"{out}.scaled"], name=f"{out}.scaled")
        x = f"{out}.scaled"
    if x not in rounded:
        rounded[x] = f"{x}.input"
        yield helper.make_node("DynamicQuantizeLinear", [x], [f"{x}.input", f"{x}.input_step", f"{x}.input_zero"],
                               name=f"{x}.input")  # fmt: skip
    step = f"{x}.input_step"
    if not product.sums_rows:
        yield helper.make_node("Mul", [step, f"{out}{SCALES}"], [f"{out}.step"], name=f"{out}.step")
        step = f"{out}.step"
    yield helper.make_node(
        "MatMulInteger", [rounded[x], weight, f"{x}.input_zero"], [f"{out}.sums"], name=f"{out}.sums"
    )
    yield helper.make_node("Cast", [f"{out}.sums"], [f"{out}.float"], name=f"{out}.float", to=onnx.TensorProto.FLOAT)
    added = list(product.node.input[2:])
    result = f"{out}.product" if added else out
    yield helper.make_node("Mul", [f"{out}.float", step], [result], name=result)
    if added:
        yield helper.make_node("Add", [result, *added], [out], name=out)


def _scales(product: Product) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that arrange the scales of a product's rows as its columns."""
    out, scales = product.node.output[0], [name + SCALES for name in product.weights]
    if product.heads:
        shape = helper.make_tensor("", onnx.TensorProto.INT64, [3], [product.heads, 1, -1])
        yield helper.make_node("Constant", [], [f"{out}.heads"], name=f"{out}.heads", value=shape)
        yield helper.make_node("Reshape", [*scales, f"{out}.heads"], [f"{out}{SCALES}"], name=f"{out}{SCALES}")
    elif len(scales) > 1:
        yield helper.make_node("Concat", scales, [f"{out}{SCALES}"], name=f"{out}{SCALES}", axis=0)
    else:
        yield helper.make_node("Identity", scales, [f"{out}{SCALES}"], name=f"{out}{SCALES}")


def _products(graph: onnx.GraphProto) -> Iterator[Product]:
    """Yield the products of which one factor is made of weights alone."""
    sides = {tensor.name: list(tensor.dims) for tensor in graph.initializer if len(tensor.dims) == 2
             and tensor.data_type == onnx.TensorProto.FLOAT}  # fmt: skip
    made = {name: node for node in graph.node for name in node.output}
    weighted = _weighted(graph, sides)
    shapes = {info.name: [side.dim_value for side in info.type.tensor_type.shape.dim] for info in graph.value_info}
    for node in graph.node:
        if node.op_type not in ("MatMul", "Gemm") or node.input[0] not in weighted:
            continue
        arranging: list[onnx.NodeProto] = []
        name = node.input[1]
        while name not in sides and name in made and made[name].op_type in ("Transpose", "Reshape", "Concat"):
            arranging.insert(0, made[name])
            name = made[name].input[0]
        if name in sides:
            heads = shapes.get(arranging[0].output[0], [0])[0] if arranging else 0
            found = _recognised(node, arranging, sides, heads)
            if found is not None:
                yield found


def _weighted(graph: onnx.GraphProto, weights: Collection[str]) -> set[str]:
    """Name what is computed from any of ``weights``.

    What is not is the context itself: its outliers leave the rest few of the steps of eight bits, and a patch is short,
    so products that read it stay float32 (docs/adr/0037).
    """
    found = set(weights)
    for node in graph.node:
        if found.intersection(node.input):
            found.update(node.output)
    return found - set(weights)


def _recognised(node: onnx.NodeProto, arranging: Nodes, sides: Mapping[str, Any], heads: int) -> Product | None:
    """Return a product whose weight is arranged in a way that is known here."""
    how = [(one.op_type, tuple(_attribute(one, "perm", ()))) for one in arranging]
    joined = arranging[:1] if how and how[0][0] == "Concat" and _attribute(arranging[0], "axis", 0) == 0 else ()
    weights = tuple(joined[0].input) if joined else (arranging[0].input[0] if arranging else node.input[1],)
    if not set(weights) <= sides.keys():
        return None
    after = how[len(joined) :]
    if node.op_type == "Gemm":
        plain = _attribute(node, "alpha", 1.0) == 1 and _attribute(node, "beta", 1.0) == 1
        turned = _attribute(node, "transB", 0) == 1 and not _attribute(node, "transA", 0)
        return Product(node=node, arranging=arranging, weights=weights) if plain and turned and not after else None
    if after == [("Transpose", (1, 0))]:
        return Product(node=node, arranging=arranging, weights=weights)
    if joined or heads < 1:
        return None
    if after == [("Reshape", ()), ("Transpose", (0, 2, 1))]:
        return Product(node=node, arranging=arranging, weights=weights, heads=heads)
    if after == [("Reshape", ())]:
        return Product(node=node, arranging=arranging, weights=weights, heads=heads, sums_rows=True)
    return None


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Return a node's attribute."""
    return next((helper.get_attribute_value(one) for one in node.attribute if one.name == name), default)


def _prune(graph: onnx.GraphProto) -> None:
    """Remove the nodes and weights that nothing uses any more."""
    wanted = {value.name for value in graph.output}
    nodes = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            nodes.append(node)
            wanted.update(node.input)
    kept = [tensor for tensor in graph.initializer if tensor.name in wanted]
    for field, what in ((graph.node, nodes[::-1]), (graph.initializer, kept)):
        del field[:]
        field.extend(what)
