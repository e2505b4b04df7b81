import copy
import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from device_runtime.forecast.bundle import Bundle
from device_runtime.format.binding import Binding
from device_runtime.format.delta import Delta, Dense, Numbers
from edge_tsfm.methods.sites import touched_tensors
from edge_tsfm.models import Base
from export import ExportError, PrecisionExport, export_adapter, export_precision
from export.adjustable import Adjustable
from export.contexts import synthetic_contexts
from export.deviation import check_tensors, effect_kept
from export.parity import runtime_witness

ADAPTED = "output_patch_embedding.output_layer.bias"


def shifted(tensor: np.ndarray, by: float) -> Delta:
    """A dense delta of one size on a vector."""
    return Dense(Numbers.of(np.full((len(tensor), 1), by)))


@pytest.fixture(scope="module")
def adapted(dummy: Base) -> list[str]:
    return touched_tensors(dummy.model, ["bitfit"])


@pytest.fixture(scope="module", params=["int8", "float16"])
def stored(
    request: pytest.FixtureRequest, float32_bundle: Bundle, adapted: list[str], tmp_path_factory
) -> PrecisionExport:
    out = tmp_path_factory.mktemp(request.param) / "bundle"
    contexts = synthetic_contexts(6, 40, seed=9)
    adapter = {ADAPTED: shifted(float32_bundle.tensor(float32_bundle.index_of(ADAPTED)), 0.3)}
    return export_precision(
        float32_bundle, out=out, precision=request.param, adapted=adapted, contexts=contexts, adapter=adapter
    )


def test_what_adapters_may_touch_stays_float32_and_is_the_whole_table(
    stored: PrecisionExport, float32_bundle: Bundle, adapted: list[str]
) -> None:
    bundle = Bundle.open(stored.path)
    assert [entry.name for entry in bundle.manifest.tensors] == adapted
    assert bundle.manifest.precision == stored.precision
    for index, name in enumerate(adapted):
        np.testing.assert_array_equal(bundle.tensor(index), float32_bundle.tensor(float32_bundle.index_of(name)))
    assert stored.tunable_parameters < 500


def test_frozen_products_are_really_stored_small(stored: PrecisionExport, float32_bundle: Bundle) -> None:
    """Exit codes say nothing: quantisers skip what they do not recognise."""
    graph = onnx.load(str(stored.path / "forecast.onnx"), load_external_data=False).graph
    kind = {"int8": onnx.TensorProto.INT8, "float16": onnx.TensorProto.FLOAT16}[stored.precision]
    small = sum(int(np.prod(t.dims)) for t in graph.initializer if t.data_type == kind)
    frozen = sum(entry.size for entry in float32_bundle.manifest.tensors) - stored.tunable_parameters
    large = sum(e.size for e in float32_bundle.manifest.tensors if e.size >= 1024 and len(e.shape) == 2)
    # float16 takes tensors of 1,024 numbers up; int8 every product. Joined q, k, v count as one tensor.
    assert small >= (large if stored.precision == "float16" else 0.95 * frozen)


def test_the_digest_is_another_bases(stored: PrecisionExport, float32_bundle: Bundle) -> None:
    assert stored.digest != float32_bundle.digest.hex()
    manifest = json.loads((stored.path / "bundle.json").read_text())
    assert manifest["max_deviation"] == stored.allowed
    assert manifest["base"] == json.loads((float32_bundle.path / "bundle.json").read_text())["base"]


def test_deviation_and_the_adapters_effect_are_measured(stored: PrecisionExport) -> None:
    assert 0 < stored.synthetic.mean <= stored.synthetic.largest
    assert stored.synthetic.mean < stored.allowed
    assert stored.data is not None
    assert stored.data.contexts == 6
    assert stored.effect_kept is not None
    assert 0.99 < stored.effect_kept <= 1


def test_an_adapter_is_proven_on_the_bundle_and_says_what_is_kept(stored: PrecisionExport, dummy: Base) -> None:
    bundle = Bundle.open(stored.path)
    tensor = bundle.tensor(bundle.index_of(ADAPTED))
    common = {"bundle": bundle, "base": dummy.model, "contexts": synthetic_contexts(6, 40, level=80.0, seed=9)}
    common["binding"] = Binding.of("HR", interval_us=3_600_000_000, context_length=2_048, prediction_length=1_024)
    tuned = copy.deepcopy(dummy.model)
    dict(tuned.named_parameters())[ADAPTED].data += 0.3
    result = export_adapter(**common, tuned=tuned, deltas={ADAPTED: shifted(tensor, 0.3)}, version=1, metadata={})
    assert 0.99 < result.effect_kept <= 1
    missing = "encoder.block.0.layer.1.DenseReluDense.wi.weight"
    with pytest.raises(ExportError, match="no tunable tensor") as error:
        export_adapter(**common, tuned=tuned, deltas={missing: shifted(tensor, 0.3)}, version=1, metadata={})
    assert f"frozen weights are {stored.precision}" in str(error.value.hint)


def test_forecasts_follow_an_adapted_tensor_as_float32_does(stored: PrecisionExport, float32_bundle: Bundle) -> None:
    bundle = Bundle.open(stored.path)
    context = synthetic_contexts(4, 32, seed=3)
    index, original = bundle.index_of(ADAPTED), float32_bundle.index_of(ADAPTED)
    moved = bundle.tensor(index) + np.float32(0.5)
    forecasts = [
        runtime_witness(one, tensors, context)
        for one, tensors in (
            (float32_bundle, {}),
            (float32_bundle, {original: moved}),
            (bundle, {}),
            (bundle, {index: moved}),
        )
    ]
    assert effect_kept(*forecasts, context) > 0.99


