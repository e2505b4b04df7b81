"""int8-merged: adapted tensors come in as integers of what was merged, in all three families."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from device_runtime.errors import MergeError
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.forecast.merge import merge
from device_runtime.format.adapter import Adapter
from device_runtime.format.delta import Delta, Dense, LowRank, Numbers
from device_runtime.format.quantised import initializers, quantise
from edge_tsfm.methods.sites import kept_tensors
from export import ExportError, PrecisionExport, export_precision
from export.contexts import synthetic_contexts
from export.deviation import LEAST_KEPT, check_tensors, require_kept
from export.learning import export_learning
from export.merged_graph import INTEGER_FILE, quantised_tensors
from export.parity import runtime_witness

FAMILIES = ["chronos-bolt", "chronos-t5", "chronos-2"]
Exported = Callable[[str], Any]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def stored(family: str, exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> PrecisionExport:
    base, bundle = exported(family)
    out = tmp_path_factory.mktemp("merged") / "bundle"
    # A width of 8 leaves forecasts coarse: the bound is for the proofs here to run, not for what a base may lose.
    return export_precision(
        bundle, out=out, precision="int8-merged", adapted=kept_tensors(base.model, None), allowed=0.1
    )


def large(shape: tuple[int, ...], seed: int, strength: float = 0.3) -> Delta:
    """A delta that matters, of any shape."""
    draw = np.random.default_rng(seed)
    rows, columns = shape if len(shape) == 2 else (shape[0], 1)
    if len(shape) == 1:
        return Dense(Numbers.of(strength * draw.normal(size=(rows, 1))))
    a, b = draw.normal(size=(1, columns)), strength * draw.normal(size=(rows, 1))
    return LowRank(a=Numbers.of(a), b=Numbers.of(b), scaling=1.0)


def test_weights_of_products_are_integers_and_their_originals_float16(
    stored: PrecisionExport, family: str, exported: Exported
) -> None:
    bundle, source = Bundle.open(stored.path), exported(family)[1]
    floats = ("relative_attention_bias", "input_patch_embedding.hidden", "input_patch_embedding.residual")
    for entry in bundle.manifest.tensors:
        assert entry.quantised == (len(entry.shape) == 2 and not any(one in entry.name for one in floats)), entry.name
    for index, entry in enumerate(bundle.manifest.tensors):
        original = source.tensor(source.index_of(entry.name))
        wanted = original.astype(np.float16).astype(np.float32) if entry.quantised else original
        np.testing.assert_array_equal(bundle.tensor(index), wanted)


def test_what_the_graphs_have_is_what_quantising_the_originals_gives(stored: PrecisionExport) -> None:
    bundle = Bundle.open(stored.path)
    data = (stored.path / INTEGER_FILE).read_bytes()
    seen = set()
    for graph in bundle.manifest.graphs.values():
        model = onnx.load(str(stored.path / graph.file))  # with its external data
        there = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        for index in graph.tensors:
            entry = bundle.manifest.tensors[index]
            for name, numbers in initializers(entry, bundle.tensor(index)).items():
                assert there[name].dtype == numbers.dtype
                np.testing.assert_array_equal(there[name], numbers)
                seen.add(name)
            assert entry.quantised != (entry.name in there)
    assert len(data) == sum(
        entry.size + 4 * entry.shape[0]
        for entry in bundle.manifest.tensors
        if entry.quantised and entry.name + ".int8" in seen
    )


def test_no_product_of_weights_stays_in_floats_but_those_that_read_the_context(stored: PrecisionExport) -> None:
    names = set()
    for path in stored.path.glob("*.onnx"):
        graph = onnx.load(str(path), load_external_data=False).graph
        weights = {tensor.name for tensor in graph.initializer}
        made = {node.output[0]: node for node in graph.node}
        for node in graph.node:
            if node.op_type in ("MatMul", "Gemm"):
                source = node.input[1]
                while source in made and made[source].op_type in ("Transpose", "Concat", "Reshape"):
                    source = made[source].input[0]
                names |= {source} & weights
    # Basic optimisation may have renamed them: a patch block has two products that read the context.
    assert len(names) <= 2 * (Bundle.open(stored.path).manifest.family != "chronos-t5")


def test_the_runtime_forecasts_what_the_dequantised_merge_does(
    stored: PrecisionExport, family: str, exported: Exported
) -> None:
    """The judge is the float32 bundle with integers times scales for weights: what is left is rounding activations.

    The merged weights themselves would lie further away, the base's a good deal further.
    """
    bundle, source = Bundle.open(stored.path), exported(family)[1]
    table = bundle.manifest.tensors
    deltas = {index: large(entry.shape, seed=index) for index, entry in enumerate(table)}
    merged = merge(bundle.manifest, bundle.tensor, Adapter(base_digest=bundle.digest, version=1, deltas=deltas))
    there = {}
    for index, array in merged.items():
        integers, scales = quantise(array) if table[index].quantised else (array, np.ones(len(array), np.float32))
        turned = (integers.T * scales).T.astype(np.float32)
        there[source.index_of(table[index].name)] = turned
    context = synthetic_contexts(8, 48, seed=4)
    got, wanted = runtime_witness(bundle, merged, context), runtime_witness(source, there, context)
    base = runtime_witness(source, {}, context)
    assert np.abs(got - wanted).mean() < 0.1 * np.abs(base - wanted).mean()


def test_every_tensor_is_proven_wired(stored: PrecisionExport, family: str, exported: Exported) -> None:
    assert check_tensors(exported(family)[1], Bundle.open(stored.path), lambda *_: None) == []


def test_an_older_reader_refuses_the_bundle(stored: PrecisionExport) -> None:
    """By its version, before it could add a float32 delta to halves."""
    assert b'"format_version":3' in (stored.path / "bundle.json").read_bytes()


def test_a_merge_that_is_not_finite_is_refused(stored: PrecisionExport) -> None:
    bundle = Bundle.open(stored.path)
    index = next(i for i, entry in enumerate(bundle.manifest.tensors) if entry.quantised)
    shape = bundle.manifest.tensors[index].rows_columns
    huge = Dense(Numbers.of(np.full(shape, 3.4e38, dtype=np.float32), "float32"))
    adapter = Adapter(base_digest=bundle.digest, version=1, deltas={index: huge})
    merged = merge(bundle.manifest, bundle.tensor, adapter)  # finite still
    merged[index][0, 0] = np.inf
    with pytest.raises(MergeError, match="not finite"):
        initializers(bundle.manifest.tensors[index], merged[index])


def test_a_bundle_alone_is_proven_as_ever(stored: PrecisionExport) -> None:
    assert Forecaster.open(stored.path).self_test() is not None


def test_vectors_alone_are_no_reason_for_it(exported: Exported, tmp_path: Path) -> None:
    base, bundle = exported("chronos-bolt")
    with pytest.raises(ExportError, match="no adapted tensor is a product's weight") as error:
        export_precision(
            bundle, out=tmp_path / "b", precision="int8-merged", adapted=kept_tensors(base.model, "bitfit,norms")
        )
    assert "--precision int8" in str(error.value.hint)
    assert list(tmp_path.iterdir()) == []


def test_learning_graphs_are_refused(exported: Exported, tmp_path: Path) -> None:
    base, bundle = exported("chronos-bolt")
    adapted = kept_tensors(base.model, None)
    made = export_precision(bundle, out=tmp_path / "b", precision="int8-merged", adapted=adapted, allowed=0.1)
    with pytest.raises(ExportError, match="int8-merged"):
        export_learning(base.model, Bundle.open(made.path), learnable="biases", loss=lambda *_: None)


def test_an_adapter_of_which_too_little_is_left_is_refused(stored: PrecisionExport, exported: Exported) -> None:
    bundle = Bundle.open(stored.path)
    require_kept(bundle, LEAST_KEPT)
    with pytest.raises(ExportError, match=r"keeps 89\.9% of the adapter's effect"):
        require_kept(bundle, LEAST_KEPT - 0.001)
    require_kept(exported("chronos-bolt")[1], 0.0)  # of float32 tensors it is reported, as before


def graph_of(*nodes: onnx.NodeProto, **weights: tuple[int, ...]) -> onnx.ModelProto:
    """A graph from x to y whose weights are zeros."""
    made = [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in weights.items()]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, 4]) for name in "xy"]
    return helper.make_model(helper.make_graph(list(nodes), "g", ends[:1], ends[1:], made))


def test_a_tensor_that_is_also_used_otherwise_stays_float32() -> None:
    first = helper.make_node("Mul", ["x", "a"], ["h"])
    turned = helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0])
    product = helper.make_node("MatMul", ["h", "t"], ["p"])
    last = helper.make_node("Identity", ["p"], ["y"])
    graph = graph_of(first, turned, product, last, a=(1, 4), w=(4, 4))
    assert quantised_tensors([graph], {"w", "a"}) == {"w"}
    elsewhere = graph_of(helper.make_node("Add", ["x", "w"], ["y"]), w=(4, 4))
    assert quantised_tensors([graph, elsewhere], {"w"}) == set()
    assert quantised_tensors([graph], set()) == set()
    odd = replace_perm(graph, [0, 1])
    assert quantised_tensors([odd], {"w"}) == set()  # x @ W is not x @ W.T


def replace_perm(model: onnx.ModelProto, perm: list[int]) -> onnx.ModelProto:
    """The same graph with its weight turned otherwise."""
    other = onnx.ModelProto()
    other.CopyFrom(model)
    (turned,) = [node for node in other.graph.node if node.op_type == "Transpose"]
    del turned.attribute[:]
    turned.attribute.append(helper.make_attribute("perm", perm))
    return other
