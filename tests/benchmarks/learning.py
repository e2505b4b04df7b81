"""What a step of learning and hot adapters cost: ``python -m tests.benchmarks.learning BUNDLE [--torch BASE]``.

Each figure beside its comparison in the same run: a step of the learning graph beside torch's (training's loss and
backward), a batch with an adapter for each row beside the same batch merged. The peak memory is of a process of its
own, which imports no torch. Everything on one thread, in processor time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from device_runtime.forecast.learning import LearningSession
from device_runtime.forecast.session import SessionSettings
from device_runtime.format.fourier_shift import FourierShift

BATCHES = (1, 8, 32)
STEPS, LENGTH, RUNS = 6, 48, 30
ONE = SessionSettings(threads=1)


def windows(batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw contexts and targets like a vital sign's."""
    rng = np.random.default_rng(batch)
    context = (80 + np.cumsum(rng.normal(size=(batch, LENGTH)), axis=1)).astype(np.float32)
    return context, (context[:, -1:] + rng.normal(size=(batch, STEPS)) * 3).astype(np.float32)


def timed(*functions: Callable[[], object]) -> list[float]:
    """Return each function's median processor time in milliseconds, in turns: waiting for a core does not count."""
    took: list[list[float]] = [[] for _ in functions]
    for run in range(RUNS + 5):
        for function, times in zip(functions, took, strict=True):
            start = time.process_time()
            function()
            if run >= 5:
                times.append(1e3 * (time.process_time() - start))
    return [float(np.median(times)) for times in took]


def torch_step(
    base: str, names: tuple[str, ...], fourier: FourierShift | None
) -> Callable[[np.ndarray, np.ndarray], object]:
    """Return training's loss and backward, of the same biases or, as training has them, the same coefficients."""
    import torch

    from edge_tsfm.methods import attach, find_method
    from edge_tsfm.methods.fourierft import PRESETS
    from edge_tsfm.models import load_base
    from edge_tsfm.models.family import FAMILIES
    from edge_tsfm.options import Options
    from edge_tsfm.runs.learning import find_sites

    torch.set_num_threads(1)
    loaded = load_base(base)
    model = loaded.model.eval().requires_grad_(False)
    if fourier is None:
        parameters = [model.get_parameter(name).requires_grad_(True) for name in names]
    else:
        sites = {preset: find_sites(loaded, f"fourierft/{preset}") for preset in PRESETS}
        preset = next(
            one for one, has in sites.items() if has and has.shift == fourier and set(has.names) == set(names)
        )
        attach(model, find_method("fourierft"), Options(preset=preset))
        parameters = [value for name, value in model.named_parameters() if "fourierft_spectrum" in name]

    def step(context: np.ndarray, target: np.ndarray) -> object:
        padded = np.full((len(target), model.chronos_config.prediction_length), np.nan, np.float32)
        padded[:, :STEPS] = target
        loss = FAMILIES[loaded.family].loss(model, torch.from_numpy(context), torch.from_numpy(padded))
        return torch.autograd.grad(loss, parameters)

    return step


def learning(bundle: str, base: str | None) -> None:
    """Print the time of a step."""
    session = LearningSession.open(bundle, settings=ONE)
    shift = np.zeros(session.size, dtype=np.float32)
    step: Any = torch_step(base, session.names, session.learning.fourier) if base else lambda *_: None
    for batch in BATCHES:
        context, target = windows(batch)
        mine, other = timed(partial(session.gradients, context, target, shift), partial(step, context, target))
        beside = f", torch {other:.2f} ms: {other / mine:.1f} times" if base else ""
        print(f"step of {session.size} numbers, batch {batch}: {mine:.2f} ms{beside}")  # noqa: T201


def hot(bundle: str) -> None:
    """Print the time of a batch with an adapter for each row, beside the same batch with one merged."""
    from device_runtime.forecast.bundle import Bundle
    from device_runtime.forecast.forecaster import Forecaster
    from device_runtime.forecast.hot import HotForecaster
    from tests.support.biased import biased, waved

    station = HotForecaster.open(bundle, settings=ONE)
    make = biased if station.learning.fourier is None else waved
    blobs = [make(Path(bundle), seed, size=0.01) for seed in range(max(BATCHES))]
    adapters = [station.load(blob) for blob in blobs]
    merged = [Forecaster.open(Bundle.open(bundle), blob, settings=ONE) for blob in blobs[:2]]
    for batch in BATCHES:
        context, _ = windows(batch)
        mine, other, one = timed(
            partial(station.forecast, context, adapters[:batch], STEPS),
            partial(merged[0].forecast, context, STEPS),
            partial(station.forecast, context, [adapters[0]] * batch, STEPS),
        )
        print(  # noqa: T201
            f"batch {batch}: an adapter for each row {mine:.2f} ms, one merged {other:.2f} ms: "
            f"{mine / other:.2f} times; switching all of them {max(0.0, mine - one):.3f} ms"
        )
    context, _ = windows(2)
    scale = context.std(axis=1)[:, None, None]
    got = np.stack([one.quantiles for one in station.forecast(context, adapters[:2], STEPS)])
    want = np.stack([one.forecast(context[row], STEPS).quantiles for row, one in enumerate(merged)])
    print(f"off merged by {np.abs((got - want) / scale).max():.1e} of the scale; {adapters[0].shift.nbytes} bytes each")  # noqa: T201


def peak() -> float:
    """Return this process's peak memory in MiB: its own, where getrusage begins with the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def memory(bundle: str) -> None:
    """Print the peak of a process that takes 20 steps."""
    before = peak()
    session = LearningSession.open(bundle, settings=ONE)
    shift = np.zeros(session.size, dtype=np.float32)
    for _ in range(20):
        _, gradient = session.gradients(*windows(8), shift)
        shift -= np.float32(0.01) * gradient
    print(f"peak memory of a process that learns: {peak():.0f} MiB, {before:.0f} of it before the session")  # noqa: T201


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("--torch", metavar="BASE", help="time torch's step of this base beside it")
    parser.add_argument("--memory", action="store_true", help="only the peak memory")
    given = parser.parse_args()
    if given.memory:
        memory(given.bundle)
        return
    learning(given.bundle, given.torch)
    hot(given.bundle)
    subprocess.run([sys.executable, "-m", "tests.benchmarks.learning", given.bundle, "--memory"], check=True)


if __name__ == "__main__":
    main()
