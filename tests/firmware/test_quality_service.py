"""Field quality in the C service: what it scores, keeps over restarts and says of the adapters that it runs."""

from __future__ import annotations

import hashlib
import json
import math
import signal
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_runtime.forecast.bundle import Bundle
from device_runtime.format.blob import decode, encode
from device_runtime.quality.field import FieldQuality
from device_runtime.quality.rules import QualityRules
from device_runtime.quality.scores import PLACES, Sums, score
from device_runtime.update.disk import PosixDisk
from device_runtime.update.field_store import load, published

from .conftest import SOURCE, run
from .quality_core import LATE
from .service import Service


def test_the_service_scores_what_it_forecast(built: Path, library: Path) -> None:
    sample = SOURCE / "sample_data"
    values = {step: 75.0 + 9 * math.cos(step / 4) + step % 3 for step in range(60) if step % 11}
    lines = "".join(f"0 {step * 3_600_000} {value:.1f} 0\n" for step, value in values.items())
    key = (sample / "key.hex").read_text().strip()
    program = built / "service" / "etsa-service"
    options = ["--signal", "MAP", "--interval", "1h", "--key", key, "--library", library, "--quality", "1"]
    done = run(program, sample / "bundle", sample / "ward.etsa", *options, stdin=lines)
    assert done.returncode == 0, done.stderr
    said = next(line for line in done.stderr.splitlines() if '"steps"' in line)
    found = json.loads(said.partition("etsa-service: ")[2])
    made = [json.loads(line) for line in done.stdout.splitlines()]
    newest = max(values)
    levels = np.array([float(level) for level in made[-1]["quantiles"]])
    total = np.zeros(PLACES + len(levels))
    for one in made:
        quantiles = np.array(list(one["quantiles"].values()), dtype=np.float32).T  # [H, Q]
        origin = one["t_ms"] // 3_600_000 - 1
        if origin + len(quantiles) <= newest - 1 - LATE:
            steps = range(origin + 1, origin + len(quantiles) + 1)
            target = np.array([values.get(step, math.nan) for step in steps]).round(1).astype(np.float32)
            total += score(quantiles, target, levels, 0.0)
    sums = Sums(total)
    assert found["steps"] == sums.steps > 200
    assert found["wql"] == pytest.approx(sums.wql, rel=1e-6)
    assert found["missing"] == pytest.approx(sums.missing, rel=1e-6)
    assert found["beside_base"]["steps"] == sums.steps
    assert found["beside_base"]["wql"] == pytest.approx(sums.wql, rel=1e-6)
    assert found["beside_base"]["base_wql"] > 0
    without = run(program, sample / "bundle", sample / "ward.etsa", *options[:-2], stdin=lines)
    assert '"steps"' not in without.stderr
    assert [line.split('"latency_ms"')[0] for line in without.stdout.splitlines()] == [
        line.split('"latency_ms"')[0] for line in done.stdout.splitlines()
    ]


SAMPLE = SOURCE / "sample_data"


def lines_of(steps: range) -> str:
    """Values of the sample's signal, an hour apart; every eleventh is missing."""
    values = ((step, 75.0 + 9 * math.cos(step / 4) + step % 3) for step in steps if step % 11)
    return "".join(f"0 {step * 3_600_000} {value:.1f} 0\n" for step, value in values)


AT_ONCE = 40  # steps: the service skips steps when more than 64 wait for its worker


def push(service: Service, steps: range) -> list[dict[str, Any]]:
    """Push values in parts, each when the forecasts of the one before are out; return them."""
    made = []
    for at in range(steps.start, steps.stop, AT_ONCE):
        part = [step for step in range(at, min(at + AT_ONCE, steps.stop)) if step % 11]
        for line in lines_of(range(part[0], part[-1] + 1)).splitlines(keepends=True):
            service.write(line)
        made += service.forecasts(part[-1] - (service.step or part[0]))  # of each step that has ended, missing ones too
        service.step = part[-1]
    return made


def serve(built: Path, library: Path, steps: range, *options: object) -> tuple[list[dict[str, Any]], Any, str]:
    """Run the service on values; return its forecasts, its last word on quality, and standard error."""
    fixed = ["--signal", "MAP", "--quality", "1"]
    adapter = SAMPLE / "ward.etsa"
    binary, bundle = built / "service" / "etsa-service", Bundle.open(SAMPLE / "bundle")
    service = Service(binary, library, bundle, adapter, *fixed, *options, interval="1h")
    made = push(service, steps)
    rest, said = service.finish()
    (last,) = (line for line in said.splitlines() if '"steps"' in line)
    assert "were skipped" not in said
    return [*made, *rest], json.loads(last.partition("etsa-service: ")[2]), said


def figures_in(folder: Path) -> dict[str, Any]:
    """What `edge-tsfm-device quality --json` says of a state folder."""
    field = FieldQuality(QualityRules(), ratio=1.02)
    assert load(PosixDisk(folder), field) == ""
    return field.figures()


