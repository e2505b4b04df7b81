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
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from device_runtime.format.blob import decode
from device_runtime.monitor import installer_of, workshop_of
from device_runtime.update import service_adapt
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


def stays_of(count: int, seed: int = 3) -> list[FloatArray]:
    return ward(count, seed=seed, drift=0.4, steps=60)


class Bed:
    """A monitor of RESP every hour with the C service, and what starts and asks it."""

    def __init__(
        self, folder: Path, program: Path, library: Path, *, mode: str = "active", envelope: bool = True
    ) -> None:
        self.folder, self.program, self.library = folder, program, library
        folder.mkdir(exist_ok=True)
        self.bundle, self.adapt, self.file = folder / "bundle", folder / "adapt", folder / "own.etsa"
        self.settings, self.health = folder / "device.toml", folder / "health"
        self.adapt.mkdir(exist_ok=True)
        if not self.bundle.exists():
            learning_bundle(self.bundle, "state")
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
        before = (self.said() or {"learnt": {"stays": 0, "spoilt": 0}})["learnt"]
        base = before["stays"] + before["spoilt"]
        while self.fed < most:
            for _ in range(AT_ONCE):
                self.stay(next(stays))
            wanted = base + self.fed
            said = self.wait(lambda one: one["own"] or one["learnt"]["stays"] + one["learnt"]["spoilt"] >= wanted)
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
