"""A monitor with the C service that learns, a simulated ward, and what starts, feeds and asks the service."""

from __future__ import annotations

import json
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_runtime.update.audit import read_lines
from device_runtime.update.settings import DeviceConfig, read_config
from device_runtime.update.slots import Slots, slots_of
from tests.simulators.learning_bed import HOUR, PUBLIC, QUICK, WHO, envelope_for, signed
from tests.support.biased import learning_bundle
from tests.support.linear import ward

FloatArray = NDArray[np.float32]
SOURCE = Path(__file__).resolve().parents[2] / "firmware_examples"
HAND_OVER = SOURCE / "update" / "c_service" / "edge-tsfm-hand-over"
RULES = {**QUICK, "promote_stays": 4}
AT_ONCE = 8  # stays that are fed before the service is asked how many it has seen: its queue holds 32


def seen_by(said: dict[str, Any]) -> int:
    """How many stays the service has scored or put aside."""
    return int(said["learnt"]["stays"] + said["learnt"]["spoilt"])


def _own_or_seen(stays: int, said: dict[str, Any]) -> bool:
    return bool(said["own"]) or seen_by(said) >= stays


def stays_of(count: int, seed: int = 3) -> list[FloatArray]:
    return ward(count, seed=seed, drift=0.4, steps=60)


class ServiceBed:
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
        interval: str = "1h",
        rules: Mapping[str, Any] | None = None,
        more: str = "",
    ) -> None:
        """``rules`` are both the settings' and the envelope's, ``more`` further lines of ``[adapt]``."""
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
        self.interval = interval
        rules = {**RULES, **(rules or {})}
        lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in rules.items())
        self.settings.write_text(
            f'device_id = "bed"\nring = "icu"\nsignal = "RESP"\ninterval = "{interval}"\n'
            f'bundle = "bundle"\nstate = "state"\n'
            f'trusted_keys = ["{PUBLIC.hex()}"]\n[adapt]\nmode = "{mode}"\nenabled_by = "{WHO}"\n'
            f"ms_per_minute = 60000\ncontext_length = 24\nprediction_length = 6\n{lines}{more}"
        )
        self.settings.chmod(stat.S_IRUSR | stat.S_IWUSR)
        if envelope:
            names = json.loads((self.bundle / "learning.json").read_text())["names"]
            allowed = envelope_for(self.bundle, tensors=tuple(names), rules=rules, interval=interval)
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
            self.program, "--library", self.library, "--threads", "1", "--signal", "RESP", "--interval", self.interval,
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

    def wait(self, until: Callable[[Any], object]) -> dict[str, Any]:
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
            wanted = base + self.fed
            said = self.wait(partial(_own_or_seen, wanted))
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
