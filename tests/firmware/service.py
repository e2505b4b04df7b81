"""etsa-service as a test runs it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from device_runtime.forecast.bundle import Bundle

SERIES = 75 + 9 * np.cos(np.arange(50, dtype=np.float32) / 4)
SERIES[[3, 30, 49]] = np.nan


class Service:
    """A running etsa-service."""

    def __init__(
        self,
        binary: Path,
        library: Path,
        bundle: Bundle,
        *arguments: object,
        interval: str = "1s",
        **environment: str,
    ) -> None:
        command = [binary, "--library", library, "--interval", interval, bundle.path, *arguments]
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **environment},
        )  # fmt: skip
        self.step = 0

    def push(self, *, channels: int = 1, quality: int = 0) -> None:
        """Push one value of the next second on each channel."""
        for channel in range(channels):
            value = SERIES[self.step % 40] if self.step % 40 not in (3, 30) else 80.0
            self.write(f"{channel} {self.step * 1000 + 500} {value} {quality}\n")
        self.step += 1

    def write(self, line: str) -> None:
        """Write one line."""
        assert self.process.stdin is not None
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def forecasts(self, count: int) -> list[dict[str, Any]]:
        """Read the next forecasts."""
        assert self.process.stdout is not None
        return [json.loads(self.process.stdout.readline()) for _ in range(count)]

    def log(self, what: str) -> None:
        """Read the log up to a line that has ``what``."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if what in line:
                return
        raise AssertionError(f"the log ended without {what!r}")

    def finish(self) -> tuple[list[dict[str, Any]], str]:
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0
        return [json.loads(line) for line in out.splitlines()], err
