"""The runtime against what torch forecast with the same base and adapter; runs where there is no torch."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from device_runtime.errors import (
    BaseMismatchError,
    ChecksumError,
    ForecastError,
    InputError,
    MergeError,
    MissingLibraryError,
    SelfTestError,
    StorageError,
)
from device_runtime.faults import Fault, fault_of
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.forecast.known_answer import widest_tolerance
from device_runtime.forecast.merge import merge
from device_runtime.forecast.session import SessionSettings, open_session
from device_runtime.format.adapter import Adapter, Calibration
from device_runtime.format.blob import decode, encode
from device_runtime.format.delta import Dense, Numbers
from tests.support.rounding import assert_near, noise

BASES = Path(__file__).resolve().parents[2] / "dummy_bases"
EXPECTED = np.load(BASES / "chronos-bolt-expected.npz")
BLOB = (BASES / "chronos-bolt.etsa").read_bytes()
CONTEXT = EXPECTED["context"]
SCALE = float(np.nanstd(CONTEXT, axis=1).max())


def test_the_base_forecasts_as_the_torch_pipeline_does(dummy_bundle: Path) -> None:
    forecaster = Forecaster.open(dummy_bundle)
    forecast = forecaster.forecast(CONTEXT, 20)
    assert_near(
        forecast.quantiles,
        np.sort(EXPECTED["base"]),
        noise(lambda one: forecaster.forecast(one, 20).quantiles, CONTEXT),
    )
    assert forecast.adapter is None


def test_levels_that_the_model_crosses_ascend_in_a_forecast_and_not_in_its_known_answer(dummy_bundle: Path) -> None:
    assert (np.diff(EXPECTED["base"]) < 0).any()  # torch's own cross
    forecaster = Forecaster.open(dummy_bundle)
    assert (np.diff(forecaster.forecast(CONTEXT).quantiles) >= 0).all()
    falling = forecaster.forecast(CONTEXT, 20, (0.9, 0.5, 0.1)).quantiles  # in the order asked for
    np.testing.assert_array_equal(falling, forecaster.forecast(CONTEXT, 20, (0.1, 0.5, 0.9)).quantiles[..., ::-1])
    proven = Forecaster.open(dummy_bundle, BLOB)  # the released blob's answer is the model's own
    answer = proven.adapter.known_answer
    assert (np.diff(answer.expected.reshape(-1, 9)) < 0).any()
    assert proven.self_test() <= answer.tolerance


def test_a_calibration_moves_ascending_levels(dummy_bundle: Path) -> None:
    calibration = Calibration(offsets=Numbers.of(np.full((9, 1), 0.5), "float32"))
    plain = Forecaster.open(dummy_bundle, BLOB).forecast(CONTEXT, 16).quantiles
    width = plain[..., -1:] - plain[..., :1]
    assert (width > 0).all()
    moved = Forecaster.open(dummy_bundle, rebuilt(calibration=calibration)).forecast(CONTEXT, 16).quantiles
    np.testing.assert_allclose(moved, plain + width / 2, rtol=1e-5)


def test_merged_far_beyond_its_own_length_and_between_levels_too(dummy_bundle: Path) -> None:
    forecaster, levels = Forecaster.open(dummy_bundle, BLOB), tuple(EXPECTED["levels"])
    forecast = forecaster.forecast(CONTEXT, 150, levels)
    # Where the model crosses its levels torch interpolates between unsorted ones, and repeats the wrong outermost.
    crossed = (np.diff(forecaster._model.predict(CONTEXT, 150)) < 0).any(-1)
    assert 0 < crossed.mean() < 0.1
    allowed = noise(lambda one: forecaster.forecast(one, 150, levels).quantiles, CONTEXT)
    assert_near(forecast.quantiles[~crossed], EXPECTED["adapted_long"][~crossed], allowed)
    assert np.abs(forecast.quantiles[:, :20, 2] - EXPECTED["base"][..., 4]).max() > 0.1 * SCALE  # the adapter acts


def test_a_row_of_a_batch_is_the_forecast_of_that_row_alone(dummy_bundle: Path) -> None:
    forecaster = Forecaster.open(dummy_bundle, BLOB)
    batch = forecaster.forecast(CONTEXT, 6).quantiles
    alone = forecaster.forecast(CONTEXT[2], 6)
    assert alone.quantiles.shape == (6, 9)
    assert_near(alone.quantiles, batch[2], noise(lambda one: forecaster.forecast(one, 6).quantiles, CONTEXT))


def test_padding_on_the_left_changes_nothing(dummy_bundle: Path) -> None:
    forecaster = Forecaster.open(dummy_bundle, BLOB)
    padded = np.concatenate([np.full((len(CONTEXT), 11), np.nan, np.float32), CONTEXT], axis=1)
    allowed = noise(lambda one: forecaster.forecast(one, 6).quantiles, CONTEXT)
    assert_near(forecaster.forecast(padded, 6).quantiles, forecaster.forecast(CONTEXT, 6).quantiles, allowed)


def test_every_forecast_names_its_base_and_adapter(dummy_bundle: Path) -> None:
    forecaster = Forecaster.open(dummy_bundle, BLOB)
    forecast = forecaster.forecast(CONTEXT[0])
    assert forecast.base == Bundle.open(dummy_bundle).digest.hex()
    assert len(forecast.adapter) == 64
    assert forecast.adapter_version == 3
    assert forecast.median.shape == (16,)


@pytest.mark.parametrize(
    ("context", "message"),
    [
        ([], "at least one value"),
        ([np.nan, np.nan], "row 0 has no observed value"),
        ([[80.0, 81.0], [np.nan, np.nan]], "row 1 has no observed value"),
        ([80.0, np.inf], "infinite"),
        ([[[80.0]]], r"shape \[L\] or \[B, L\]"),
        (["eighty"], "want numbers"),
    ],
)
def test_a_context_that_cannot_be_forecast_from_is_an_error(dummy_bundle: Path, context, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Forecaster.open(dummy_bundle).forecast(context)


def test_impossible_lengths_and_levels_are_errors(dummy_bundle: Path) -> None:
    forecaster = Forecaster.open(dummy_bundle)
    for length in (0, 5_000):
        with pytest.raises(InputError, match="prediction_length"):
            forecaster.forecast(CONTEXT[0], length)
    with pytest.raises(InputError, match="trained for"):
        forecaster.forecast(CONTEXT[0], 4, (0.01,))
    with pytest.raises(InputError, match="median was not"):
        forecaster.forecast(CONTEXT[0], 4, (0.1,)).median  # noqa: B018 - the property raises


def rebuilt(**changes) -> bytes:
    adapter = decode(BLOB)
    fields = {
        name: getattr(adapter, name)
        for name in ("base_digest", "version", "deltas", "known_answer", "calibration", "metadata", "forced")
    }
    return encode(Adapter(**fields | changes))


def test_an_adapter_of_another_base_is_refused(dummy_bundle: Path) -> None:
    with pytest.raises(BaseMismatchError) as caught:
        Forecaster.open(dummy_bundle, rebuilt(base_digest=bytes(32)))
    assert caught.value.code == 300


def test_an_unmerged_or_wrongly_merged_model_fails_its_known_answer(dummy_bundle: Path) -> None:
    deltas = dict(decode(BLOB).deltas)
    deltas.pop(next(iter(deltas)))
    with pytest.raises(SelfTestError, match="off by"):
        Forecaster.open(dummy_bundle, rebuilt(deltas=deltas))


def test_an_adapter_without_a_known_answer_is_not_used(dummy_bundle: Path) -> None:
    with pytest.raises(SelfTestError, match="no known-answer test"):
        Forecaster.open(dummy_bundle, rebuilt(known_answer=None))
    assert Forecaster.open(dummy_bundle, rebuilt(known_answer=None), allow_unproven=True).self_test() is None


def test_a_tolerance_that_would_pass_anything_is_refused(dummy_bundle: Path) -> None:
    answer = decode(BLOB).known_answer
    assert answer is not None
    widest = widest_tolerance(answer.context)
    wide = dataclasses.replace(answer, tolerance=float(np.float32(widest * 1.01)))
    with pytest.raises(SelfTestError, match="want at most"):
        Forecaster.open(dummy_bundle, rebuilt(known_answer=wide))
    wide = dataclasses.replace(answer, tolerance=float(np.float32(widest * 0.99)))
    Forecaster.open(dummy_bundle, rebuilt(known_answer=wide))


def test_merge_refuses_what_does_not_fit(dummy_bundle: Path) -> None:
    bundle = Bundle.open(dummy_bundle)
    wrong_shape = {0: Dense(Numbers.of(np.ones((3, 5))))}
    with pytest.raises(MergeError, match=r"delta is \(3, 5\)"):
        Forecaster.open(bundle, rebuilt(deltas=wrong_shape))
    with pytest.raises(MergeError, match="names tensor 4000"):
        Forecaster.open(bundle, rebuilt(deltas={4_000: Dense(Numbers.of(np.ones((3, 5))))}))
    entry = bundle.manifest.tensors[0]
    huge = {0: Dense(Numbers(np.full(entry.rows_columns, 3e38, np.float32)))}
    base = decode(rebuilt(deltas=huge, known_answer=None))
    with pytest.raises(MergeError, match="not finite"):
        merge(bundle.manifest, lambda _: np.full(entry.shape, 3e38, np.float32), base)
    with pytest.raises(BaseMismatchError, match="the adapter is for base 0000"):  # whoever calls it
        merge(bundle.manifest, bundle.tensor, decode(rebuilt(base_digest=bytes(32))))


def test_merge_never_touches_the_base(dummy_bundle: Path) -> None:
    bundle = Bundle.open(dummy_bundle)
    before = [bundle.tensor(i).copy() for i in range(len(bundle.manifest.tensors))]
    merged = merge(bundle.manifest, bundle.tensor, decode(BLOB))
    for index, tensor in enumerate(before):
        np.testing.assert_array_equal(bundle.tensor(index), tensor)
    assert any((merged[i] != before[i]).any() for i in merged)
    Bundle.open(dummy_bundle)  # every digest still holds


def test_every_tunable_tensor_moves_the_forecast(dummy_bundle: Path) -> None:
    """`add_initializer` would drop most of these in silence; `add_external_initializers` must not drop any."""
    bundle = Bundle.open(dummy_bundle)
    padded = np.nan_to_num(CONTEXT[:2, -16:], nan=80.0)
    feed = {"context": np.concatenate([np.full((2, 8), np.nan, np.float32), padded], axis=1)}
    reference = open_session(bundle, "forecast", {}).run(None, feed)[0]
    for index, entry in enumerate(bundle.manifest.tensors):
        moved = bundle.tensor(index) + np.random.default_rng(index).normal(size=entry.shape).astype(np.float32)
        got = open_session(bundle, "forecast", {index: moved.astype(np.float32)}).run(None, feed)[0]
        assert np.abs(got - reference).max() > 1e-4, entry.name


def test_a_damaged_bundle_is_refused(dummy_bundle: Path, tmp_path: Path) -> None:
    for name in ("forecast.onnx", "tunable.safetensors"):
        copied = tmp_path / name.replace(".", "-")
        shutil.copytree(dummy_bundle, copied)
        data = bytearray((copied / name).read_bytes())
        data[len(data) // 2] ^= 1
        (copied / name).write_bytes(data)
        with pytest.raises(BaseMismatchError, match="SHA-256"):
            Bundle.open(copied)
        (copied / name).write_bytes(data[:-1])
        with pytest.raises(BaseMismatchError, match="bytes"):
            Bundle.open(copied)
        (copied / name).unlink()
        with pytest.raises(StorageError):
            Bundle.open(copied)


def test_another_manifest_is_another_base(dummy_bundle: Path, tmp_path: Path) -> None:
    copied = tmp_path / "bundle"
    shutil.copytree(dummy_bundle, copied)
    manifest = json.loads((copied / "bundle.json").read_text())
    manifest["name"] = "renamed"
    (copied / "bundle.json").write_text(json.dumps(manifest, sort_keys=True, separators=(",", ":")))
    with pytest.raises(BaseMismatchError):
        Forecaster.open(copied, BLOB)


def test_a_folder_that_is_no_bundle_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"no bundle\.json") as caught:
        Forecaster.open(tmp_path)
    assert "export base" in caught.value.hint


def test_a_damaged_blob_never_forecasts(dummy_bundle: Path) -> None:
    damaged = bytearray(BLOB)
    damaged[len(damaged) // 2] ^= 4
    with pytest.raises(ChecksumError):
        Forecaster.open(dummy_bundle, bytes(damaged))


def test_a_provider_that_is_not_there_is_the_machines_fault_and_no_fallback(dummy_bundle: Path) -> None:
    nowhere = SessionSettings(provider="NoSuchProvider", library=dummy_bundle / "no-such.so")
    with pytest.raises(MissingLibraryError, match=r"cannot load .*no-such\.so") as refused:
        Forecaster.open(dummy_bundle, settings=nowhere)
    assert fault_of(refused.value) is Fault.MACHINE  # it says nothing of the adapter that was to run on it


def test_a_forecast_that_is_not_finite_is_an_error(dummy_bundle: Path) -> None:
    bundle = Bundle.open(dummy_bundle)
    index = next(
        i for i, e in enumerate(bundle.manifest.tensors) if e.name == "output_patch_embedding.output_layer.bias"
    )
    shape = bundle.manifest.tensors[index].rows_columns
    blown = rebuilt(deltas={index: Dense(Numbers(np.full(shape, 3e38, np.float32)))}, known_answer=None)
    with pytest.raises(ForecastError, match="not finite"):
        Forecaster.open(bundle, blown, allow_unproven=True).forecast(CONTEXT)


def test_weights_that_onnx_runtime_reads_itself_forecast_the_same(dummy_bundle: Path) -> None:
    """Base and adapter: what is merged takes the place of what lies in the file there too."""
    own, read = SessionSettings(), SessionSettings(from_disk=True)
    for adapter in (None, BLOB):
        ours, theirs = (
            Forecaster.open(dummy_bundle, adapter, settings=settings).forecast(CONTEXT).quantiles
            for settings in (own, read)
        )
        np.testing.assert_array_equal(theirs, ours)


def test_weights_that_onnx_runtime_cannot_read_are_a_storage_error(dummy_bundle: Path, tmp_path: Path) -> None:
    copied = tmp_path / "bundle"
    shutil.copytree(dummy_bundle, copied)
    bundle = Bundle.open(copied)
    (copied / "tunable.safetensors").unlink()
    with pytest.raises(StorageError, match=r"forecast\.onnx: onnxruntime could not open the graph"):
        open_session(bundle, "forecast", {}, SessionSettings(from_disk=True))