@pytest.mark.parametrize("where", ["nowhere", "elsewhere"])
def test_a_tensor_that_is_not_wired_to_its_place_is_refused(
    stored: PrecisionExport, float32_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Every tensor in turn, in the graph that takes them as inputs."""
    bundle = Bundle.open(stored.path)
    assert check_tensors(float32_bundle, bundle, lambda *_: None) == []
    entries = bundle.manifest.tensors
    witness = Adjustable.witness
    for place, entry in enumerate(entries):
        twin = next((other.name for other in entries[place + 1 :] if other.shape == entry.shape), None)
        if where == "elsewhere" and (twin is None or twin == entry.name.replace("output_layer", "residual_layer")):
            continue  # no twin, or one that is added to the same sum

        def miswired(
            self: Adjustable,
            tensors: dict[str, np.ndarray],
            context: np.ndarray,
            own=entry.name,
            twin=twin,
            place=place,
        ) -> np.ndarray:
            tensors = dict(tensors)
            if self.bundle is bundle and own in tensors:
                moved = tensors.pop(own)
                if where == "elsewhere":
                    tensors[twin] = moved - bundle.tensor(place) + bundle.tensor(bundle.index_of(twin))
            return witness(self, tensors, context)

        monkeypatch.setattr(Adjustable, "witness", miswired)
        with pytest.raises(ExportError, match=f"perturbed, the {stored.precision} bundle's forecasts miss") as error:
            check_tensors(float32_bundle, bundle, lambda *_: None)
        assert str(error.value).startswith(entry.name)


def test_a_tensor_that_the_devices_session_ignores_is_refused(
    stored: PrecisionExport, float32_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As constant folding would: every tensor in turn, the graph itself being right."""
    bundle = Bundle.open(stored.path)
    for index, entry in enumerate(bundle.manifest.tensors):

        def ignoring(one: Bundle, merged: dict[int, np.ndarray], context: np.ndarray, index=index) -> np.ndarray:
            return runtime_witness(one, {i: array for i, array in merged.items() if i != index}, context)

        monkeypatch.setattr("export.deviation.runtime_witness", ignoring)
        with pytest.raises(ExportError, match="nothing proves it merged") as error:
            check_tensors(float32_bundle, bundle, lambda *_: None)
        assert str(error.value).startswith(entry.name)


def test_a_tensor_that_moves_nothing_is_frozen_after_all(
    float32_bundle: Bundle, adapted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness = Adjustable.witness
    monkeypatch.setattr(
        Adjustable,
        "witness",
        lambda self, tensors, context: witness(self, {n: a for n, a in tensors.items() if n != adapted[0]}, context),
    )
    made = export_precision(float32_bundle, out=tmp_path / "b", precision="float16", adapted=adapted)
    assert made.silent == (adapted[0],)
    assert [entry.name for entry in Bundle.open(made.path).manifest.tensors] == sorted(adapted)[1:]
    assert adapted[0] in json.loads((made.path / "bundle.json").read_text())["dead"]
    with pytest.raises(ExportError, match="none of the adapted tensors changes a forecast"):
        export_precision(float32_bundle, out=tmp_path / "c", precision="float16", adapted=adapted[:1])


def test_above_the_bound_nothing_is_written(float32_bundle: Bundle, adapted: list[str], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="deviate from float32 by") as error:
        export_precision(float32_bundle, out=tmp_path / "b", precision="int8", adapted=adapted, allowed=1e-4)
    assert "--keep" in str(error.value.hint)
    assert list(tmp_path.iterdir()) == []


def test_requests_that_make_no_sense_are_refused(
    stored: PrecisionExport, float32_bundle: Bundle, adapted: list[str], tmp_path: Path
) -> None:
    frozen = "encoder.block.0.layer.1.DenseReluDense.wi.weight"
    delta = shifted(np.zeros(4), 1.0)
    for options, says in (
        ({"precision": "int4"}, "no precision"),
        ({"allowed": 1e-5}, "want 0.0001 to 1"),
        ({"adapted": []}, "nothing could be adapted"),
        ({"adapted": ["nobody"]}, "no tunable tensor"),
        ({"adapter": {frozen: delta}}, "which would be int8"),
        ({"source": Bundle.open(stored.path)}, "want float32 to start from"),
    ):
        request = {"source": float32_bundle, "precision": "int8", "adapted": adapted} | options
        source = request.pop("source")
        with pytest.raises(ExportError, match=says):
            export_precision(source, out=tmp_path / "b", **request)
    assert list(tmp_path.iterdir()) == []


def test_a_weight_beyond_float16_is_refused(
    float32_bundle: Bundle, adapted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = onnx.load

    def huge(path: str, *args: object, **options: object) -> onnx.ModelProto:
        model = load(path, *args, **options)
        for tensor in model.graph.initializer:
            if np.prod(tensor.dims) >= 1024 and tensor.data_type == onnx.TensorProto.FLOAT:
                values = onnx.numpy_helper.to_array(tensor).copy()
                values.flat[0] = 1e6
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        return model

    monkeypatch.setattr("export.quantize.onnx.load", huge)
    with pytest.raises(ExportError, match="too large for float16"):
        export_precision(float32_bundle, out=tmp_path / "b", precision="float16", adapted=adapted)
    assert list(tmp_path.iterdir()) == []
