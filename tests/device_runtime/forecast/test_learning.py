"""The learning graphs of a bundle, as a monitor opens them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from device_runtime.adapt.learnable import Learnable
from device_runtime.errors import (
    BaseMismatchError,
    DeviceRuntimeError,
    FormatError,
    InputError,
    SelfTestError,
    StorageError,
    UnsupportedError,
)
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.forecast.learning import LearningSession
from device_runtime.format import canonical
from device_runtime.format.adapter import Adapter
from device_runtime.format.blob import decode, encode
from device_runtime.format.learning import FAR, GRAPHS, LEARNING_FILE, Learning
from tests.support.adapters import example_binding
from tests.support.biased import BASES, biased, learning_bundle

RNG = np.random.default_rng(0)
CONTEXT = (80 + np.cumsum(RNG.normal(size=(5, 45)), axis=1)).astype(np.float32)
CONTEXT[0, :20] = np.nan
CONTEXT[1, 7] = np.nan
TARGET = (CONTEXT[:, -1:] + RNG.normal(size=(5, 6)) * 3).astype(np.float32)
TARGET[2, 3:] = np.nan


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learning_bundle(tmp_path_factory.mktemp("learning") / "bundle")


@pytest.fixture(scope="module")
def session(bundle: Path) -> LearningSession:
    return LearningSession.open(bundle)


def draw(session: LearningSession, *rows: int, size: float = 0.05) -> np.ndarray:
    return (np.random.default_rng(7).normal(size=(*rows, session.size)) * size).astype(np.float32)


def loss_of(session: LearningSession, context: np.ndarray, target: np.ndarray, shift: np.ndarray) -> float:
    """Training's loss in numpy, off the forecasts: pinball in the contexts' units, mean over what is scored."""
    quantiles = session.raw(context, np.repeat(shift[None], len(context), axis=0))[:, : target.shape[1]]
    loc = np.nanmean(context.astype(np.float64), axis=1)[:, None]
    scale = np.nanstd(context.astype(np.float64), axis=1)[:, None]
    levels = np.array(session.bundle.manifest.quantile_levels)
    miss = (np.clip((target - loc) / scale, -FAR, FAR)[..., None]) - (quantiles - loc[..., None]) / scale[..., None]
    return float(np.nanmean(2 * np.maximum(levels * miss, (levels - 1) * miss)))


def test_it_is_learnable(session: LearningSession) -> None:
    learnable: Learnable = session
    assert learnable.names == tuple(e.name for e in session.bundle.manifest.tensors if e.name.endswith(".bias"))
    assert sum(learnable.sizes) == session.size == 336
    manifest = session.bundle.manifest
    lengths = (learnable.context_length, learnable.prediction_length)
    assert lengths == (manifest.context_length, manifest.prediction_length)


def test_its_lengths_are_those_of_the_adapter_that_runs(bundle: Path) -> None:
    bound = LearningSession.open(bundle, biased(bundle, 5, binding=example_binding()))
    assert (bound.context_length, bound.prediction_length) == (48, 6)
    long = np.pad(CONTEXT, ((0, 0), (64, 0)), constant_values=80)
    still = np.zeros(bound.size, np.float32)
    np.testing.assert_array_equal(bound.forecast(long, 6, still), bound.forecast(long[:, -48:], 6, still))
    assert bound.gradients(long, TARGET, still)[0] == bound.gradients(long[:, -48:], TARGET, still)[0]


def test_the_loss_is_that_of_the_forecasts(session: LearningSession) -> None:
    for shift in (np.zeros(session.size, np.float32), draw(session)):
        loss, _ = session.gradients(CONTEXT, TARGET, shift)
        assert loss == pytest.approx(loss_of(session, CONTEXT, TARGET, shift), rel=2e-5)


def test_the_gradient_is_the_slope_of_the_loss(session: LearningSession) -> None:
    shift = draw(session)
    _, gradient = session.gradients(CONTEXT, TARGET, shift)
    start = 0
    for name, size in zip(session.names, session.sizes, strict=True):
        way = np.zeros(session.size, np.float32)
        way[start : start + size] = gradient[start : start + size]
        way /= np.linalg.norm(way)
        step = np.float32(0.01)
        up, down = (session.gradients(CONTEXT, TARGET, shift + sign * step * way)[0] for sign in (1, -1))
        assert (up - down) / (2 * step) == pytest.approx(float(gradient @ way), rel=0.05), name
        start += size


def test_every_bias_has_a_gradient_and_leads_without_a_target_none(session: LearningSession) -> None:
    _, gradient = session.gradients(CONTEXT, TARGET, np.zeros(session.size, np.float32))
    parts = dict(zip(session.names, np.split(gradient, np.cumsum(session.sizes)[:-1]), strict=True))
    assert all(np.abs(part).max() > 0 for part in parts.values())
    levels = len(session.bundle.manifest.quantile_levels)
    by_lead = parts["output_patch_embedding.output_layer.bias"].reshape(levels, -1)
    assert (by_lead[:, 6:] == 0).all()
    assert (by_lead[:, :6] != 0).any(axis=0).all()


def test_a_batch_is_what_its_rows_are(session: LearningSession) -> None:
    """Training's loss is a mean over scored steps, whatever rows they are in."""
    shift = draw(session)
    loss, gradient = session.gradients(CONTEXT, TARGET, shift)
    scored = np.isfinite(TARGET).sum(axis=1)
    rows = [session.gradients(CONTEXT[r : r + 1], TARGET[r : r + 1], shift) for r in range(len(CONTEXT))]
    assert loss == pytest.approx(
        sum(one * n for (one, _), n in zip(rows, scored, strict=True)) / scored.sum(), rel=1e-5
    )
    together = sum(one * n for (_, one), n in zip(rows, scored, strict=True)) / scored.sum()
    np.testing.assert_allclose(gradient, together, atol=2e-6 * np.abs(gradient).max())


