"""The peak memory of a process that only learns: ``python -m edge_tsfm.runs.learning_peak BUNDLE ADAPTER L H``.

It imports what a monitor imports, learns from one made-up stay with a monitor's rules, and prints its peak in MiB.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

STATUS = Path("/proc/self/status")
STAY = 400  # steps


def learning_peak(bundle: Path, adapter: Path | None, context_length: int, prediction_length: int) -> float | None:
    """Return the peak of such a process in MiB; None where the system does not tell it.

    Raises `subprocess.CalledProcessError` if the process fails.
    """
    if not STATUS.exists():
        return None
    command = [sys.executable, "-m", __name__, str(bundle), str(adapter or ""), str(context_length)]
    done = subprocess.run([*command, str(prediction_length)], check=True, capture_output=True, text=True)
    return float(done.stdout)


def _main(bundle: str, adapter: str, context_length: str, prediction_length: str) -> None:
    """Learn from one stay, and print the peak."""
    from device_runtime.adapt.learner import Learner, Stay
    from device_runtime.adapt.rules import AdaptRules
    from device_runtime.forecast.learning import LearningSession
    from device_runtime.forecast.session import SessionSettings

    session = LearningSession.open(bundle, adapter or None, settings=SessionSettings(threads=1))
    learner = Learner(
        AdaptRules(first_windows=1),
        session,
        session.bundle.manifest.quantile_levels,
        interval_ms=1_000,
        context_length=int(context_length),
        steps=int(prediction_length),
    )
    values = 80 + np.cumsum(np.random.default_rng(0).normal(size=STAY + learner.context_length))
    for day in range(2):  # the second stay is also forecast with what was learnt from the first
        learner.finish(Stay(values=values.astype(np.float32), end_ms=(day + 1) * 86_400_000))
        learner.work()
    peak = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    sys.stdout.write(f"{int(peak.split()[1]) / 1024}\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
