"""A monitor learns in shadow, promotes what it has proven, names it in every forecast, and takes it back."""

from __future__ import annotations

import json
import math
import shutil
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_runtime.adapt.learner import NO_READINGS, SPOILT_STAYS, Entry
from device_runtime.adapt.modes import Mode
from device_runtime.format.blob import decode
from device_runtime.format.delta import Dense, Fourier
from device_runtime.update.adapt_facts import Losses
from device_runtime.update.adapt_report import status_of
from device_runtime.update.audit import read_lines
from device_runtime.update.settings import read_config
from device_runtime.update.slots import slots_of
from tests.simulators.learning_bed import (
    BUNDLE,
    HOUR,
    PUBLIC,
    QUICK,
    WHO,
    LearningBed,
    envelope_for,
    signed,
)
from tests.support.linear import ward

LEARNING, FOURIER = (BUNDLE.with_name(f"chronos-bolt-{name}") for name in ("learning", "fourier"))


def test_from_shadow_to_a_promotion_and_back(tmp_path: Path) -> None:
    bed = LearningBed(tmp_path)
    assert bed.forecast().adapter is None
    stays = bed.until_own()
    assert 12 <= stays <= 60
    own = bed.record.own
    assert own is not None
    forecast = bed.forecast()
    assert (forecast.adapter, forecast.generation) == (own.adapter, own.sequence)
    promoted = list(read_lines(bed.slots.audit.export()))[-1].body
    assert promoted["event"] == "promote"
    assert promoted["learnt"]["evidence"] >= 20
    assert promoted["learnt"]["candidate_percent"] < 0
    again = bed.start()
    assert again.forecast([14.0] * 23 + [15.0]).adapter == own.adapter
    bed.slots.demote("by hand", who="operator")
    assert bed.forecast().adapter is None
    assert bed.forecast().generation is None


def test_in_shadow_nothing_is_ever_promoted(tmp_path: Path) -> None:
    bed = LearningBed(tmp_path, mode=Mode.SHADOW)
    assert bed.until_own(60) > 60
    assert bed.forecast().adapter is None
    assert bed.host._adapting.facts()["verdict"] == "promote"


def test_learning_goes_on_after_a_restart(tmp_path: Path) -> None:
    bed = LearningBed(tmp_path, mode=Mode.SHADOW)
    for _ in range(12):
        bed.stay()
    before = bed.host._adapting.facts()
    bed.host = bed.start()
    bed.stay()
    after = bed.host._adapting.facts()
    assert bed.host._adapting.problem == ""
    assert after["stays"] == before["stays"] + 1
    assert after["steps"] > before["steps"]
    assert after["loss"]["frozen"] > before["loss"]["frozen"] > 0


def test_a_stay_whose_losses_are_not_finite_counts_in_no_sum() -> None:
    losses = Losses()
    for lost, sums in (((2.0, 3.0, 4.0), [2, 3, 4]), ((1.0, math.nan, 1.0), [2, 3, 4]), ((1.0, 1.0, 1.0), [3, 4, 5])):
        entry = Entry(number=1, stay=1, what="scored", windows=1, losses=lost, evidence=0.0, digest="")
        losses.add(entry, counts=True)
        assert losses.sums == sums


def test_what_was_learnt_does_not_forecast_behind_stays_that_are_no_readings(tmp_path: Path) -> None:
    bed = LearningBed(tmp_path)
    bed.until_own()
    bed.stays = iter([values * np.float32(20) for values in ward(SPOILT_STAYS, seed=5, steps=60)])
    for _ in range(SPOILT_STAYS):
        assert bed.host.runs_own
        bed.stay()
    assert not bed.host.runs_own
    assert bed.forecast().adapter is None
    taken_back = list(read_lines(bed.slots.audit.export()))[-1].body
    assert (taken_back["event"], taken_back["reason"]) == ("demote", NO_READINGS)
    assert taken_back["learnt"]["spoilt"] == SPOILT_STAYS
    assert status_of(bed.config, bed.slots)["learnt"]["spoilt"] == SPOILT_STAYS


COMMAND = [sys.executable, "-m", "device_runtime.cli"]
STREAM = [*COMMAND, "stream", "--signal", "RESP:0:250", "--interval", "1h", "--context-length", "24"]


def monitor_with_graphs(folder: Path, graphs: Path = LEARNING) -> Path:
    """Set up a monitor of RESP on a bundle with learning graphs, allowed to promote; return its settings."""
    bundle = folder / "bundle"
    shutil.copytree(BUNDLE, bundle)
    for path in graphs.iterdir():
        shutil.copy(path, bundle)
    names = json.loads((bundle / "learning.json").read_text())["names"]
    rules = {**QUICK, "promote_stays": 2}
    settings = folder / "device.toml"
    settings.write_text(
        'device_id = "bed"\nring = "icu"\nsignal = "RESP"\ninterval = "1h"\nbundle = "bundle"\nstate = "state"\n'
        f'trusted_keys = ["{PUBLIC.hex()}"]\n[adapt]\nmode = "active"\nenabled_by = "{WHO}"\n'
        "ms_per_minute = 60000\ncontext_length = 24\n" + "".join(f"{name} = {value}\n" for name, value in rules.items())
    )
    settings.chmod(stat.S_IRUSR | stat.S_IWUSR)
    envelope = envelope_for(bundle, tensors=tuple(names), rules=rules)
    slots_of(read_config(settings)).permit(signed(envelope), envelope, who="test")
    return settings