def test_padding_and_missing_targets_change_nothing(session: LearningSession) -> None:
    shift = draw(session)
    loss, gradient = session.gradients(CONTEXT, TARGET, shift)
    longer = np.pad(CONTEXT, ((0, 0), (64, 0)), constant_values=np.nan)
    later = np.pad(TARGET, ((0, 0), (0, 4)), constant_values=np.nan)
    other, same = session.gradients(longer, later, shift)
    assert other == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(same, gradient, atol=1e-5 * np.abs(gradient).max())


@pytest.mark.parametrize("level", [0.0, 0.5, 98.0, 98.1, -3e4, 1e-3])
def test_what_has_no_scale_teaches_nothing(session: LearningSession, level: float) -> None:
    constant = np.full((1, 48), level, np.float32)
    loss, gradient = session.gradients(constant, constant[:, :6] + 1, draw(session))
    assert loss == 0
    assert not gradient.any()


def test_rows_without_context_or_target_teach_nothing(session: LearningSession) -> None:
    shift = draw(session)
    loss, gradient = session.gradients(CONTEXT, TARGET, shift)
    empty = np.full((1, 45), np.nan, np.float32)
    single = empty.copy()
    single[0, 9] = 77.0
    context = np.concatenate([CONTEXT, empty, single, CONTEXT[:1]])
    target = np.concatenate([TARGET, TARGET[:2], np.full((1, 6), np.nan, np.float32)])
    other, same = session.gradients(context, target, shift)
    assert other == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(same, gradient, atol=2e-6 * np.abs(gradient).max())
    assert session.gradients(context[-1:], target[-1:], shift)[0] == 0


def test_the_unit_of_a_signal_does_not_matter(session: LearningSession) -> None:
    shift = draw(session)
    loss, gradient = session.gradients(CONTEXT, TARGET, shift)
    small, same = session.gradients(CONTEXT * np.float32(2.0**-20), TARGET * np.float32(2.0**-20), shift)
    assert small == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(same, gradient, atol=1e-5 * np.abs(gradient).max())


def test_a_target_far_away_counts_as_far_as_it_may(session: LearningSession) -> None:
    shift = np.zeros(session.size, np.float32)
    far = TARGET.copy()
    far[3, 0] = 1e9
    limit = TARGET.copy()
    limit[3, 0] = CONTEXT[3].mean() + FAR * CONTEXT[3].std()
    assert session.gradients(CONTEXT, far, shift)[0] == pytest.approx(
        session.gradients(CONTEXT, limit, shift)[0], rel=1e-5
    )


