"""`etsa-service --adapt`: the real service learns a simulated ward, beside the Python host on the same stays."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from device_runtime.forecast.bundle import Bundle
from device_runtime.format.adapter import Adapter
from device_runtime.format.blob import decode, encode
from device_runtime.format.delta import Dense, Numbers
from device_runtime.monitor import installer_of, workshop_of
from device_runtime.update import service_adapt
from device_runtime.update.adapt_use import binding_of
from device_runtime.update.audit import read_lines
from device_runtime.update.host import Host
from device_runtime.update.settings import read_config
from device_runtime.update.slots import slots_of
from tests.simulators.learning_bed import HOUR
from tests.simulators.service_bed import ServiceBed, stays_of

FloatArray = NDArray[np.float32]
DEVICE = [sys.executable, "-W", "ignore", "-m", "device_runtime.cli"]


@pytest.fixture
def bed(tmp_path: Path, built: Path, library: Path) -> Iterator[ServiceBed]:
    made = ServiceBed(tmp_path / "bed", built / "service" / "etsa-service", library)
    yield made
    if made.process is not None:
        made.process.kill()
        made.process.communicate()


def in_python(folder: Path, stays: Iterator[FloatArray], most: int = 80) -> tuple[bytes, dict[str, Any]]:
    """The same stays through the Python host; return the blob that it promotes, and what its log says."""
    config = read_config(folder / "device.toml")
    seconds = 0.0
    host = Host(config, installer_of(config).open, clock=lambda: seconds, workshop=workshop_of(config))
    t_ms = 0
    for _ in range(most):
        for value in next(stays):
            t_ms += HOUR
            if np.isfinite(value):
                host.observe("RESP", t_ms, float(f"{value:.3f}"))
        host.end_stay("RESP")
        seconds += 3_600.0
        while host.idle():
            seconds += 60.0
        if host.runs_own:
            break
    slots = slots_of(config)
    assert slots.record.own is not None
    said = [line.body for line in read_lines(slots.audit.export()) if line.body["event"] == "promote"]
    return slots.load(slots.record.own), said[-1]


def test_a_ward_is_learnt_promoted_named_and_recorded_as_in_python(bed: ServiceBed, tmp_path: Path) -> None:
    python = tmp_path / "python"
    shutil.copytree(bed.folder, python)
    bed.start()
    assert bed.learn(iter(stays_of(80)))
    bed.stay(stays_of(1, seed=9)[0])
    own = [one["own"] for one in bed.made if "own" in one]
    said = bed.hand_over()
    assert "promoted: better over " in said
    record = bed.slots.record
    assert record.own is not None
    assert set(own) == {record.own.adapter}
    blob = bed.slots.load(record.own)
    assert hashlib.sha256(blob).hexdigest() == record.own.adapter
    assert not list(bed.adapt.glob("decision-*"))
    assert bed.events[-1] == "promote"
    logged = list(read_lines(bed.slots.audit.export()))[-1].body

    wanted, entry = in_python(python, iter(stays_of(80)))
    assert logged["learnt"].keys() >= entry["learnt"].keys() - {"left_out"}
    for name in ("stays", "stays_judged", "steps", "windows", "values", "spoilt", "refused", "demotions", "state"):
        assert logged["learnt"][name] == entry["learnt"][name], name
    assert logged["learnt"]["evidence"] == pytest.approx(entry["learnt"]["evidence"], rel=1e-2)
    ours, theirs = decode(blob), decode(wanted)
    assert ours.binding == theirs.binding
    assert ours.deltas.keys() == theirs.deltas.keys()
    moved = 0.0
    for index, delta in theirs.deltas.items():
        got, want = (one.dense(np.zeros(one.shape)) for one in (ours.deltas[index], delta))
        quantum = delta.numbers.scale  # type: ignore[attr-defined]
        assert float(np.abs(got - want).max()) <= 1e-6 + quantum
        moved = max(moved, float(np.abs(want).max()))
    assert moved > 0.01

    # the same blob after a restart, until a person takes it back
    bed.end()
    bed.start()
    assert bed.wait(lambda one: one["own"])["learnt"]["state"] == "promoted"
    bed.made.clear()
    bed.stay(stays_of(1, seed=10)[0])
    assert {one.get("own") for one in bed.made} == {record.own.adapter}
    demote = [*DEVICE, "adapt", "demote", "--config", bed.settings, "--who", "nurse", "--reason", "tried"]
    subprocess.run([*map(str, demote)], check=True, capture_output=True)
    bed.hand_over()
    bed.reload()
    assert bed.wait(lambda one: not one["own"])["learnt"]["state"] == "gathering"
    bed.made.clear()
    bed.stay(stays_of(1, seed=11)[0])
    assert {one.get("own") for one in bed.made} == {None}


def test_in_shadow_it_learns_and_never_forecasts_with_it(tmp_path: Path, built: Path, library: Path) -> None:
    """Without an envelope shadow is the most, whatever the settings say."""
    bed = ServiceBed(tmp_path / "bed", built / "service" / "etsa-service", library, envelope=False)
    bed.start()
    try:
        assert not bed.learn(iter(stays_of(40)), most=32)
        said = bed.wait(lambda one: True)
        assert (said["mode"], said["learnt"]["state"], said["learnt"]["verdict"]) == ("shadow", "shadow", "promote")
        assert said["learnt"]["steps"] > 20
        assert not any("own" in one for one in bed.made)
        assert bed.events == []
    finally:
        bed.end(signal.SIGKILL)
    bed.start()  # killed: the last write counts, and there was none yet
    try:
        assert bed.wait(lambda one: True)["learnt"]["stays"] == 0
        bed.learn(iter(stays_of(10)), most=8)
        bed.end()
        bed.start()
        assert bed.wait(lambda one: True)["learnt"]["stays"] == 8
    finally:
        bed.end()


def test_a_kill_between_decision_and_record_loses_neither(bed: ServiceBed) -> None:
    """The decision is on the disk before what was learnt forecasts: with or without a hand-over it runs again."""
    bed.start()
    assert bed.learn(iter(stays_of(80)))
    bed.end(signal.SIGKILL)
    (decision,) = bed.adapt.glob("decision-*")
    whole = decision.read_bytes()
    assert "promote" not in bed.events
    started = bed.hand_over  # as without systemd: nothing is handed over before this start
    bed.hand_over = lambda *more: ""  # type: ignore[method-assign]
    bed.start()
    bed.hand_over = started  # type: ignore[method-assign]
    assert bed.wait(lambda one: one["own"])["learnt"]["state"] == "promoted"
    assert "promoted: better over" in bed.hand_over()
    own = bed.slots.record.own
    assert own is not None
    decision.write_bytes(whole)  # a cut between the record and the file's end: taken once
    bed.hand_over()
    assert not decision.exists()
    assert (bed.slots.record.own, bed.events) == (own, ["envelope", "promote"])
    bed.reload()
    bed.stay(stays_of(1, seed=9)[0])
    assert {one.get("own") for one in bed.made[-40:]} == {own.adapter}


def decision_of(bed: ServiceBed, blob: bytes, /, **changes: Any) -> bytes:
    """A decision as the service writes it, of any blob."""
    said = bed.said()
    assert said is not None
    head = {
        "adapter": hashlib.sha256(blob).hexdigest(), "blob": len(blob), "event": "promote", "learnt": said["learnt"],
        "over": "", "reason": "better", **changes,
    }  # fmt: skip
    body = json.dumps(head).encode() + b"\n" + blob
    return hashlib.sha256(body).hexdigest().encode() + b" " + body


def test_what_is_no_decision_of_ours_changes_nothing(bed: ServiceBed) -> None:
    """Whoever can write to the folder can do no more than the envelope allows: neither here nor in the service."""
    bed.start()
    names = json.loads((bed.bundle / "learning.json").read_text())["names"]
    manifest = Bundle.open(bed.bundle).manifest
    places = [index for index, entry in enumerate(manifest.tensors) if entry.name in names]
    learnt = {
        index: Dense(Numbers.of(np.full((manifest.tensors[index].size, 1), 0.01))) for index in (*places, places[0] - 1)
    }
    bound = binding_of(bed.config, manifest, None)
    said = {"origin": "device", "generation": 1, "parent": None, "envelope": 1}
    adapter = Adapter(base_digest=manifest.digest, version=0, deltas=learnt, binding=bound, metadata=said)
    other = replace(adapter, deltas={index: learnt[index] for index in places}, version=1)
    far = replace(
        other, version=0, deltas={places[0]: Dense(Numbers.of(np.full((manifest.tensors[places[0]].size, 1), 2.0)))}
    )
    bad = [
        b"", b"half", decision_of(bed, b"no blob"), decision_of(bed, encode(adapter), adapter="0" * 64),
        decision_of(bed, encode(adapter), learnt={}), decision_of(bed, encode(adapter), blob=1),
        decision_of(bed, encode(adapter), event="more"),
        *(decision_of(bed, encode(one)) for one in (adapter, other, far)),
    ]  # fmt: skip
    for data in bad:
        (bed.adapt / "decision-1").write_bytes(data)
        bed.reload()
        time.sleep(0.2)
        said_now = bed.hand_over()
        assert "decision-1 is not taken: " in said_now, data[:200]
        assert not (bed.adapt / "decision-1").exists()
    (bed.adapt / "own").write_bytes(service_adapt._sealed(encode(far)))
    bed.reload()
    bed.stay(stays_of(1)[0])
    assert not any("own" in one for one in bed.made)
    assert bed.slots.record.own is None
    assert bed.events == ["envelope"]
    assert "further than the envelope allows" in bed.log()


def test_an_envelope_that_is_none_lets_it_learn_in_shadow_alone(bed: ServiceBed) -> None:
    bed.start()
    assert bed.learn(iter(stays_of(80)))
    bed.hand_over()
    assert bed.slots.record.own is not None
    path = bed.folder / "state" / "envelope"
    path.write_bytes(path.read_bytes()[:-30] + b"x" * 30)
    said = bed.hand_over()
    assert "learning: shadow" in said
    bed.reload()
    assert bed.wait(lambda one: not one["own"])["mode"] == "shadow"


def test_a_sensor_that_measures_nothing_takes_it_back(bed: ServiceBed) -> None:
    """Stays that are no readings are neither learnt from nor judged; the third in a row demotes what runs."""
    bed.start()
    assert bed.learn(iter(stays_of(80)))
    bed.hand_over()
    assert bed.process is not None
    assert bed.process.stdin is not None
    for line in ("0 x 1 0", "0 1 nan 0", "0 2 inf 0", "0 3 80 1", "0 end of", "7 end"):
        bed.process.stdin.write(f"{line}\n")
    bed.process.stdin.flush()
    steps = np.arange(60)
    rubbish = np.where(steps % 17 < 5, 100.0, 20.0) + steps % 3  # away for most of the time, and always back
    for _ in range(3):
        bed.stay(rubbish.astype(np.float32))
    said = bed.wait(lambda one: not one["own"])
    assert said["learnt"]["spoilt"] >= 3
    bed.hand_over()
    assert bed.events[-1] == "demote"
    assert bed.slots.record.own is None
    last = list(read_lines(bed.slots.audit.export()))[-1].body
    assert "no readings of the signal" in last["reason"]
