"""A trial where the C service forecasts: the real service under its unit's own arguments, judged from outside.

The test is the supervisor: it runs what the units run, in their order, and sends what systemd would send.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
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
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device_runtime.errors import SelfTestError, SignatureError
from device_runtime.faults import FAULTS
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.format import envelope
from device_runtime.format.blob import decode, encode
from device_runtime.quality.scores import loss, score
from device_runtime.update.audit import read_lines
from device_runtime.update.lifecycle import State
from device_runtime.update.settings import DeviceConfig, read_config
from device_runtime.update.slots import Slots, slots_of
from tests.simulators.publisher import scaled_blob

from .conftest import SOURCE
from .test_quality_service import SAMPLE, blob_of

HAND_OVER = SOURCE / "update" / "c_service" / "edge-tsfm-hand-over"
UNIT = (SOURCE / "service" / "edge-tsfm.service").read_text()
DEVICE = [sys.executable, "-W", "ignore", "-m", "device_runtime.cli"]
PRIVATE = Ed25519PrivateKey.from_private_bytes(b"edge-tsfm sample key, no secret.")
LIMIT = 5.0
AT_ONCE = 40  # steps: the service skips steps when more than 64 wait for its worker
SETTINGS = f"""
[health]
seconds = 0
min_forecasts = 5
latency_budget = 60
max_wql_vs_base_percent = {LIMIT}
min_scored = 100
[quality]
shadow_every = 1
"""


def value_at(step: int) -> float:
    return float(np.float32(round(75.0 + 9 * np.cos(step / 4) + step % 3, 1)))


def lost(blob: bytes | None) -> float:
    """The loss on the feed of an adapter, or of the base."""
    forecaster = Forecaster.open(SAMPLE / "bundle", blob)
    steps = np.arange(60, 120)
    contexts = np.array([[value_at(at - back) for back in range(47, -1, -1)] for at in steps], dtype=np.float32)
    quantiles = forecaster.forecast(contexts).quantiles
    levels = np.array(forecaster.bundle.manifest.quantile_levels)
    ahead = np.arange(1, quantiles.shape[1] + 1)
    targets = np.array([[value_at(int(at + h)) for h in ahead] for at in steps], dtype=np.float32)
    return sum(loss(score(one, target, levels, 0.0)) for one, target in zip(quantiles, targets, strict=True))


@pytest.fixture(scope="module")
def adapters() -> dict[str, bytes]:
    """Adapters of the sample's base, whole and proven: one that is no worse on the feed than allowed, one that is."""
    ward, base = blob_of(SAMPLE / "ward.etsa"), lost(None)
    made = {factor: scaled_blob(ward, factor, SAMPLE / "bundle") for factor in (-60.0, -20.0, -0.1, 0.1, 20.0, 60.0)}
    excess = {factor: 100 * (lost(blob) / base - 1) for factor, blob in made.items()}
    best, worst = min(excess, key=excess.__getitem__), max(excess, key=excess.__getitem__)
    assert excess[best] < LIMIT / 2, excess
    assert excess[worst] > 3 * LIMIT, excess
    newer = decode(made[worst])
    return {"good": made[best], "worse": encode(replace(newer, version=newer.version + 1))}