def test_a_shift_forecasts_as_the_adapter_that_holds_it(bundle: Path, session: LearningSession) -> None:
    blob = biased(bundle, 3)
    adapter = decode(blob)
    shift = np.concatenate([delta.dense().reshape(-1) for delta in adapter.deltas.values()]).astype(np.float32)
    wanted = Forecaster.open(bundle, blob).forecast(CONTEXT, 6).quantiles
    scale = np.nanstd(CONTEXT, axis=1)[:, None, None]
    assert np.abs((session.forecast(CONTEXT, 6, shift) - wanted) / scale).max() < 1e-5
    one_each = session.forecast(CONTEXT, 6, np.stack([shift, *[np.zeros_like(shift)] * 4]))
    assert np.abs((one_each[:1] - wanted[:1]) / scale[:1]).max() < 1e-5
    assert np.abs((one_each[1:] - Forecaster.open(bundle).forecast(CONTEXT[1:], 6).quantiles) / scale[1:]).max() < 1e-5


def test_it_learns_on_top_of_an_adapter(bundle: Path, session: LearningSession) -> None:
    """The committed adapter changes weights of products: they reach both graphs."""
    blob = (BASES / "chronos-bolt.etsa").read_bytes()
    on_top = LearningSession.open(bundle, BASES / "chronos-bolt.etsa")
    still = np.zeros(session.size, np.float32)
    wanted = Forecaster.open(bundle, blob).forecast(CONTEXT, 6).quantiles
    scale = np.nanstd(CONTEXT, axis=1)[:, None, None]
    assert np.abs((on_top.forecast(CONTEXT, 6, still) - wanted) / scale).max() < 1e-5
    assert np.abs((session.forecast(CONTEXT, 6, still) - wanted) / scale).max() > 1e-2
    loss, _ = on_top.gradients(CONTEXT, TARGET, still)
    assert loss == pytest.approx(loss_of(on_top, CONTEXT, TARGET, still), rel=2e-5)
    assert abs(loss - session.gradients(CONTEXT, TARGET, still)[0]) > 1e-3


def test_learning_files_change_no_base_and_no_forecast(bundle: Path) -> None:
    plain = BASES / "chronos-bolt-bundle"
    assert Bundle.open(bundle).digest == Bundle.open(plain).digest
    for file in plain.iterdir():
        assert (bundle / file.name).read_bytes() == file.read_bytes()
    blob = (BASES / "chronos-bolt.etsa").read_bytes()
    one, other = (Forecaster.open(folder, blob).forecast(CONTEXT, 6).quantiles for folder in (plain, bundle))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("context", "target", "shift", "message"),
    [
        (CONTEXT[0], TARGET, None, r"context: want shape \[B, L\]"),
        (CONTEXT, TARGET[:2], None, r"target: want \[5, H\]"),
        (CONTEXT, TARGET[0], None, r"target: want \[5, H\]"),
        (CONTEXT, np.zeros((5, 2_000), np.float32), None, "target: want"),
        (CONTEXT, np.where(TARGET > 0, np.inf, TARGET), None, "target: has infinite"),
        (CONTEXT * np.inf, TARGET, None, "context: has infinite"),
        ([["a"]], TARGET, None, "context: want numbers"),
        (CONTEXT, TARGET, np.zeros(7, np.float32), r"shift: want \[336\] numbers, got \[7\]"),
        (CONTEXT, TARGET, np.zeros((5, 336), np.float32), "shift: want"),
        (CONTEXT, TARGET, np.full(336, np.nan, np.float32), "shift: has values that are not finite"),
        (CONTEXT, TARGET, ["a"], "shift: want numbers"),
    ],
)
def test_what_cannot_be_learnt_from_is_an_error(session: LearningSession, context, target, shift, message: str) -> None:
    shift = np.zeros(session.size, np.float32) if shift is None else shift
    with pytest.raises(InputError, match=message):
        session.gradients(context, target, shift)


def test_a_forecast_wants_steps_and_something_observed(session: LearningSession) -> None:
    shift = np.zeros(session.size, np.float32)
    for steps in (0, session.prediction_length + 1):
        with pytest.raises(InputError, match="steps"):
            session.forecast(CONTEXT, steps, shift)
    with pytest.raises(InputError, match="row 1 has no observed value"):
        session.forecast(np.stack([CONTEXT[3], CONTEXT[3] * np.nan]), 6, shift)


def test_a_bundle_without_learning_graphs_says_how_to_add_them(dummy_bundle: Path) -> None:
    with pytest.raises(StorageError, match="no learning graphs") as refused:
        LearningSession.open(dummy_bundle)
    assert "edge-tsfm export learning" in str(refused.value.hint)


