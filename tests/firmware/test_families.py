"""Every family three ways: what torch says of adapted weights, the Python runtime and the C sample say too."""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_runtime.errors import SelfTestError
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.forecast.merge import merge
from device_runtime.format import canonical
from device_runtime.format.adapter import Adapter, Calibration, KnownAnswer
from device_runtime.format.binding import Binding
from device_runtime.format.blob import encode
from device_runtime.format.delta import Dense, LowRank, Numbers
from tests.support.rounding import ANY_ORDER

from .conftest import build, run

pytest.importorskip("torch", reason="the third way is torch")
pytest.importorskip("chronos", reason="the third way is chronos-forecasting")
pytest.importorskip("onnxscript", reason="exports a base")

SERIES = (75 + 9 * np.cos(np.arange(50, dtype=np.float32) / 4)).astype(np.float32)
SERIES[[0, 3, 30, 49]] = np.nan
FAMILIES = ["chronos-bolt", "chronos-t5", "chronos-2"]
SEEDS = [(None, 0), (1, 7), (200, 2**32 - 1)]  # 200 paths are more than are drawn at once

Forecast = Callable[..., tuple[int, np.ndarray, str]]


@pytest.fixture
def by_c(built: Path, library: Path, tmp_path: Path) -> Forecast:
    """Forecast `SERIES` with the C sample: exit code or error code, quantiles ``[H, Q]``, standard error."""
    rows = ("" if np.isnan(value) else f"{value:.9g}" for value in SERIES)
    (tmp_path / "series.csv").write_text("".join(f"{row}\n" for row in rows))

    def call(bundle: Path, blob: bytes | None, *options: object) -> tuple[int, np.ndarray, str]:
        if blob is not None:
            (tmp_path / "a.etsa").write_bytes(blob)
            options = (*options, "--adapter", tmp_path / "a.etsa")
        binary = built / "forecast_ort" / "etsa-forecast"
        done = run(binary, "--library", library, bundle, tmp_path / "series.csv", *options)
        refused = re.search(r"^etsa-forecast: \[(\d+)\]", done.stderr, flags=re.MULTILINE)
        lines = [] if done.returncode else done.stdout.splitlines()[1:]
        code = int(refused[1]) if refused else done.returncode
        return code, np.array([[float(cell) for cell in line.split(",")[1:]] for line in lines]), done.stderr

    return call


def same(got: np.ndarray, wanted: np.ndarray) -> None:
    """Equal to what an order of summation decides: C leaves constants unfolded, so its products are others."""
    assert got.shape == wanted.shape
    assert float(np.abs(got - wanted).max()) <= ANY_ORDER * float(np.abs(wanted).max())


