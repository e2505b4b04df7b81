"""`etsa-service --adapt`: the real service learns a simulated ward, beside the Python host on the same stays."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import stat
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
from device_runtime.update.settings import DeviceConfig, read_config
from device_runtime.update.slots import Slots, slots_of
from tests.simulators.learning_bed import HOUR, PUBLIC, QUICK, WHO, envelope_for, signed
from tests.support.biased import learning_bundle
from tests.support.linear import ward

from .conftest import SOURCE

FloatArray = NDArray[np.float32]
HAND_OVER = SOURCE / "update" / "c_service" / "edge-tsfm-hand-over"
DEVICE = [sys.executable, "-W", "ignore", "-m", "device_runtime.cli"]
RULES = {**QUICK, "promote_stays": 4}
AT_ONCE = 8  # stays that are fed before the service is asked how many it has seen: its queue holds 32


def seen_by(said: dict[str, Any]) -> int:
    """How many stays the service has scored or put aside."""
    return int(said["learnt"]["stays"] + said["learnt"]["spoilt"])


def stays_of(count: int, seed: int = 3) -> list[FloatArray]:
    return ward(count, seed=seed, drift=0.4, steps=60)


class Bed:
    """A monitor of RESP every hour with the C service, and what starts and asks it."""

    def __init__(
        self,
        folder: Path,
        program: Path,
        library: Path,
        *,
        mode: str = "active",
        envelope: bool = True,
        bundle: Path | None = None,
    ) -> None:
        self.folder, self.program, self.library = folder, program, library
        folder.mkdir(exist_ok=True)
        self.bundle, self.adapt, self.file = folder / "bundle", folder / "adapt", folder / "own.etsa"
        self.settings, self.health = folder / "device.toml", folder / "health"
        self.adapt.mkdir(exist_ok=True)
        if not self.bundle.exists():
            if bundle is None:
                learning_bundle(self.bundle, "state")
            else:
                shutil.copytree(bundle, self.bundle)
            (folder / "state").mkdir()
        rules = "".join(f"{name} = {value}\n" for name, value in RULES.items())
        self.settings.write_text(
            f'device_id = "bed"\nring = "icu"\nsignal = "RESP"\ninterval = "1h"\nbundle = "bundle"\nstate = "state"\n'
            f'trusted_keys = ["{PUBLIC.hex()}"]\n[adapt]\nmode = "{mode}"\nenabled_by = "{WHO}"\n'
            f"ms_per_minute = 60000\ncontext_length = 24\nprediction_length = 6\n{rules}"
        )
        self.settings.chmod(stat.S_IRUSR | stat.S_IWUSR)
        if envelope:
            names = json.loads((self.bundle / "learning.json").read_text())["names"]
            allowed = envelope_for(self.bundle, tensors=tuple(names), rules=RULES)
            self.slots.permit(signed(allowed), allowed, who="test")
        self.process: subprocess.Popen[str] | None = None
        self.t_ms, self.fed = 0, 0
        self.made: list[dict[str, Any]] = []

    @property
    def config(self) -> DeviceConfig:
        return read_config(self.settings)

    @property
    def slots(self) -> Slots:
        return slots_of(self.config)

    @property
    def events(self) -> list[str]:
        return [line.body["event"] for line in read_lines(self.slots.audit.export())]

    def hand_over(self, *more: object) -> str:
        command = [sys.executable, "-W", "ignore", HAND_OVER, self.settings, self.file, "--adapt", self.adapt, *more]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self) -> None:
        """Start the service, behind what stands before each of its starts."""
        self.hand_over("--starting")
        self.fed = 0
        command = [
            self.program, "--library", self.library, "--threads", "1", "--signal", "RESP", "--interval", "1h",
            "--key", PUBLIC.hex(), "--health-file", self.health, "--adapt", self.adapt, self.bundle, self.file,
        ]  # fmt: skip
        self.process = subprocess.Popen(
            [*map(str, command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(self.folder / "log").open("a"),
            text=True,
        )
        self.wait(lambda said: said is not None)

    def said(self) -> dict[str, Any] | None:
        """What the health file says of learning; None before there is one."""
        if not self.health.exists():
            return None
        value: dict[str, Any] = json.loads(self.health.read_bytes())["adaptation"]
        return value

    def wait(self, until: Any) -> dict[str, Any]:
        end = time.monotonic() + 120
        while not until(said := self.said()):
            assert time.monotonic() < end, said
            assert self.process is not None
            assert self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.05)
        assert said is not None
        return said

    def stay(self, values: FloatArray) -> None:
        """Feed a stay and its end; read its forecasts."""
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        lines, first = "", True
        count = 0
        for value in values:
            self.t_ms += HOUR
            if np.isfinite(value):
                lines += f"0 {self.t_ms} {value:.3f} 0\n"
                count += not first
                first = False
        seen = np.flatnonzero(np.isfinite(values))
        self.process.stdin.write(f"{lines}0 end\n")
        self.process.stdin.flush()
        self.made += [json.loads(self.process.stdout.readline()) for _ in range(int(seen[-1] - seen[0]))]
        self.fed += 1

    def learn(self, stays: Iterator[FloatArray], most: int = 80) -> bool:
        """Feed stays until what was learnt forecasts; False if it does not."""
        said = self.said()
        base = seen_by(said) if said else 0
        while self.fed < most:
            for _ in range(AT_ONCE):
                self.stay(next(stays))
            said = self.wait(lambda one, most=base + self.fed: one["own"] or seen_by(one) >= most)
            if said["own"]:
                return True
        return False

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.communicate(timeout=60)
        self.process = None
        self.health.unlink(missing_ok=True)

    def reload(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def log(self) -> str:
        return (self.folder / "log").read_text()


@pytest.fixture
def bed(tmp_path: Path, built: Path, library: Path) -> Iterator[Bed]:
    made = Bed(tmp_path / "bed", built / "service" / "etsa-service", library)
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


def test_a_ward_is_learnt_promoted_named_and_recorded_as_in_python(bed: Bed, tmp_path: Path) -> None:
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
    bed = Bed(tmp_path / "bed", built / "service" / "etsa-service", library, envelope=False)
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


def test_a_kill_between_decision_and_record_loses_neither(bed: Bed) -> None:
    """The decision is on the disk before what was learnt forecasts: with or without a hand-over it runs again."""
    bed.start()
    assert bed.learn(iter(stays_of(80)))
    bed.end(signal.SIGKILL)
    (decision,) = bed.adapt.glob("decision-*")
    whole = decision.read_bytes()
    assert bed.slots.record.own is None
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


def decision_of(bed: Bed, blob: bytes, /, **changes: Any) -> bytes:
    """A decision as the service writes it, of any blob."""
    said = bed.said()
    assert said is not None
    head = {
        "adapter": hashlib.sha256(blob).hexdigest(), "blob": len(blob), "event": "promote", "learnt": said["learnt"],
        "over": "", "reason": "better", **changes,
    }  # fmt: skip
    body = json.dumps(head).encode() + b"\n" + blob
    return hashlib.sha256(body).hexdigest().encode() + b" " + body


def test_what_is_no_decision_of_ours_changes_nothing(bed: Bed) -> None:
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


def test_an_envelope_that_is_none_lets_it_learn_in_shadow_alone(bed: Bed) -> None:
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


def test_a_sensor_that_measures_nothing_takes_it_back(bed: Bed) -> None:
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