class Feeding:
    """A feed that pauses behind each stay, until the monitor has learnt from it."""

    def __init__(self, settings: Path) -> None:
        self.settings, self.t_ms = settings, 0
        self.made: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            [*STREAM, "--config", str(settings)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.made.append(json.loads(line))

    def stay(self, values: np.ndarray) -> None:
        """Feed a stay and its end, and wait until what was learnt from it is written."""
        assert self.process.stdin is not None
        before, until = self._written(), time.monotonic() + 60
        for value in values:
            self.t_ms += HOUR
            if np.isfinite(value):
                self.process.stdin.write(f"RESP,{self.t_ms},{value:.3f}\n")
        self.process.stdin.write(f"RESP,{self.t_ms},end\n")
        self.process.stdin.flush()
        while self._written() == before and time.monotonic() < until:
            time.sleep(0.01)

    def _written(self) -> int:
        path = self.settings.parent / "state" / "learner"
        return path.stat().st_mtime_ns if path.exists() else 0

    def own(self) -> list[dict[str, Any]]:
        """Return the forecasts that were made with what was learnt."""
        return [line for line in self.made if line.get("origin") == "device"]

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)
        self._reader.join(60)


@pytest.mark.parametrize("graphs", [LEARNING, FOURIER])
def test_a_feed_that_pauses_ends_up_with_its_own_adapter_until_a_person_takes_it_back(
    tmp_path: Path, graphs: Path
) -> None:
    """By the command alone: learnt, promoted, named in the next forecast, held in a slot, taken back."""
    settings = monitor_with_graphs(tmp_path, graphs)
    feed = Feeding(settings)
    try:
        stays = iter(ward(80, seed=3, drift=0.4, steps=60))
        fed = 0
        while not feed.own() and fed < 80:
            feed.stay(next(stays))
            fed += 1
        assert fed < 80, feed.made[-1]
        slots = slots_of(read_config(settings))
        own = slots.record.own
        assert own is not None
        assert feed.own()[0]["adapter"] == own.adapter[:16]
        assert feed.own()[0]["generation"] == own.sequence
        deltas = decode(slots.load(own)).deltas.values()
        assert {type(one) for one in deltas} == {Dense if graphs == LEARNING else Fourier}
        assert {one.seed for one in deltas if isinstance(one, Fourier)} <= {777}  # no entries in full
        demote = [*COMMAND, "adapt", "demote", "--config", str(settings), "--who", "nurse", "--reason", "tried"]
        subprocess.run(demote, check=True, capture_output=True)
        before = len(feed.own())
        feed.stay(ward(1, seed=9, drift=0.4, steps=40)[0])
        feed.close()
        assert len(feed.own()) == before
        assert feed.made[-1]["adapter"] is None
        assert slots_of(read_config(settings)).record.own is None
        events = [line.body["event"] for line in read_lines(slots_of(read_config(settings)).audit.export())]
        assert events == ["envelope", "promote", "demote"]
    finally:
        feed.process.kill()
        feed.process.wait(10)


def test_the_stream_command_learns_with_the_bundle_s_own_graph(tmp_path: Path) -> None:
    """Stays one behind another, each with its end; the monitor learns from them behind the last line."""
    settings = monitor_with_graphs(tmp_path)
    lines, t_ms = [], 0
    for number, values in enumerate(ward(16, seed=3, drift=0.4, steps=40)):
        for value in values:
            t_ms += HOUR
            lines += [f"RESP,{t_ms},{value:.3f},case-{number}"] if np.isfinite(value) else []
    lines.append(f"RESP,{t_ms},end")
    done = subprocess.run(
        [*STREAM, "--config", str(settings)], input="\n".join(lines), capture_output=True, text=True, check=True
    )
    made = [json.loads(line) for line in done.stdout.splitlines()]
    assert json.loads(done.stderr.splitlines()[-1])["counts"]["ended"] == 16
    assert all(line["adapter"] is None for line in made if "error" not in line)
    said = subprocess.run(
        [*COMMAND, "adapt", "status", "--config", str(settings), "--json"], capture_output=True, text=True, check=True
    )
    value = json.loads(said.stdout)
    assert (value["mode"], value["problem"]) == ("active", "")
    assert value["learnt"]["stays"] == 16
    assert value["learnt"]["steps"] > 20
    assert "case-3" not in "".join(
        path.read_bytes().decode("latin-1") for path in (tmp_path / "state").rglob("*") if path.is_file()
    )
