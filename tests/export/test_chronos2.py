"""Chronos-2 from torch to the device: series alone, in groups and with covariates, beside the pipeline's forecasts."""

import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from device_runtime.errors import InputError  # noqa: E402
from device_runtime.forecast.bundle import Bundle  # noqa: E402
from device_runtime.forecast.families import chronos2  # noqa: E402
from device_runtime.forecast.forecaster import Forecaster  # noqa: E402
from device_runtime.format.binding import Binding  # noqa: E402
from device_runtime.format.delta import Dense, Numbers  # noqa: E402
from edge_tsfm.methods.sites import touched_tensors  # noqa: E402
from export import export_adapter, export_base, export_precision  # noqa: E402
from export.contexts import synthetic_contexts  # noqa: E402
from export.deviation import perturbed  # noqa: E402
from export.known_answer import SEEN  # noqa: E402
from export.parity import difference, replaced  # noqa: E402
from tests.support.chronos2 import rounding, same  # noqa: E402
from tests.support.rounding import assert_near, noise  # noqa: E402

LENGTHS = [(1, 1), (7, 8), (20, 9), (64, 32), (71, 17)]
GROUP = ".layer.1.self_attention."


@pytest.fixture(scope="module")
def device(exported) -> Forecaster:
    return Forecaster.open(exported("chronos-2")[1])


def by_pipeline(base: Any, inputs: Any, steps: int) -> np.ndarray:
    """Forecast with `Chronos2Pipeline`: ``[targets, H, Q]`` at its own levels, every input's targets in order."""
    from chronos import Chronos2Pipeline

    pipeline = Chronos2Pipeline(base.model)
    quantiles, _ = pipeline.predict_quantiles(inputs, prediction_length=steps, quantile_levels=list(pipeline.quantiles))
    return np.sort(torch.cat(list(quantiles)).numpy())  # in order, as the runtime gives them: the pipeline's cross