def proven(base: Any, bundle: Bundle, *, frozen: bool = False) -> bytes:
    """An adapter of every tunable tensor, its known answer by torch; ``frozen``: by torch without the adapter."""
    from export.families import torch_witness
    from export.parity import replaced

    draw = np.random.default_rng(5)

    def numbers(*shape: int) -> Numbers:
        return Numbers.of(draw.normal(size=shape) * 0.3)

    deltas = {
        index: LowRank(a=numbers(1, entry.rows_columns[1]), b=numbers(entry.rows_columns[0], 1), scaling=1.0)
        for index, entry in enumerate(bundle.manifest.tensors)
    }
    adapter = Adapter(base_digest=bundle.digest, version=1, deltas=deltas)
    merged = merge(bundle.manifest, bundle.tensor, adapter)
    context = (70 + 10 * np.sin(np.arange(20) / 3)).astype(np.float32)
    names = {bundle.manifest.tensors[index].name: weights for index, weights in merged.items()}
    with replaced(base.model, {} if frozen else names):
        expected = torch_witness(bundle.manifest.family, base.model, context[None])[0]
    if bundle.manifest.family == "chronos-2":
        expected = expected[: len(expected) // 2]  # in company, as the known answer is; then alone
    expected = expected.reshape(-1)
    allowed = 2 * ANY_ORDER * float(np.abs(expected).max())  # torch on one side, ONNX Runtime on the other
    answer = KnownAnswer(context=context, expected=expected, tolerance=float(np.float32(allowed)))
    return encode(replace(adapter, known_answer=answer))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("added_biases", [False, True], ids=["", "added biases"])
def test_adapted_weights_are_felt_alike_by_torch_python_and_c(
    family: str, added_biases: bool, exported: Callable[..., Any], by_c: Forecast
) -> None:
    base, bundle = exported(family, added_biases=added_biases)
    blob = proven(base, bundle)
    python = Forecaster.open(bundle, blob)
    code, got, err = by_c(bundle.path, blob)
    assert code == 0, err
    wanted = python.forecast(SERIES).quantiles
    same(got, wanted)
    assert np.abs(wanted - Forecaster.open(bundle).forecast(SERIES).quantiles).max() > 0.01  # the adapter is felt
    off = re.search(r"known answer off by ([\d.e+-]+)", err)
    assert off is not None
    assert float(off[1]) == pytest.approx(python.self_test(), abs=ANY_ORDER * float(np.abs(wanted).max()))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_known_answer_of_the_frozen_base_is_refused(
    family: str, exported: Callable[[str], Any], by_c: Forecast
) -> None:
    base, bundle = exported(family)
    wrong = proven(base, bundle, frozen=True)
    with pytest.raises(SelfTestError):
        Forecaster.open(bundle, wrong)
    assert by_c(bundle.path, wrong)[0] == SelfTestError.code


@pytest.mark.parametrize(("samples", "seed"), SEEDS)
def test_samples_are_those_of_python(
    samples: int | None, seed: int, exported: Callable[[str], Any], by_c: Forecast
) -> None:
    base, bundle = exported("chronos-t5")
    blob = proven(base, bundle)
    options = ["--seed", seed] + ([] if samples is None else ["--num-samples", samples])
    code, got, err = by_c(bundle.path, blob, *options)
    assert code == 0, err
    wanted = Forecaster.open(bundle, blob).forecast(SERIES, num_samples=samples, seed=seed).quantiles
    np.testing.assert_array_equal(got.astype(np.float32), wanted)


@pytest.mark.parametrize("precision", ["float32", "int8", "float16"])
def test_caches_that_grow_and_small_weights_give_the_same_samples(
    precision: str, long_t5: dict[str, Bundle], by_c: Forecast
) -> None:
    """40 steps, three lengths of the caches; in int8 ten paths at a time."""
    bundle = long_t5[precision]
    code, got, err = by_c(bundle.path, None, "--seed", 7, "--num-samples", 25)
    assert code == 0, err
    wanted = Forecaster.open(bundle).forecast(SERIES, num_samples=25, seed=7).quantiles
    assert wanted.shape[0] == 40
    np.testing.assert_array_equal(got.astype(np.float32), wanted)


@pytest.mark.parametrize("family", ["chronos-bolt", "chronos-2"])
def test_a_base_that_does_not_sample_refuses_to(family: str, exported: Callable[[str], Any], by_c: Forecast) -> None:
    assert by_c(exported(family)[1].path, None, "--seed", 1)[0] == 500
    assert by_c(exported(family)[1].path, None, "--num-samples", 5)[0] == 500


@pytest.mark.parametrize("options", [("--num-samples", 0), ("--num-samples", 4097), ("--seed", 2**32), ("--seed", -1)])
def test_samples_and_seeds_out_of_range_are_usage_errors(
    options: tuple[object, ...], exported: Callable[[str], Any], by_c: Forecast
) -> None:
    assert by_c(exported("chronos-t5")[1].path, None, *options)[0] == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"num_heads": 0}, {"top_p": 0.0}, {"temperature": 0.0}, {"num_samples": 4097}, {"use_eos_token": 1},
        {"start_token_id": 64}, {"low_limit": 99.0},
    ],
)  # fmt: skip
def test_a_bundle_with_parameters_that_cannot_be_is_refused(
    changes: dict[str, Any], exported: Callable[[str], Any], by_c: Forecast, tmp_path: Path
) -> None:
    _, bundle = exported("chronos-t5")
    manifest = dict(canonical.loads((bundle.path / "bundle.json").read_bytes(), "bundle.json"))
    folder = tmp_path / "bundle"
    folder.mkdir()
    for file in bundle.path.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    manifest["parameters"] = {**manifest["parameters"], **changes}
    (folder / "bundle.json").write_bytes(canonical.dumps(manifest))
    assert by_c(folder, None)[0] == 100
    manifest["family"] = "chronos-9"
    (folder / "bundle.json").write_bytes(canonical.dumps(manifest))
    assert by_c(folder, None)[0] == 110


