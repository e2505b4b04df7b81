"""Hospital A's patients on monitors with real adapters: a worse one is taken back and its roll-out halts."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from device_runtime.forecast.forecaster import Forecaster
from device_runtime.format import blob as blobs
from device_runtime.format.manifest import Manifest
from device_runtime.quality.scores import loss, score
from device_runtime.update.audit import read_lines
from device_runtime.update.disk import PosixDisk
from device_runtime.update.field_store import published
from device_runtime.update.lifecycle import State
from device_runtime.update.settings import read_config
from device_runtime.update.slots import Slots, slots_of
from edge_tsfm.data import Series, read_dataset
from edge_tsfm.deploy.controller import Action, Decision, Stage, decide
from edge_tsfm.deploy.field_figures import field_figures
from tests.simulators.publisher import scaled_blob
from tests.support import streamed

LIMIT = 2.0
STAGE = Stage(
    permille=1000, min_reports=2, soak_hours=0.0, max_failures=100, max_failure_percent=100.0,
    max_wql_vs_base_percent=LIMIT,
)  # fmt: skip
JUDGED = f"""[health]
seconds = 0
min_forecasts = 1
latency_budget = 60
max_wql_vs_base_percent = {LIMIT}
min_scored = 200
[quality]
shadow_every = 1
"""
MONITORS, PATIENTS = 2, 50  # patients on each


class Trained(NamedTuple):
    """A bundle, and an adapter of hospital A's training patients."""

    bundle: Path
    ward: bytes


@pytest.fixture(scope="module")
def trained(reference_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    data, folder = str(reference_data / "physionet2019_hospital_a.parquet"), tmp_path_factory.mktemp("trained")
    run, bundle, blob = folder / "run", folder / "bundle", folder / "map.etsa"
    for command in (
        ["train", data, "--target", "MAP", "--steps", "200", "--batch-size", "64", "--out", run, "--quiet", "--force"],
        ["export", "base", "--out", bundle],
        ["export", "adapter", run, "--bundle", bundle, "--out", blob],
    ):
        subprocess.run([*streamed.DEVICE[:2], "edge_tsfm.cli", *map(str, command)], check=True, capture_output=True)
    return Trained(bundle, blob.read_bytes())


@pytest.fixture(scope="module")
def patients(reference_data: Path) -> list[Series]:
    dataset = read_dataset(reference_data / "physionet2019_hospital_a.parquet", target="MAP")
    return [one for one in dataset.series if one.split == "test" and np.isfinite(one.target).sum() > streamed.DROPPED]


def lost(bundle: Path, blob: bytes | None, series: list[Series]) -> float:
    """The summed loss on patients' windows."""
    scored, forecaster = streamed.windows(series), Forecaster.open(bundle, blob)
    manifest: Manifest = forecaster.bundle.manifest
    levels = np.array(manifest.quantile_levels)
    quantiles = forecaster.forecast(scored.context, streamed.H).quantiles
    return sum(loss(score(one, target, levels, 0.0)) for one, target in zip(quantiles, scored.target, strict=True))


def scaled(trained: Trained, series: list[Series]) -> bytes:
    """The ward's adapter with that one tensor's coefficients scaled by -20 which makes it lose most."""
    base = lost(trained.bundle, None, series)
    made = [
        scaled_blob(trained.ward, -20.0, trained.bundle, tensor=tensor) for tensor in blobs.decode(trained.ward).deltas
    ]
    excess = [lost(trained.bundle, blob, series) / base - 1 for blob in made]
    assert max(excess) > 0.05, excess
    return made[int(np.argmax(excess))]


def trial(folder: Path, bundle: Path, blob: bytes, patients: list[Series]) -> tuple[list[Slots], Decision]:
    """Try an adapter on monitors of the first patients; return what each did, and what the controller decides."""
    beds, reports = [], []
    for number in range(MONITORS):
        config = streamed.install(folder / f"bed-{number}", bundle, blob, JUDGED)
        mine = patients[number * PATIENTS : (number + 1) * PATIENTS]
        answers = streamed.stream(config, streamed.lines(mine))
        assert not any("error" in one and one["error"] != 500 for one in answers)
        slots = slots_of(read_config(config))
        quality = published(PosixDisk(read_config(config).state))
        reports.append({"device": f"bed-{number}", "channel": "icu", "quality": quality})
        beds.append(slots)
    held = [one["adapter"] for report in reports for one in report["quality"]["MAP"] if one["adapter"]]
    field = field_figures(reports, ring="icu", adapter=held[0])
    confirmed = sum(one.record.state is State.CONFIRMED for one in beds)
    return beds, decide((STAGE,), 0, confirmed=confirmed, failed=MONITORS - confirmed, seconds=0.0, field=field)


@pytest.mark.slow
def test_a_scaled_coefficient_is_taken_back_and_its_rollout_halts(
    trained: Trained, patients: list[Series], tmp_path: Path
) -> None:
    beds, decision = trial(tmp_path, trained.bundle, scaled(trained, patients[:4]), patients)
    for slots in beds:
        assert (slots.record.state, slots.record.candidate) == (State.BASE, None)
        last = list(read_lines(slots.audit.export()))[-1].body
        assert last["event"] == "roll back"
        assert "MAP WQL" in last["reason"]
        print(last["reason"])  # noqa: T201
    print(decision.why)  # noqa: T201
    assert (decision.action, decision.figure) == (Action.STOP, "max_wql_vs_base_percent")


@pytest.mark.slow
def test_a_good_one_passes(trained: Trained, patients: list[Series], tmp_path: Path) -> None:
    beds, decision = trial(tmp_path, trained.bundle, trained.ward, patients)
    for slots in beds:
        assert slots.record.state is State.CONFIRMED, slots.record.reason
        assert "health window passed" in slots.record.reason
        print(slots.record.reason)  # noqa: T201
    print(decision.why)  # noqa: T201
    assert decision.action is Action.FINISH, decision