def case(count: int, length: int, steps: int) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Draw targets ``[count, L]`` and covariates of each: one measured, one known ahead, both with gaps."""
    target = synthetic_contexts(count, length, missing=0.2, seed=length)
    covariates = synthetic_contexts(2 * count, length + steps, level=20, spread=3, missing=0.2, seed=steps)
    resp, dose = covariates[:count], covariates[count:]
    return target, {"Resp": resp[:, :length], "dose": dose[:, :length]}, {"dose": dose[:, length:]}


@pytest.mark.parametrize(("length", "steps"), LENGTHS)
def test_series_alone_are_forecast_as_the_pipeline_does(exported, device: Forecaster, length: int, steps: int) -> None:
    context = synthetic_contexts(3, length, missing=0.3, seed=length)
    expected = by_pipeline(exported("chronos-2")[0], torch.from_numpy(context)[:, None], steps)
    allowed = noise(lambda one: device.forecast(one, steps).quantiles, context)
    assert_near(device.forecast(context, steps).quantiles, expected, allowed)


@pytest.mark.parametrize(("length", "steps"), LENGTHS)
def test_targets_of_a_group_are_forecast_as_the_pipelines_multivariate_ones(
    exported, device: Forecaster, length: int, steps: int
) -> None:
    context = synthetic_contexts(6, length, missing=0.3, seed=length)
    inputs = [torch.from_numpy(context[:2]), torch.from_numpy(context[2:5]), torch.from_numpy(context[5:])]
    expected = by_pipeline(exported("chronos-2")[0], inputs, steps)
    groups = [4, 4, 0, 0, 0, 9]
    allowed = noise(lambda one: device.forecast(one, steps, groups=groups).quantiles, context)
    assert_near(device.forecast(context, steps, groups=groups).quantiles, expected, allowed)


@pytest.mark.parametrize(("length", "steps"), LENGTHS[1:])
@pytest.mark.parametrize("known", [False, True])
def test_covariates_are_the_pipelines(exported, device: Forecaster, length: int, steps: int, known: bool) -> None:
    target, past, ahead = case(3, length, steps)
    ahead = ahead if known else {}
    inputs = [
        {
            "target": target[i],
            "past_covariates": {name: values[i] for name, values in past.items()},
            **({"future_covariates": {name: values[i] for name, values in ahead.items()}} if known else {}),
        }
        for i in range(3)
    ]
    wanted = by_pipeline(exported("chronos-2")[0], inputs, steps)
    got = device.forecast(target, steps, past_covariates=past, future_covariates=ahead).quantiles
    same(got, wanted, target)
    one = {name: values[0] for name, values in past.items()}, {name: values[0] for name, values in ahead.items()}
    same(device.forecast(target[0], steps, past_covariates=one[0], future_covariates=one[1]).quantiles[None], got[:1],
         target[:1])  # fmt: skip
    assert difference(device.forecast(target, steps).quantiles, got, target) > 0.01  # covariates are felt


def test_several_targets_share_their_groups_covariates(exported, device: Forecaster) -> None:
    target, past, ahead = case(2, 40, 12)
    inputs = [
        {
            "target": target,
            "past_covariates": {name: values[0] for name, values in past.items()},
            "future_covariates": {name: values[0] for name, values in ahead.items()},
        }
    ]
    wanted = by_pipeline(exported("chronos-2")[0], inputs, 12)
    got = device.forecast(
        target,
        12,
        groups=[1, 1],
        past_covariates=inputs[0]["past_covariates"],
        future_covariates=inputs[0]["future_covariates"],
    )
    same(got.quantiles, wanted, target)


def test_with_every_tensor_perturbed_groups_and_covariates_still_follow_torch(exported) -> None:
    base, bundle = exported("chronos-2")
    target, past, ahead = case(2, 33, 10)
    inputs = [
        {
            "target": target[i],
            "past_covariates": {name: values[i] for name, values in past.items()},
            "future_covariates": {"dose": ahead["dose"][i]},
        }
        for i in range(2)
    ]
    before = by_pipeline(base, inputs, 10)
    names = [entry.name for entry in bundle.manifest.tensors]
    assert sum(GROUP in name for name in names) == 8  # q, k, v and o of two blocks
    for index, name in enumerate(names):
        moved = perturbed(bundle.tensor(index), 1.0, seed=index)
        with replaced(base.model, {name: moved}):
            wanted = by_pipeline(base, inputs, 10)
        effect = difference(wanted, before, target)
        rows = chronos2.Chronos2Model(bundle, {index: moved}, chronos2.SessionSettings())
        grouped = chronos2.Grouped(
            context=np.concatenate([target, past["Resp"], past["dose"]]),
            future=np.concatenate([np.full((4, 10), np.nan, dtype=np.float32), ahead["dose"]]),
            groups=np.tile([0, 1], 3),
            targets=2,
        )
        got = np.sort(rows.predict_groups(grouped, 10)[:2])
        assert effect > 2 * rounding(wanted, target), name
        assert difference(wanted, got, target) < rounding(wanted, target), name


def test_alone_in_its_group_is_alone(device: Forecaster) -> None:
    context = synthetic_contexts(5, 30, missing=0.2, seed=3)
    alone = device.forecast(context, 9).quantiles
    same(device.forecast(context, 9, groups=[5, 3, 8, 1, 0]).quantiles, alone, context)
    mixed = device.forecast(context, 9, groups=[5, 3, 8, 3, 0]).quantiles
    same(mixed[[0, 2, 4]], alone[[0, 2, 4]], context[[0, 2, 4]])
    assert difference(mixed[[1, 3]], alone[[1, 3]], context[[1, 3]]) > 0.01


def test_the_order_within_a_group_and_the_names_of_groups_do_not_matter(device: Forecaster) -> None:
    context = synthetic_contexts(6, 30, missing=0.2, seed=4)
    groups = np.array([0, 0, 1, 1, 1, 2])
    got = device.forecast(context, 9, groups=groups).quantiles
    order = np.array([4, 1, 5, 0, 3, 2])
    again = device.forecast(context[order], 9, groups=7 - groups[order]).quantiles
    same(again, got[order], context[order])


def test_groups_do_not_leak_into_each_other(device: Forecaster, monkeypatch: pytest.MonkeyPatch) -> None:
    context = synthetic_contexts(60, 30, missing=0.2, seed=5)
    context[0, :24] = np.nan  # whole patches that nobody of its group has observed
    context[1, :24] = np.nan
    groups = np.arange(60) // 2
    got = device.forecast(context, 9, groups=groups).quantiles
    other = context.copy()
    other[2:] = synthetic_contexts(58, 30, level=200, spread=90, seed=6)
    same(device.forecast(other, 9, groups=groups).quantiles[:2], got[:2], context[:2])
    monkeypatch.setattr(chronos2, "RUN_SERIES", 7)  # many runs, one of them odd
    same(device.forecast(context, 9, groups=groups).quantiles, got, context)


def test_a_group_may_be_larger_than_a_run(device: Forecaster) -> None:
    context = np.tile(synthetic_contexts(1, 30, seed=8), (100, 1))
    together = device.forecast(context, 5, groups=[0] * 100).quantiles
    same(together, np.broadcast_to(together[:1], together.shape), context)


def test_beyond_its_own_length_it_refuses(device: Forecaster) -> None:
    context = synthetic_contexts(2, 20)
    with pytest.raises(InputError, match="reaches at most 32 steps"):
        device.forecast(context[0], 33)
    with pytest.raises(InputError, match="reaches at most 32 steps"):
        device.forecast(context, 33, groups=[0, 0])


def test_it_does_not_sample(device: Forecaster) -> None:
    with pytest.raises(InputError, match="does not sample"):
        device.sample(synthetic_contexts(1, 20)[0], 4)


@pytest.mark.parametrize("precision", ["int8", "float16"])
def test_with_small_weights_what_adapters_touch_stays_and_forecasts_move_a_little(
    exported, device: Forecaster, tmp_path: Path, precision: str
) -> None:
    base, bundle = exported("chronos-2")
    kept = touched_tensors(base.model, ["bitfit"])
    stored = export_precision(bundle, out=tmp_path / "small", precision=precision, adapted=kept)
    reduced = Bundle.open(stored.path)
    assert [entry.name for entry in reduced.manifest.tensors] == kept
    assert stored.synthetic.mean <= stored.allowed
    small = Forecaster.open(reduced)
    target, past, ahead = case(3, 40, 12)
    for options in ({}, {"groups": [0, 1, 0]}, {"past_covariates": past, "future_covariates": ahead}):
        got = small.forecast(target, 12, **options)
        assert got.base == stored.digest
        assert difference(got.quantiles, device.forecast(target, 12, **options).quantiles, target) < 0.2


def test_an_adapter_of_series_alone_merges_and_is_felt_in_groups(exported) -> None:
    base, bundle = exported("chronos-2")
    name = "output_patch_embedding.output_layer.bias"
    tuned = copy.deepcopy(base.model)
    dict(tuned.named_parameters())[name].data += 0.3
    size = bundle.manifest.tensors[bundle.index_of(name)].size
    done = export_adapter(
        bundle=bundle,
        base=base.model,
        tuned=tuned,
        deltas={name: Dense(Numbers.of(np.full((size, 1), 0.3)))},
        contexts=synthetic_contexts(6, 40, missing=0.1, seed=9),
        binding=Binding.of("HR", interval_us=3_600_000_000, context_length=2_048, prediction_length=1_024),
        version=1,
        metadata={},
    )
    target, past, ahead = case(2, 33, 10)
    covariates = {
        "past_covariates": {"dose": past["dose"][0]},
        "future_covariates": {"dose": ahead["dose"][0]},
    }
    adapted = Forecaster.open(bundle, done.blob)
    assert adapted.self_test() is not None
    got = adapted.forecast(target, 10, groups=[0, 0], **covariates).quantiles
    inputs = [{"target": target, **covariates}]
    same(got, by_pipeline(replace(base, model=tuned), inputs, 10), target)
    assert difference(got, by_pipeline(base, inputs, 10), target) > 0.01


def test_a_known_answer_feels_the_tensors_between_series(exported) -> None:
    _, bundle = exported("chronos-2")
    context = synthetic_contexts(1, 16, seed=2)[0]
    model = chronos2.Chronos2Model(bundle, {}, chronos2.SessionSettings())
    frozen = model.probe(context, 26)
    rounds = noise(lambda one: model.probe(one, 26), context)
    for name in ("q", "k", "v", "o"):
        index = bundle.index_of(f"encoder.block.1{GROUP}{name}.weight")
        moved = {index: perturbed(bundle.tensor(index), 1.0, seed=1)}
        probe = chronos2.Chronos2Model(bundle, moved, chronos2.SessionSettings()).probe(context, 26)
        assert np.abs(probe - frozen).max() > SEEN * rounds, name


@pytest.mark.parametrize(("arcsinh", "stride"), [(False, 16), (True, 16), (False, 12)])
def test_another_shape(tmp_path: Path, arcsinh: bool, stride: int) -> None:
    """Heads that do not add up to d_model, 21 levels, patches of 16, side by side or overlapping."""
    from chronos.chronos2 import Chronos2Model
    from chronos.chronos2.config import Chronos2CoreConfig

    torch.manual_seed(3)
    config = Chronos2CoreConfig(
        d_model=48, d_kv=8, d_ff=96, num_layers=2, num_heads=4, initializer_factor=0.5,
        chronos_config={
            "context_length": 512, "input_patch_size": 16, "input_patch_stride": stride, "output_patch_size": 16,
            "max_output_patches": 6, "quantiles": [0.01, *(n / 20 for n in range(1, 20)), 0.99],
            "use_reg_token": True, "use_arcsinh": arcsinh, "time_encoding_scale": 512,
        },
    )  # fmt: skip
    base = SimpleNamespace(model=Chronos2Model(config).eval())
    provenance = {"source": "test", "weights": "0" * 64, "licence": "Apache-2.0"}
    export_base(base.model, family="chronos-2", name="shape", out=tmp_path / "bundle", provenance=provenance)
    target, past, ahead = case(3, 150, 40)
    inputs = [
        {
            "target": target[i],
            "past_covariates": {name: values[i] for name, values in past.items()},
            "future_covariates": {"dose": ahead["dose"][i]},
        }
        for i in range(3)
    ]
    forecaster = Forecaster.open(tmp_path / "bundle")
    got = forecaster.forecast(target, 40, past_covariates=past, future_covariates=ahead).quantiles
    same(got, by_pipeline(base, inputs, 40), target)


def test_no_product_divides_by_the_number_of_members(exported, tmp_path: Path) -> None:
    """ONNX Runtime up to 1.24 dies of a fused product with a transposed batch where no series shares a group."""
    import onnx
    import onnxruntime as ort

    bundle = exported("chronos-2")[1]
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    ort.InferenceSession(str(bundle.path / "forecast.onnx"), options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(str(tmp_path / "optimised.onnx"), load_external_data=False).graph.node
    fused = [{one.name: one.i for one in node.attribute} for node in nodes if node.op_type == "FusedMatMul"]
    assert fused
    assert not any(one["transBatchA"] or one["transBatchB"] for one in fused)