def test_an_adapter_without_a_known_answer_is_not_learnt_on(bundle: Path) -> None:
    adapter = decode(biased(bundle, 3))
    bare = encode(Adapter(base_digest=adapter.base_digest, version=1, deltas=adapter.deltas))
    with pytest.raises(SelfTestError, match="no known-answer test"):
        LearningSession.open(bundle, bare)


@pytest.mark.parametrize("file", ["learning.onnx", "shifted.onnx", "learning.bin", "tunable.safetensors"])
def test_every_file_is_checked(bundle: Path, tmp_path: Path, file: str) -> None:
    folder = learning_bundle(tmp_path / "bundle")
    data = bytearray((folder / file).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / file).write_bytes(data)
    with pytest.raises(BaseMismatchError, match=file):
        LearningSession.open(folder)
    (folder / file).unlink()
    with pytest.raises(StorageError, match=file):
        LearningSession.open(folder)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"base_digest": "00" * 32}, BaseMismatchError, "is of base 0000"),
        ({"base_digest": "AB" * 32}, FormatError, "base_digest"),
        ({"format": "edge-tsfm bundle"}, FormatError, "not a learning manifest"),
        ({"format_version": 4}, UnsupportedError, "learning version 4; this runtime reads 1, 2, 3"),
        ({"format_version": 3}, UnsupportedError, "learnable 'biases'; this runtime knows fourierft in version 3"),
        ({"learnable": "fourierft"}, UnsupportedError, "runtime knows biases, output-biases in version 1"),
        ({"format_version": 2}, FormatError, "graphs: want learning, shifted, state in version 2"),
        ({"format_version": True}, UnsupportedError, "learning version"),
        ({"learnable": "everything"}, UnsupportedError, "learnable 'everything'"),
        ({"names": []}, FormatError, "names: 0"),
        ({"names": ["nothing.bias"]}, FormatError, "no tensor of the base"),
        ({"names": ["input_patch_embedding.hidden_layer.weight"]}, FormatError, "want a vector"),
        ({"names": [f"{side}_patch_embedding.output_layer.bias" for side in ("output", "input")]}, FormatError,
         "order of the base's table"),
        ({"context_length": 3}, FormatError, "context_length 3, the base has"),
        ({"quantile_levels": [0.5]}, FormatError, "quantile_levels"),
        ({"graphs": {}}, FormatError, "graphs: want learning, shifted in version 1"),
        ({"graphs": {name: {"file": "forecast.onnx", "tensors": []} for name in ("learning", "shifted")}}, FormatError,
         "not among the files"),
        ({"format_version": 2, "graphs": {name: {"file": "shifted.onnx", "tensors": []} for name in GRAPHS[2]}},
         FormatError, "graph state beside biases: want output-biases"),
        ({"files": {"../x": {"sha256": "ab" * 32, "size": 1}}}, FormatError, "plain name"),
        ({"files": {"bundle.json": {"sha256": "ab" * 32, "size": 1}}}, FormatError, "plain name"),
    ],
)  # fmt: skip
def test_a_learning_manifest_that_does_not_fit_is_refused(
    tmp_path: Path, change: dict[str, object], error: type[DeviceRuntimeError], message: str
) -> None:
    folder = learning_bundle(tmp_path / "bundle")
    value = json.loads((folder / LEARNING_FILE).read_bytes())
    (folder / LEARNING_FILE).write_bytes(canonical.dumps({**value, **change}))
    with pytest.raises(error, match=message) as refused:
        LearningSession.open(folder)
    assert str(folder) in str(refused.value)


def test_a_learning_manifest_may_not_take_a_file_of_the_base(tmp_path: Path) -> None:
    folder = learning_bundle(tmp_path / "bundle")
    value = json.loads((folder / LEARNING_FILE).read_bytes())
    value["files"]["forecast.onnx"] = value["files"]["learning.onnx"]
    (folder / LEARNING_FILE).write_bytes(canonical.dumps(value))
    with pytest.raises(FormatError, match=r"pins 'forecast.onnx', which is a file of the base"):
        LearningSession.open(folder)


def test_its_digest_is_that_of_its_bytes() -> None:
    data = (BASES / "chronos-bolt-learning" / LEARNING_FILE).read_bytes()
    assert Learning.parse(data).digest == hashlib.sha256(data).digest()
