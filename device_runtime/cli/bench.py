"""``edge-tsfm-device bench``."""

from __future__ import annotations

import json
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from device_runtime.cli.options import (
    adapter_option,
    bundle_argument,
    context_steps,
    json_option,
    session_options,
    settings,
    settled_threads,
)


@click.command()
@bundle_argument
@adapter_option
@click.option("--context-length", type=click.IntRange(1), default=48, help="Steps of context.")
@click.option("--batch", type=click.IntRange(1), default=1, help="Series in one run.")
@click.option("--runs", type=click.IntRange(3), default=50, help="Timed forecasts.")
@session_options
@json_option
def command(
    bundle: Path, adapter: Path | None, context_length: int, batch: int, runs: int, as_json: bool, **session: Any
) -> None:
    """Time activation (check, merge, session, self-test) and forecasts on this device."""
    import numpy as np

    from device_runtime.cli.signed_only import check_signed
    from device_runtime.forecast.bundle import Bundle
    from device_runtime.forecast.forecaster import Forecaster
    from device_runtime.forecast.session import AUTO
    from device_runtime.processor import this_processor

    used = settings(**session)
    if used.threads == AUTO:
        used = settled_threads(Bundle.open(bundle), used)
    start = time.perf_counter()
    forecaster = Forecaster.open(bundle, check_signed(adapter), settings=used)
    activation = time.perf_counter() - start
    context_steps(forecaster, context_length)
    context = np.random.default_rng(0).normal(80, 10, (batch, context_length)).astype(np.float32)
    times = timed(lambda: forecaster.forecast(context), runs)
    report = {
        "processor": str(this_processor()),
        "activation_ms": activation * 1e3,
        "forecast_ms_median": statistics.median(times) * 1e3,
        "forecast_ms_p95": sorted(times)[int(0.95 * (len(times) - 1))] * 1e3,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "threads": used.threads,
        "batch": batch,
        "context_length": context_length,
        "base": forecaster.bundle.digest.hex(),
        "adapter": forecaster.adapter_digest,
    }
    if as_json:
        click.echo(json.dumps(report))
        return
    click.echo(
        f"{report['processor']}\n"
        f"threads {report['threads']}, activation {report['activation_ms']:.0f} ms, "
        f"forecast {report['forecast_ms_median']:.2f} ms "
        f"(95 %: {report['forecast_ms_p95']:.2f} ms), peak memory {report['peak_memory_mb']:.0f} MB"
    )


def timed(function: Callable[[], object], runs: int) -> list[float]:
    """Time ``runs`` calls after one that warms up; seconds."""
    function()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return times