def test_the_service_goes_on_with_the_figures_that_it_kept(built: Path, library: Path, tmp_path: Path) -> None:
    kept = ["--quality-file", tmp_path / "quality", "--max-wql-vs-base", "2"]
    _, first, _ = serve(built, library, range(200), *kept)
    (runs,) = figures_in(tmp_path)["MAP"]
    assert (runs["steps"], runs["adapter"]) == (first["steps"], first["adapter"])
    assert runs["adapter"] == hashlib.sha256(blob_of(SAMPLE / "ward.etsa")).hexdigest()
    assert runs["wql"] == pytest.approx(first["wql"], rel=1e-8)
    assert runs["against"]["base"]["wql_percent"] == pytest.approx(first["beside_base"]["percent"], rel=1e-6)
    assert published(PosixDisk(tmp_path))["MAP"][0]["total"][1] > 100
    _, second, _ = serve(built, library, range(200, 400), *kept)
    (runs,) = figures_in(tmp_path)["MAP"]
    assert second["steps"] == runs["steps"] > 1.9 * first["steps"]
    assert second["beside_base"]["units"] > 1.8 * first["beside_base"]["units"]
    (tmp_path / "quality").write_bytes((tmp_path / "quality").read_bytes()[:-9])
    _, third, said = serve(built, library, range(400, 600), *kept)
    assert "figures begin anew" in said
    assert "is damaged" in said
    assert third["steps"] < first["steps"] + 20


def blob_of(path: Path) -> bytes:
    """Return a signed file's blob."""
    data = path.read_bytes()
    size = struct.unpack_from("<I", data, 8)[0]
    return data[:size]


@pytest.mark.parametrize(("percent", "verdict"), [("-90", "worse"), ("1000", "better")])
def test_every_forecast_says_what_the_field_says_of_its_adapter(
    built: Path, library: Path, percent: str, verdict: str
) -> None:
    made, last, _ = serve(built, library, range(600), "--max-wql-vs-base", percent, "--min-scored", "300")
    verdicts = [one["verdict"] for one in made]
    at = verdicts.index(verdict)
    assert at > 50  # 300 steps, of 6 for a forecast
    assert verdicts == ["open"] * at + [verdict] * (len(made) - at)
    assert last["verdict"] == verdict


def test_without_a_limit_nothing_is_judged(built: Path, library: Path) -> None:
    made, last, _ = serve(built, library, range(100))
    assert all("verdict" not in one for one in made)
    assert last["verdict"] == "open"


WRONG = [
    "--max-wql-vs-base 2",
    "--beside-previous",
    "--quality-file x",
    "--quality 0 --beside-previous",
    "--quality 1 --max-wql-vs-base -95",
    "--quality 1 --max-wql-vs-base 2x",
    "--quality 1 --min-scored 0",
]


@pytest.mark.parametrize("options", WRONG)
def test_options_that_mean_nothing_together_are_wrong_usage(built: Path, library: Path, options: str) -> None:
    binary = built / "service" / "etsa-service"
    done = run(binary, SAMPLE / "bundle", "--library", library, *options.split(), stdin="")
    assert (done.returncode, done.stderr.startswith("usage:")) == (2, True)


def test_the_adapter_before_forecasts_beside_the_one_that_replaced_it(
    built: Path, library: Path, tmp_path: Path
) -> None:
    path, first = tmp_path / "map.etsa", blob_of(SAMPLE / "ward.etsa")
    other = decode(first)
    second = encode(replace(other, version=other.version + 1))
    path.write_bytes(first)
    kept = tmp_path / "quality"
    options = ["--signal", "MAP", "--quality", "1", "--beside-previous", "--quality-file", kept]
    service = Service(
        built / "service" / "etsa-service", library, Bundle.open(SAMPLE / "bundle"), path, *options, interval="1h"
    )
    service.log("channel 0 runs")

    push(service, range(1, 60))
    written = tmp_path / "next.etsa"
    written.write_bytes(second)
    written.rename(path)
    service.process.send_signal(signal.SIGHUP)
    service.log("channel 0 runs")
    push(service, range(60, 160))
    service.process.send_signal(signal.SIGTERM)
    _, said = service.finish()
    held = {one["adapter"]: one for one in figures_in(tmp_path)["MAP"]}
    names = [hashlib.sha256(blob).hexdigest() for blob in (first, second)]
    assert set(held) == set(names)
    beside = held[names[1]]["against"]["previous"]
    assert beside["adapter"] == names[0]
    assert beside["wql_percent"] == pytest.approx(0, abs=1e-9)  # the same numbers under another version
    assert beside["other"]["steps"] > 300
    assert "previous" not in held[names[0]]["against"]
    assert json.loads(said.splitlines()[0].partition("etsa-service: ")[2])["beside_previous"]["steps"] > 300
