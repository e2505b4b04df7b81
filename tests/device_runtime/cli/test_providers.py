"""The commands that run a base elsewhere; the processor, asked for as a plugin's device is, stands for a provider."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from device_runtime.cli import cli
from device_runtime.errors import SettingsError
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.proofs import read_proofs, write_proof
from device_runtime.forecast.session import SessionSettings
from device_runtime.format.blob import decode
from device_runtime.monitor import in_place
from device_runtime.update.session_settings import SessionPlace
from device_runtime.update.settings import read_config

BLOB = Path(__file__).resolve().parents[2] / "dummy_bases" / "chronos-bolt.etsa"
PLACE = ["--provider", "CPUExecutionProvider:cpu", "--cpu-fallback"]


@pytest.fixture
def bundle(dummy_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(dummy_bundle, tmp_path / "bundle")


def run(*arguments: object, catch: bool = False) -> Result:
    return CliRunner().invoke(cli, [str(one) for one in arguments], catch_exceptions=catch)


def test_prove_writes_what_bench_then_times_in_turn(bundle: Path) -> None:
    with pytest.raises(SettingsError, match="nobody has proven"):
        run("bench", bundle, *PLACE, "--runs", 3)
    said = run("prove", bundle, *PLACE)
    assert said.exit_code == 0, said.output
    assert "53 tensors proven merged" in said.output
    assert "as rounding does" in said.output
    timed = run("bench", bundle, "--provider", "cpu", *PLACE, "--runs", 3, "--json")
    figures = json.loads(timed.output)
    assert list(figures["providers"]) == ["cpu", "CPUExecutionProvider:cpu"]
    assert figures["providers"]["cpu"]["ratio"] == 1
    assert figures["forecast_ms_median"] == figures["providers"]["cpu"]["forecast_ms_median"]
    words = run("bench", bundle, "--provider", "cpu", *PLACE, "--runs", 3).output
    assert "times as fast as cpu" in words


def test_selftest_says_what_a_providers_tolerance_adds(bundle: Path) -> None:
    blob = bundle.parents[0] / "blob.etsa"
    shutil.copy(BLOB, blob)
    tested = ["selftest", bundle, "--adapter", blob, "--json"]
    own = json.loads(run(*tested).output)
    assert "provider" not in own
    assert run("prove", bundle, *PLACE, "--adapter", blob).exit_code == 0
    opened = Bundle.open(bundle)
    (proof,) = read_proofs(opened)
    write_proof(opened, replace(proof, exact=False, tolerance_ppm=100.0))
    there = json.loads(run(*tested, *PLACE).output)
    assert there["provider"] == "CPUExecutionProvider:cpu"
    answer = decode(BLOB.read_bytes()).known_answer
    assert answer is not None
    more = there["known_answer"]["allowed"] - own["known_answer"]["allowed"]
    assert more == pytest.approx(1e-4 * float(answer.context.std()))


def test_bench_of_one_provider_lists_no_others(bundle: Path) -> None:
    report = json.loads(run("bench", bundle, "--runs", 3, "--json").output)
    assert set(report) == {
        "processor", "threads", "activation_ms", "forecast_ms_median", "forecast_ms_p95", "peak_memory_mb", "batch",
        "context_length", "base", "adapter",
    }  # fmt: skip
    setting, figures = run("bench", bundle, "--runs", 3).output.splitlines()
    assert setting.endswith("threads 2")
    assert figures.startswith("activation ")


def test_what_belongs_to_a_provider_is_refused_without_one(bundle: Path) -> None:
    for option in (["--provider-option", "a=b"], ["--provider-library", "x.so"], ["--cpu-fallback"]):
        refused = run("bench", bundle, *option)
        assert refused.exit_code == 2
        assert f"{option[0]} is for a --provider" in refused.output
    assert "want KEY=VALUE" in run("bench", bundle, *PLACE, "--provider-option", "a").output
    several = run("bench", bundle, "--provider", "one", "--provider", "two", "--cpu-fallback")
    assert "are for one --provider" in several.output


def test_providers_lists_the_processor_first(bundle: Path) -> None:
    assert run("providers", bundle).output.startswith("cpu  onnxruntime ")
    first = json.loads(run("providers", "--json").output)[0]
    assert first["provider"] == "cpu"
    assert not first["problem"]


def test_a_monitors_settings_say_where_forecasts_run(tmp_path: Path) -> None:
    text = (
        'device_id = "bed-1"\nring = "icu"\nbundle = "bundle"\nstate = "state"\n'
        f'trusted_keys = ["{"ab" * 32}"]\n[session]\nprovider = "openvino:gpu"\nlibrary = "plugin.so"\n'
        'options = { num_streams = "1" }\n'
    )
    file = tmp_path / "device.toml"
    file.write_text(text)
    settings = in_place(read_config(file), None)
    assert settings.provider == "openvino:gpu"
    assert settings.library == tmp_path / "plugin.so"
    assert settings.options == {"num_streams": "1"}
    assert not settings.cpu_fallback
    file.write_text(text.replace('provider = "openvino:gpu"\n', ""))
    with pytest.raises(SettingsError, match="are a provider's"):
        read_config(file)
    assert in_place_default(tmp_path, text).provider == "cpu"


def in_place_default(folder: Path, text: str) -> SessionSettings:
    file = folder / "plain.toml"
    file.write_text(text.partition("[session]")[0])
    return in_place(read_config(file), None)


def test_a_monitors_stream_takes_its_provider_from_the_settings(tmp_path: Path) -> None:
    refused = run("stream", "--config", tmp_path / "device.toml", "--signal", "MAP", "--provider", "openvino")
    assert refused.exit_code == 2
    assert "[session]" in refused.output


def test_a_monitors_stream_measures_no_threads_for_a_provider(bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "device.toml"
    file.write_text(
        f'device_id = "bed-1"\nring = "icu"\nbundle = "{bundle}"\nstate = "state"\n'
        f'trusted_keys = ["{"ab" * 32}"]\n[session]\nprovider = "openvino"\n'
    )
    with pytest.raises(SettingsError, match="openvino was asked for"):
        run("stream", "--config", file, "--signal", "MAP", "--threads", "auto")


def test_a_place_without_a_name_is_refused() -> None:
    with pytest.raises(SettingsError, match="want a name"):
        SessionPlace(provider="")
