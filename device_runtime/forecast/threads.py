"""How many threads a base forecasts fastest with on this machine, measured where the settings say `AUTO`.

A second thread shortens long products and costs a wake-up before each short one: for a small base one thread is often
as fast as two, and leaves a core to the monitor.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from device_runtime.errors import SettingsError
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.families import FAMILIES
from device_runtime.forecast.session import AUTO, SessionSettings

MOST = 4  # threads: a forecast is too small for more
WORTH = 0.9  # of the time with fewer threads: what takes longer than that is not worth a core
ROUNDS = 7
STEPS, CONTEXT = 16, 512  # at most; a Chronos-T5's time grows with both


def settled(bundle: Bundle, settings: SessionSettings) -> SessionSettings:
    """Return ``settings`` with a number of threads: their own, or for `AUTO` the one that is measured to be best.

    Raises what opening the bundle's sessions raises.
    """
    if settings.threads != AUTO:
        return settings
    return replace(settings, threads=best(measure(bundle, settings)))


def measure(
    bundle: Bundle,
    settings: SessionSettings,
    *,
    cores: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[int, float]:
    """Time forecasts of the base alone with 1, 2, 4 threads, in turn: number of threads → median milliseconds.

    Raises `SettingsError` for another provider than the processor, whose threads these are.

    No more threads than ``cores``, by default those that this process may use; with one of them nothing is run, and
    the time is 0. The sessions are closed again.
    """
    if not settings.on_processor:
        raise SettingsError(
            f"threads auto: they are the processor's, and {settings.provider} was asked for",
            hint="give a number of threads, such as --threads 2",
        )
    cores = cores or len(os.sched_getaffinity(0))
    counts = [count for count in (1, 2, MOST) if count <= cores]
    if counts == [1]:
        return {1: 0.0}
    manifest = bundle.manifest
    length, steps = min(CONTEXT, manifest.context_length), min(STEPS, manifest.prediction_length)
    context = (80 + 10 * np.sin(np.arange(length, dtype=np.float32) / 7))[None, :]
    with bundle.in_memory():
        models = {count: FAMILIES[manifest.family](bundle, {}, replace(settings, threads=count)) for count in counts}
    times: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(1 + ROUNDS):
        for count, model in models.items():
            start = clock()
            model.predict(context, steps)
            times[count].append((clock() - start) * 1e3)
    return {count: statistics.median(taken[1:]) for count, taken in times.items()}  # the first one warms up


def best(times: Mapping[int, float]) -> int:
    """Return the fewest threads that no larger number beats by as much as a core is worth."""
    counts = sorted(times)
    chosen = counts[0]
    for count in counts[1:]:
        if times[count] < WORTH * times[chosen]:
            chosen = count
    return chosen