@pytest.mark.parametrize("precision", ["int8", "float16"])
def test_small_weights_and_a_calibrated_blob(
    precision: str, exported: Callable[[str], Any], by_c: Forecast, tmp_path: Path
) -> None:
    from edge_tsfm.methods.sites import touched_tensors
    from export import export_adapter, export_precision, with_calibration
    from export.contexts import synthetic_contexts

    base, bundle = exported("chronos-bolt")
    name = "output_patch_embedding.output_layer.bias"
    contexts = synthetic_contexts(6, 40, seed=9)
    delta = Dense(Numbers.of(np.full((len(bundle.tensor(bundle.index_of(name))), 1), 0.3)))
    small = Bundle.open(
        export_precision(
            bundle, out=tmp_path / "small", precision=precision, adapted=touched_tensors(base.model, ["bitfit"]),
            contexts=contexts, adapter={name: delta},
        ).path
    )  # fmt: skip
    tuned = copy.deepcopy(base.model)
    dict(tuned.named_parameters())[name].data += 0.3
    plain = export_adapter(
        bundle=small, base=base.model, tuned=tuned, deltas={name: delta}, contexts=contexts, version=1, metadata={},
        binding=Binding.of(
            "HR", interval_us=3_600_000_000, context_length=bundle.manifest.context_length,
            prediction_length=bundle.manifest.prediction_length,
        ),
    ).blob  # fmt: skip
    calibrated = with_calibration(
        small, plain, Calibration(offsets=Numbers.of(np.linspace(-0.5, 0.5, 54).reshape(9, 6), "int8"))
    )
    forecasts = []
    for blob in (None, plain, calibrated):
        code, got, err = by_c(small.path, blob, "--signal", "HR", "--interval", "1h")
        assert code == 0, err
        same(got, Forecaster.open(small, blob).forecast(SERIES).quantiles)
        forecasts.append(got)
    assert all(np.abs(a - b).max() > 0.01 for a, b in itertools.pairwise(forecasts))


def test_the_service_forecasts_as_python_does_with_seed_0(
    exported: Callable[[str], Any], built: Path, library: Path, tmp_path: Path
) -> None:
    base, bundle = exported("chronos-t5")
    blob = proven(base, bundle)
    (tmp_path / "a.etsa").write_bytes(blob)
    values = [70.0, 75.5, 71.25, 80.0]
    lines = "".join(f"0 {hour * 3_600_000} {value} 0\n" for hour, value in enumerate(values))
    binary = built / "service" / "etsa-service"
    done = run(binary, "--library", library, bundle.path, tmp_path / "a.etsa", stdin=lines)
    forecasts = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["t_ms"] for one in forecasts] == [3_600_000, 7_200_000, 10_800_000], done.stderr
    python = Forecaster.open(bundle, blob)
    for count, one in enumerate(forecasts, start=1):
        assert one["adapter_version"] == 1
        got = np.array(list(one["quantiles"].values()), dtype=np.float32).T
        np.testing.assert_array_equal(got, python.forecast(values[:count]).quantiles)


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("sanitized"), "-DETSA_SANITIZE=ON", "-DCMAKE_BUILD_TYPE=Debug")


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_sanitizers_find_nothing(
    family: str, exported: Callable[[str], Any], sanitized: Path, library: Path, tmp_path: Path
) -> None:
    base, bundle = exported(family)
    (tmp_path / "series.csv").write_text("".join(f"{value}\n" for value in range(70, 80)))
    binary = sanitized / "forecast_ort" / "etsa-forecast"
    for frozen in (False, True):  # the second is refused after the sessions are open
        (tmp_path / "a.etsa").write_bytes(proven(base, bundle, frozen=frozen))
        options = ["--stream", "--adapter", tmp_path / "a.etsa"]
        done = run(binary, "--library", library, bundle.path, tmp_path / "series.csv", *options)
        assert done.returncode == int(frozen), done.stderr
        assert "Sanitizer" not in done.stderr
        assert "runtime error" not in done.stderr


@pytest.mark.slow
def test_the_bundled_t5(by_c: Forecast, tmp_path: Path) -> None:
    from edge_tsfm.models import load_base
    from export import export_base

    base = load_base("edge-t5-micro")
    provenance = {"source": "test", "weights": base.digest, "licence": "Apache-2.0"}
    export_base(base.model, family=base.family, name="micro", out=tmp_path / "micro", provenance=provenance)
    bundle = Bundle.open(tmp_path / "micro")
    blob = proven(base, bundle)
    code, got, err = by_c(bundle.path, blob, "--num-samples", 200, "--seed", 5)
    assert code == 0, err
    wanted = Forecaster.open(bundle, blob).forecast(SERIES, num_samples=200, seed=5).quantiles
    same(got, wanted)
