"""The static graph: the bundle's own forecasts in fixed shapes, on the processor here."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from click.testing import CliRunner

from device_runtime.errors import (
    BaseMismatchError,
    FormatError,
    InputError,
    SettingsError,
    StorageError,
    UnsupportedError,
)
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.families.bolt import BoltModel
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.forecast.measured import deviations, long_and_short, one_by_one, perturbed, rounding
from device_runtime.forecast.proofs import write_proof
from device_runtime.forecast.providers import Chosen
from device_runtime.forecast.proving import prove_provider
from device_runtime.forecast.session import SessionSettings
from device_runtime.forecast.static import StaticBolt, StaticBundle, open_static, standardised
from device_runtime.format.static import STATIC, STATIC_FILE
from edge_tsfm.cli.export_base import export_base_command
from edge_tsfm.cli.export_static import export_static_command
from edge_tsfm.models import Base
from export import ExportError, export_static

ROOT = Path(__file__).resolve().parents[2]
# What no accelerator that compiles a graph once is asked to do.
DYNAMIC = {
    "Shape",
    "Size",
    "IsNaN",
    "NonZero",
    "Where",
    "If",
    "Loop",
    "Range",
    "Expand",
    "ScatterND",
    "ConstantOfShape",
}


@pytest.fixture
def bundle(float32_bundle: Bundle, tmp_path: Path) -> Bundle:
    return Bundle.open(shutil.copytree(float32_bundle.path, tmp_path / "bundle"))


@pytest.fixture(scope="module")
def written(dummy: Base, float32_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(float32_bundle.path, tmp_path_factory.mktemp("static") / "bundle")
    export_static(dummy.model, Bundle.open(folder), context_length=64, batch=2)
    return folder


@pytest.fixture
def static(written: Path, tmp_path: Path) -> StaticBundle:
    return open_static(Bundle.open(shutil.copytree(written, tmp_path / "static")))


def test_it_forecasts_as_the_bundles_own_graph_whatever_the_length_and_the_gaps(static: StaticBundle) -> None:
    own, fixed = BoltModel(static, {}, SessionSettings()), StaticBolt(static, {}, SessionSettings())
    for contexts in long_and_short(64):
        off = np.abs(deviations(one_by_one(fixed, contexts), one_by_one(own, contexts), contexts)).max(axis=(1, 2))
        assert (off <= rounding(own, contexts)).all()
    longer = long_and_short(64)[-1][:1]
    assert fixed.predict(longer, 40).shape == (1, 40, 9)  # beyond a run: quantiles continue, as batches of 2


def test_a_row_does_not_depend_on_what_is_beside_it(static: StaticBundle) -> None:
    fixed = StaticBolt(static, {}, SessionSettings())
    first, second, third = long_and_short(64)[-1][:3]
    assert np.array_equal(fixed.witness(np.stack([first, second]))[0], fixed.witness(np.stack([first, third]))[0])


def test_the_bundle_stays_the_same_and_its_adapters_merge_into_both_graphs(
    float32_bundle: Bundle, static: StaticBundle
) -> None:
    assert static.digest == float32_bundle.digest
    assert static.manifest.graphs[STATIC].tensors == static.manifest.graphs["forecast"].tensors
    merged = {index: perturbed(static.tensor(index), 0.1, index) for index in range(len(static.manifest.tensors))}
    contexts = long_and_short(64)[-1]
    own, fixed = BoltModel(static, merged, SessionSettings()), StaticBolt(static, merged, SessionSettings())
    off = np.abs(deviations(one_by_one(fixed, contexts), one_by_one(own, contexts), contexts)).max(axis=(1, 2))
    assert (off <= rounding(own, contexts)).all()
    base = StaticBolt(static, {}, SessionSettings())
    assert np.abs(fixed.witness(contexts) - base.witness(contexts)).max() > 1  # and it does move


def test_a_proof_holds_for_the_static_graph_that_was_measured(
    dummy: Base, static: StaticBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed = Chosen(
        name="fixed:npu", provider="CPUExecutionProvider", version="1", onnxruntime="1", library="", device="",
        options={}, static=True, devices=(),
    )  # fmt: skip
    monkeypatch.setattr("device_runtime.forecast.session.choose", lambda *_: fixed)  # the processor stands for it
    settings = SessionSettings(provider="fixed", cpu_fallback=True, threads=1)
    bundle = Bundle.open(static.path)
    write_proof(bundle, prove_provider(bundle, settings))
    context = np.arange(40, dtype=np.float32) % 7 + 80
    there = Forecaster.open(bundle, settings=settings).forecast(context).quantiles
    assert np.abs(there - Forecaster.open(bundle).forecast(context).quantiles).max() < 1e-3
    for name in (STATIC_FILE, "static.onnx"):
        (static.path / name).unlink()
    export_static(dummy.model, bundle, context_length=32, batch=1)
    with pytest.raises(
        SettingsError, match="proven with another static graph, of 64x2, than this one of 32x1"
    ) as other:
        Forecaster.open(Bundle.open(static.path), settings=settings)
    assert "edge-tsfm-device prove" in str(other.value.hint)


def test_the_graph_asks_for_no_shape_and_no_missing_value(static: StaticBundle) -> None:
    options = ort.SessionOptions()  # as a provider gets it: what depends on no input is folded
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(static.path / "folded.onnx")
    ort.InferenceSession(static.path / "static.onnx", options, providers=["CPUExecutionProvider"])
    graph = onnx.load(static.path / "folded.onnx").graph
    operations = Counter(node.op_type for node in graph.node)
    assert not DYNAMIC & set(operations)
    for value in (*graph.input, *graph.output):
        assert all(dimension.dim_value > 0 for dimension in value.type.tensor_type.shape.dim)


@pytest.mark.parametrize("values", [[80.0] * 64, [np.nan] * 63 + [80.0], [1e30, -1e30] * 32])
def test_scaling_on_the_processor_is_the_graphs_own(dummy: Base, values: list[float]) -> None:
    import torch

    from export.layers import standardise

    context = np.array([values], dtype=np.float32)
    ours, theirs = standardised(context), standardise(torch.from_numpy(context))
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other.numpy(), rtol=1e-5)


def test_a_context_longer_than_the_graph_is_an_error_not_a_cut(dummy: Base, bundle: Bundle) -> None:
    export_static(dummy.model, bundle, context_length=32, batch=1)  # shorter than the base's own
    fixed = StaticBolt(open_static(bundle), {}, SessionSettings())
    with pytest.raises(InputError, match="40 steps, the static graph takes 32"):
        fixed.witness(np.full((1, 40), 80, dtype=np.float32))


@pytest.mark.parametrize(
    ("steps", "said"), [(20, "whole patches of 8 steps"), (128, "at most 64 steps"), (4, "whole patches")]
)
def test_shapes_that_the_base_does_not_take_are_refused(dummy: Base, bundle: Bundle, steps: int, said: str) -> None:
    before = sorted(file.name for file in bundle.path.iterdir())
    with pytest.raises(ExportError, match=said):
        export_static(dummy.model, bundle, context_length=steps, batch=1)
    assert sorted(file.name for file in bundle.path.iterdir()) == before


def test_it_is_written_once_and_only_for_the_bundles_own_base(
    dummy: Base, static: StaticBundle, exported: Callable[[str], Any], tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match="written once"):
        export_static(dummy.model, static, context_length=64, batch=1)
    base, t5 = exported("chronos-t5")
    with pytest.raises(ExportError, match="no static graph for chronos-t5"):
        export_static(base.model, t5, context_length=32, batch=1)
    with pytest.raises(UnsupportedError, match="static graphs of family 'chronos-t5'"):
        open_static(t5)


def test_a_wrong_static_graph_is_not_written(dummy: Base, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    from export.static_bolt import StaticBoltGraph

    right = StaticBoltGraph._encode
    monkeypatch.setattr(StaticBoltGraph, "_encode", lambda self, x, blocked: right(self, x, blocked * 0))
    with pytest.raises(ExportError, match="rounding allows"):
        export_static(dummy.model, bundle, context_length=64, batch=1)
    assert not (bundle.path / STATIC_FILE).exists()
    assert not (bundle.path / "static.onnx").exists()


def test_a_manifest_of_another_base_and_a_damaged_one_are_refused(static: StaticBundle) -> None:
    file = static.path / STATIC_FILE
    good = file.read_bytes()
    file.write_bytes(good.replace(static.digest.hex().encode(), b"00" * 32))
    with pytest.raises(BaseMismatchError, match=r"static\.json is of base 0000"):
        open_static(Bundle.open(static.path))
    file.write_bytes(good.replace(b'"batch":2', b'"batch":0'))
    with pytest.raises(FormatError, match="shape 64x0"):
        open_static(Bundle.open(static.path))
    file.write_bytes(good)
    graph = static.path / "static.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    with pytest.raises(BaseMismatchError, match=r"static\.onnx: SHA-256"):
        open_static(Bundle.open(static.path))
    file.unlink()
    with pytest.raises(StorageError, match="no static graph") as refused:
        open_static(Bundle.open(static.path))
    assert "edge-tsfm export static" in str(refused.value.hint)


@pytest.mark.slow
def test_the_commands_write_it_and_refuse_what_is_no_shape(tmp_path: Path) -> None:
    base = str(ROOT / "tests" / "dummy_bases" / "chronos-bolt")
    out = tmp_path / "bundle"
    done = CliRunner().invoke(export_base_command, ["--base", base, "--out", str(out), "--static", "64x1"])
    assert done.exit_code == 0, done.output
    assert "static graph 64x1" in done.output
    assert open_static(Bundle.open(out)).static.shape == "64x1"
    wrong = CliRunner().invoke(export_static_command, [str(out), "--base", base, "--shape", "64"])
    assert wrong.exit_code == 2
    assert "want STEPSxBATCH" in wrong.output
    both = ["--base", base, "--out", str(tmp_path / "other"), "--static", "64x1", "--precision", "int8"]
    assert "bundles in float32" in CliRunner().invoke(export_base_command, both).output