class Monitor:
    """A bed: the update client's state, the C service, and what starts, reloads and looks after it."""

    def __init__(self, folder: Path, program: Path, library: Path, settings: str = SETTINGS) -> None:
        self.folder, self.program, self.library = folder, program, library
        self.config_path, self.file, self.health = (
            folder / "device.toml",
            folder / "map.etsa",
            folder / "run" / "health",
        )
        self.health.parent.mkdir()
        (folder / "state").mkdir()
        key = PRIVATE.public_key().public_bytes_raw().hex()
        self.config_path.write_text(
            f'device_id = "bed"\nring = "icu"\nsignal = "MAP"\nunit = "mm[Hg]"\ninterval = "1h"\n'
            f'bundle = "{SAMPLE / "bundle"}"\nstate = "state"\ntrusted_keys = ["{key}"]\n{settings}'
        )
        self.config_path.chmod(0o600)
        self.process: subprocess.Popen[str] | None = None
        self.step = 0
        self.fresh = True  # the service has had no value yet: its first one completes no step

    @property
    def config(self) -> DeviceConfig:
        return read_config(self.config_path)

    @property
    def slots(self) -> Slots:
        return slots_of(self.config)

    def try_out(self, blob: bytes) -> None:
        """Install an adapter on trial, and hand it over as the update's unit does."""
        key = PRIVATE.public_key().public_bytes_raw()
        signed = self.folder / "offered.etsa"
        signed.write_bytes(blob + envelope.write_signature(key, PRIVATE.sign(envelope.message(blob))))
        subprocess.run([*DEVICE, "install", signed, "--config", self.config_path, "--activate"], check=True)
        self.hand_over()

    def hand_over(self, *more: object, status: int = 0) -> str:
        """Run the hand-over; where it replaced the file, the path unit lets the service read it."""
        before = self.file.stat().st_ino if self.file.exists() else None
        command = [sys.executable, "-W", "ignore", HAND_OVER, self.config_path, self.file, *more]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        if self.process is not None and self.file.stat().st_ino != before:
            self.process.send_signal(signal.SIGHUP)
            self.log("channel 0 ")
        return done.stdout

    def look(self) -> str:
        """Judge, as the trial's timer does."""
        return self.hand_over("--judge", self.health)

    def command(self) -> list[str]:
        """The unit's ExecStart, with the settings that the hand-over prints and this machine's places."""
        printed = subprocess.run(
            [sys.executable, "-W", "ignore", HAND_OVER, self.config_path], capture_output=True, text=True, check=True
        ).stdout
        values = dict(part.split("=", 1) for part in shlex.split(printed))
        (line,) = re.findall(r"^ExecStart=(.*)$", UNIT, flags=re.MULTILINE)
        words: list[str] = []
        for word in line.split():
            if word.startswith("$") and not word.startswith("${"):
                words += values[word[1:]].split()
            else:
                words.append(re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], word))
        places = {
            "/usr/bin/etsa-service": self.program, "/usr/share/edge-tsfm/bundle": SAMPLE / "bundle",
            "/var/lib/edge-tsfm/map.etsa": self.file, "/run/edge-tsfm/health": self.health,
            "/var/lib/edge-tsfm/state/quality": self.folder / "state" / "quality",
        }  # fmt: skip
        assert set(places) <= set(words), words
        return [str(places.get(word, word)) for word in words]

    def start(self) -> None:
        """Start the service, behind what stands before each of its starts."""
        assert self.process is None
        self.fresh = True
        self.hand_over("--starting")
        self.process = subprocess.Popen(
            [*self.command(), "--library", str(self.library)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.log("channel 0 ")

    def log(self, what: str) -> str:
        assert self.process is not None
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if what in line:
                return line
        raise AssertionError(f"the log ended without {what!r}")

    def end(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.communicate(timeout=60)
        self.process = None

    def feed(self, steps: int) -> list[dict[str, Any]]:
        """Push so many steps; return the forecasts."""
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        made: list[dict[str, Any]] = []
        begun, self.fresh = self.fresh, False
        while steps > 0:
            part = min(AT_ONCE, steps)
            for step in range(self.step, self.step + part):
                self.process.stdin.write(f"0 {step * 3_600_000} {value_at(step):.1f} 0\n")
            self.process.stdin.flush()
            made += [json.loads(self.process.stdout.readline()) for _ in range(part - begun)]
            self.step, steps, begun = self.step + part, steps - part, False
        return made

    def until_judged(self, most: int = 1_200) -> str:
        """Feed and look, until the trial has ended."""
        said = ""
        for _ in range(0, most, 3 * AT_ONCE):
            self.feed(3 * AT_ONCE)
            said = self.settled()
            if self.slots.record.state is not State.TRIAL:
                return said
        raise AssertionError(said)

    def settled(self) -> str:
        """Look, once the service has written what it counted: it does so within a second or two."""
        before = self.health.read_bytes()
        self.feed(1)
        until = time.monotonic() + 60
        while self.health.read_bytes() == before:
            assert time.monotonic() < until, "the service wrote nothing"
            time.sleep(0.1)
        return self.look()

    @property
    def events(self) -> list[str]:
        return [line.body["event"] for line in read_lines(self.slots.audit.export())]


@pytest.fixture
def monitor(tmp_path: Path, built: Path, library: Path) -> Iterator[Monitor]:
    bed = Monitor(tmp_path, built / "service" / "etsa-service", library)
    yield bed
    if bed.process is not None:
        bed.process.kill()
        bed.process.communicate()


def test_a_worse_adapter_is_taken_back_and_the_one_before_runs_again(
    monitor: Monitor, adapters: dict[str, bytes]
) -> None:
    monitor.start()
    assert {one["adapter_version"] for one in monitor.feed(20)} == {0}
    monitor.try_out(adapters["good"])
    assert "confirmed: health window passed" in monitor.until_judged()
    record = monitor.slots.record
    assert record.state is State.CONFIRMED
    assert "MAP WQL" in record.reason
    assert "scored steps" in record.reason
    assert not (monitor.folder / "map.etsa.trial").exists()
    good, file = record.current, monitor.file.read_bytes()

    monitor.try_out(adapters["worse"])
    assert monitor.slots.record.state is State.TRIAL
    assert (monitor.folder / "map.etsa.trial").exists()
    assert monitor.file.read_bytes() != file
    assert "taken back: health window: MAP WQL" in monitor.until_judged()
    record = monitor.slots.record
    assert (record.state, record.current) == (State.CONFIRMED, good)
    assert monitor.file.read_bytes() == file
    last = list(read_lines(monitor.slots.audit.export()))[-1].body
    assert (last["event"], last["reason"]) == ("roll back", record.reason)
    assert f"at most +{LIMIT:g} %" in last["reason"]
    assert monitor.feed(10)[-1]["code"] == 0
    runs = json.loads(monitor.health.read_bytes())["channels"][0]["adapter"]
    assert good is not None
    assert runs == good.adapter  # the service itself says so


def test_a_service_that_dies_on_trial_uses_up_its_starts(monitor: Monitor, adapters: dict[str, bytes]) -> None:
    monitor.start()
    monitor.try_out(adapters["good"])
    tries = [monitor.slots.record.tries]
    for _ in range(2):
        monitor.feed(30)
        monitor.end(signal.SIGKILL)
        monitor.start()
        tries.append(monitor.slots.record.tries)
    assert tries == [2, 1, 0]
    monitor.end(signal.SIGKILL)
    monitor.start()
    record = monitor.slots.record
    assert (record.state, record.reason) == (State.BASE, "the trial has no starts left")
    assert monitor.file.read_bytes() == b""
    assert {one["adapter_version"] for one in monitor.feed(20)} == {0}
    assert monitor.events[-4:] == ["start", "start", "start", "roll back"]


def test_what_the_service_scored_before_a_restart_counts_after_it(monitor: Monitor, adapters: dict[str, bytes]) -> None:
    monitor.start()
    monitor.try_out(adapters["worse"])
    monitor.feed(80)
    monitor.end(signal.SIGTERM)  # a restart in order: the figures are written
    monitor.start()
    assert monitor.slots.record.tries == 1
    assert "taken back: health window: MAP WQL" in monitor.until_judged()
    steps = re.search(r"([\d,]+) scored steps", monitor.slots.record.reason)
    assert steps is not None
    assert int(steps[1].replace(",", "")) > 100


def test_a_slow_service_fails_the_trial(tmp_path: Path, built: Path, library: Path, adapters: dict[str, bytes]) -> None:
    settings = SETTINGS.replace("latency_budget = 60", "latency_budget = 0.000001")
    monitor = Monitor(tmp_path, built / "service" / "etsa-service", library, settings)
    try:
        monitor.start()
        monitor.try_out(adapters["good"])
        monitor.feed(20)
        assert re.search(r"taken back: health window: \d\.\d{3} s for a forecast", monitor.settled())
        assert (monitor.slots.record.state, monitor.file.read_bytes()) == (State.BASE, b"")
    finally:
        if monitor.process is not None:
            monitor.end(signal.SIGTERM)


@pytest.mark.parametrize("code", [SelfTestError.code, SignatureError.code])
def test_a_refusal_costs_the_adapter_only_where_it_is_its_fault(
    monitor: Monitor, adapters: dict[str, bytes], code: int
) -> None:
    monitor.start()
    monitor.try_out(adapters["good"])
    monitor.feed(10)
    monitor.settled()
    value = json.loads(monitor.health.read_bytes())
    value["channels"][0] |= {"refused": code, "why": "as it says"}
    told = monitor.folder / "told"
    told.write_text(json.dumps(value))
    said = monitor.hand_over("--judge", told)
    assert f"[{code}] as it says" in said
    record = monitor.slots.record
    if code == SelfTestError.code:
        assert (record.state, record.failed_sequence) == (State.BASE, 3)  # by hand: a file's sequence is its version
        assert monitor.events[-1] == "roll back"
    else:
        assert (record.state, record.tries) == (State.TRIAL, 3)
        assert monitor.file.read_bytes() == b""
        assert "not handed over yet" in monitor.look()
        monitor.hand_over()
        assert monitor.slots.record.tries == 2
        assert monitor.file.read_bytes() != b""


def test_what_is_refused_is_told_before_the_next_forecast(monitor: Monitor) -> None:
    """A step may be an hour, and until then whoever judges would wait for the service to read the file."""
    monitor.start()
    monitor.feed(5)
    monitor.settled()
    assert monitor.process is not None
    monitor.file.write_bytes(b"no adapter")
    monitor.process.send_signal(signal.SIGHUP)
    monitor.log("channel 0 keeps what runs")
    until, said = time.monotonic() + 60, {"refused": 0}
    while not said["refused"]:
        assert time.monotonic() < until, "nothing was told without a forecast"
        time.sleep(0.1)
        said = json.loads(monitor.health.read_bytes())["channels"][0]
    assert said["offered"] == hashlib.sha256(b"no adapter").hexdigest()
    assert said["adapter"] is None


def test_the_end_of_a_line_that_is_too_long_is_no_value(monitor: Monitor) -> None:
    monitor.hand_over("--starting")
    lines = "x" * 4_095 + "0 0 75.0 0\n" + "0 3600000 75.0 0\n0 7200000 75.0 0\n"
    command = [*monitor.command(), "--library", str(monitor.library)]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1  # of the step that the last value completed
    assert done.stderr.count("a line that is not CHANNEL") == 1


def test_every_code_is_counted_by_itself() -> None:
    """What shares a count would be blamed on another."""
    (room,) = re.findall(r"#define SV_MAX_ERRORS (\d+)u", (SOURCE / "service" / "service.h").read_text())
    assert int(room) >= len(FAULTS)


def test_a_look_without_a_trial_mends_the_file(monitor: Monitor, adapters: dict[str, bytes]) -> None:
    """As after a cut between the record and the file, or a rollback by hand."""
    monitor.try_out(adapters["good"])
    assert "has not read it yet" in monitor.look()
    command = [*DEVICE, "rollback", "--config", str(monitor.config_path), "--reason", "by hand"]
    subprocess.run(command, check=True, capture_output=True)
    assert monitor.file.read_bytes() != b""
    assert "nothing is on trial; the base alone" in monitor.look()
    assert monitor.file.read_bytes() == b""


def test_a_health_file_that_is_none_is_said(monitor: Monitor, adapters: dict[str, bytes]) -> None:
    monitor.try_out(adapters["good"])
    monitor.health.write_text('{"channels":[]}')
    before = monitor.slots.record
    monitor.hand_over("--judge", monitor.health, status=1)
    assert monitor.slots.record == before
