"""Chronos-T5 in int8 and float16: what is stored small, what its paths depend on, and what is refused."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.families.t5 import INT8_PATHS, STAGE, T5Model
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.forecast.session import SessionSettings
from export import ExportError, export_precision
from export.contexts import synthetic_contexts
from export.deviation import mean_deviation
from export.parity import runtime_witness


def stored_as(bundle: Bundle, graph: str, kind: int) -> dict[str, int]:
    """Initializers of one type in a graph: name → numbers."""
    model = onnx.load(str(bundle.path / f"{graph}.onnx"), load_external_data=False)
    return {t.name: int(np.prod(t.dims)) for t in model.graph.initializer if t.data_type == kind and len(t.dims) > 1}


def paths(bundle: Bundle, context: np.ndarray, steps: int, samples: int, *, threads: int = 2) -> np.ndarray:
    settings = SessionSettings(threads=threads)
    return Forecaster.open(bundle, settings=settings).sample(context, steps, num_samples=samples, seed=3)


def test_frozen_products_of_both_graphs_are_integers(long_t5: dict[str, Bundle]) -> None:
    """Also q and k, which a block multiplies together with an adapted v."""
    small = long_t5["int8"]
    for graph in ("encoder", "step"):
        integers = sum(stored_as(small, graph, onnx.TensorProto.INT8).values())
        adapted = sum(small.manifest.tensors[i].size for i in small.manifest.graphs[graph].tensors)
        source = long_t5["float32"].manifest
        frozen = sum(source.tensors[i].size for i in source.graphs[graph].tensors) - adapted
        assert integers >= 0.9 * frozen
        left = [name for name in stored_as(small, graph, onnx.TensorProto.FLOAT) if name.endswith("k.weight")]
        assert left == []


@pytest.mark.parametrize("precision", ["int8", "float16"])
def test_forecasts_stay_near_float32(long_t5: dict[str, Bundle], precision: str) -> None:
    context = synthetic_contexts(6, 30, missing=0.1, seed=5)
    forecasts = [runtime_witness(long_t5[name], {}, context) for name in ("float32", precision)]
    assert mean_deviation(*forecasts, context) < 0.05


@pytest.mark.parametrize("precision", ["float32", "int8", "float16"])
def test_threads_batches_and_longer_forecasts_change_no_path(long_t5: dict[str, Bundle], precision: str) -> None:
    bundle = long_t5[precision]
    context = synthetic_contexts(2, 20, missing=0.1, seed=7)
    steps = 2 * STAGE + 3
    wanted = paths(bundle, context, steps, 2 * INT8_PATHS, threads=1)
    assert len({path.tobytes() for path in wanted.reshape(-1, steps)}) > INT8_PATHS
    np.testing.assert_array_equal(paths(bundle, context, steps, 2 * INT8_PATHS), wanted)
    np.testing.assert_array_equal(paths(bundle, context[1], steps, 2 * INT8_PATHS, threads=3), wanted[1])
    np.testing.assert_array_equal(paths(bundle, context, STAGE - 1, 2 * INT8_PATHS), wanted[..., : STAGE - 1])
    np.testing.assert_array_equal(paths(bundle, context, steps, INT8_PATHS), wanted[:, :INT8_PATHS])
    np.testing.assert_array_equal(paths(bundle, context, steps, 3 * INT8_PATHS)[:, : 2 * INT8_PATHS], wanted)


def test_caches_that_grow_give_the_logits_of_those_that_do_not(
    long_t5: dict[str, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = synthetic_contexts(1, 20, seed=8)
    grown = paths(long_t5["float32"], context, 40, 12)
    monkeypatch.setattr("device_runtime.forecast.families.t5.STAGE", 40)
    np.testing.assert_array_equal(paths(long_t5["float32"], context, 40, 12), grown)


def test_above_the_bound_nothing_is_written(long_t5: dict[str, Bundle], tmp_path: Path) -> None:
    adapted = [entry.name for entry in long_t5["int8"].manifest.tensors]
    with pytest.raises(ExportError, match="deviate from float32 by"):
        export_precision(long_t5["float32"], out=tmp_path / "b", precision="int8", adapted=adapted, allowed=1e-4)
    assert list(tmp_path.iterdir()) == []


def test_samples_are_distributed_as_those_of_float32(long_t5: dict[str, Bundle]) -> None:
    """First step, 2,000 paths: shares of tokens, by the probabilities that float32 gives them."""
    context = synthetic_contexts(1, 20, seed=3)
    logits = T5Model(long_t5["float32"], {}, SessionSettings()).logits(context, 1)[0, 0].astype(np.float64)
    logits[1] = -np.inf  # the end token is never drawn
    probability = np.exp(logits - logits.max())
    kept = np.argsort(-probability)[:50]
    probability = np.where(np.isin(np.arange(len(probability)), kept), probability, 0)
    probability /= probability.sum()
    forecaster = Forecaster.open(long_t5["int8"])
    drawn = forecaster.sample(context[0], 1, num_samples=2_000, seed=1)[:, 0]
    model = T5Model(long_t5["int8"], {}, SessionSettings())
    _, _, scale = model.tokenizer.encode(context)
    mean = float((probability * model.values).sum() * scale[0])
    deviation = float(np.sqrt((probability * np.square(model.values * scale[0] - mean)).sum()))
    assert abs(float(drawn.mean()) - mean) < 5 * deviation / np.sqrt(2_000)
    assert 0.85 < float(drawn.std()) / deviation < 1.15
