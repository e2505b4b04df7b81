import copy
import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from device_runtime.forecast.bundle import Bundle
from export import ExportError, export_base
from export.contexts import synthetic_contexts
from export.families import torch_witness
from export.float64 import in_float64
from export.parity import check_base, replaced, runtime_witness
from tests.support.rounding import judged


@pytest.fixture(scope="module")
def base(dummy):
    return dummy


@pytest.fixture(scope="module")
def bundle(float32_bundle: Bundle) -> Bundle:
    return float32_bundle


@pytest.fixture(scope="module")
def provenance(bundle: Bundle) -> dict[str, str]:
    """What the bundle was written with."""
    return json.loads((bundle.path / "bundle.json").read_text())["base"]


def test_every_tunable_tensor_is_external_once_under_its_torch_name_and_shape(base, bundle: Bundle) -> None:
    graph = onnx.load(str(bundle.path / "forecast.onnx"), load_external_data=False)
    external = {t.name: tuple(t.dims) for t in graph.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL}
    parameters = {name: tuple(p.shape) for name, p in base.model.named_parameters()}
    assert external == {entry.name: entry.shape for entry in bundle.manifest.tensors}
    assert all(parameters[name] == shape for name, shape in external.items())


def test_tensors_in_the_file_are_the_models(base, bundle: Bundle) -> None:
    parameters = dict(base.model.named_parameters())
    for index, entry in enumerate(bundle.manifest.tensors):
        np.testing.assert_array_equal(bundle.tensor(index), parameters[entry.name].numpy())


def test_dead_tensors_are_left_out_and_named(bundle: Bundle) -> None:
    dead = json.loads((bundle.path / "bundle.json").read_text())["dead"]
    assert dead
    assert all("decoder" in name and "SelfAttention" in name for name in dead)
    assert not {entry.name for entry in bundle.manifest.tensors} & set(dead)


def test_the_same_base_exported_twice_has_the_same_digest(base, bundle: Bundle, provenance, tmp_path: Path) -> None:
    again = export_base(base.model, family=base.family, name="dummy", out=tmp_path / "again", provenance=provenance)
    assert again.digest == bundle.digest.hex()


@pytest.mark.parametrize("length", [1, 7, 8, 9, 40, 64, 90])
def test_contexts_of_any_length_with_gaps_forecast_as_torch(base, bundle: Bundle, length: int) -> None:
    context = synthetic_contexts(4, length, missing=0.3, seed=length)
    float32 = torch_witness("chronos-bolt", base.model, context)
    with in_float64():
        exact = torch_witness("chronos-bolt", base.model, context)
    judged(runtime_witness(bundle, {}, context), float32, exact)


def test_parity_fails_when_the_bundle_is_not_the_model(base, bundle: Bundle) -> None:
    model = copy.deepcopy(base.model)
    model.encoder.final_layer_norm.variance_epsilon = 0.3
    with pytest.raises(ExportError, match="parity: the exported base differs"):
        check_base(model, bundle)


def test_numbers_that_are_not_the_models_are_refused_and_the_model_keeps_its_own(base, bundle: Bundle) -> None:
    name = "output_patch_embedding.output_layer.bias"
    moved = base.model.get_parameter(name).numpy() + 0.01
    with replaced(base.model, {name: moved}):
        with pytest.raises(ExportError, match=f"{name}: the bundle has other values"):
            check_base(base.model, bundle)
        np.testing.assert_array_equal(base.model.get_parameter(name).numpy(), moved)


def test_nothing_is_written_over_or_left_behind(base, bundle: Bundle, provenance, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(ExportError, match="written once"):
        export_base(base.model, family=base.family, name="dummy", out=bundle.path, provenance=provenance)

    def fail(*_: object, **__: object) -> None:
        raise ExportError("parity")

    monkeypatch.setattr("export.base.check_base", fail)
    with pytest.raises(ExportError):
        export_base(base.model, family=base.family, name="dummy", out=tmp_path / "new", provenance=provenance)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ExportError, match="no exporter"):
        export_base(base.model, family="arima", name="dummy", out=tmp_path / "x", provenance=provenance)
