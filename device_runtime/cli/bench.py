"""``edge-tsfm-device bench``."""

from __future__ import annotations

import json
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from device_runtime.cli.options import (
    adapter_option,
    bundle_argument,
    context_steps,
    json_option,
    provider_options,
    settings,
    settled_threads,
    thread_options,
)

CPU = "cpu"


@click.command()
@bundle_argument
@adapter_option
@click.option("--context-length", type=click.IntRange(1), default=48, help="Steps of context.")
@click.option("--batch", type=click.IntRange(1), default=1, help="Series in one run.")
@click.option("--runs", type=click.IntRange(3), default=50, help="Timed forecasts.")
@thread_options
@provider_options
@click.option(
    "--provider",
    "providers",
    multiple=True,
    metavar="NAME[:DEVICE]",
    help="Time it on this execution provider; several are timed in turn, one forecast each.  [default: cpu]",
)
@json_option
def command(
    bundle: Path,
    adapter: Path | None,
    context_length: int,
    batch: int,
    runs: int,
    as_json: bool,
    providers: tuple[str, ...],
    **session: Any,
) -> None:
    """Time activation (check, merge, session, self-test) and forecasts on this device."""
    import numpy as np

    from device_runtime.cli.signed_only import check_signed
    from device_runtime.forecast.bundle import Bundle
    from device_runtime.forecast.forecaster import Forecaster
    from device_runtime.processor import this_processor

    data = check_signed(adapter)
    opened = Bundle.open(bundle)
    forecasters, activations, threads = {}, {}, {}
    for name, given in _each(providers, session).items():
        used = settled_threads(opened, settings(**given))
        start = time.perf_counter()
        forecasters[name] = Forecaster.open(bundle, data, settings=used)
        activations[name] = time.perf_counter() - start
        threads[name] = used.threads
        context_steps(forecasters[name], context_length)
    context = np.random.default_rng(0).normal(80, 10, (batch, context_length)).astype(np.float32)
    calls = {name: lambda one=one: one.forecast(context) for name, one in forecasters.items()}
    times = in_turn(calls, runs)
    first = next(iter(forecasters))
    figures = {
        name: {
            "activation_ms": activations[name] * 1e3,
            "forecast_ms_median": statistics.median(times[name]) * 1e3,
            "forecast_ms_p95": sorted(times[name])[int(0.95 * (runs - 1))] * 1e3,
            "ratio": statistics.median(times[first]) / statistics.median(times[name]),
        }
        for name in forecasters
    }
    report = {
        "processor": str(this_processor()),
        **{key: value for key, value in figures[first].items() if key != "ratio"},
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "threads": threads[first],
        "batch": batch,
        "context_length": context_length,
        "base": forecasters[first].bundle.digest.hex(),
        "adapter": forecasters[first].adapter_digest,
        **({"providers": figures} if len(figures) > 1 else {}),
    }
    click.echo(json.dumps(report) if as_json else "\n".join(_lines(figures, report)))


def _each(providers: tuple[str, ...], session: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the session's options for each provider; those of plugins are for one that is not the processor."""
    own = {name: session[name] for name in ("library", "options", "cpu_fallback")}
    others = {name for name in providers if name != CPU}
    if any(own.values()) and len(others) > 1:
        raise click.UsageError("--provider-library, --provider-option and --cpu-fallback are for one --provider")
    rest = {name: value for name, value in session.items() if name not in own}
    alone = not others  # then options without a provider are refused, as everywhere
    return {
        name: {**rest, "provider": None if name == CPU else name, **(own if alone or name != CPU else {})}
        for name in providers or (CPU,)
    }


def _lines(figures: dict[str, dict[str, float]], report: dict[str, Any]) -> list[str]:
    """Say the figures, a line for each provider where there are several."""
    lines = [f"{report['processor']}, threads {report['threads']}"]
    for name, one in figures.items():
        line = (
            f"activation {one['activation_ms']:.0f} ms, forecast {one['forecast_ms_median']:.2f} ms "
            f"(95 %: {one['forecast_ms_p95']:.2f} ms)"
        )
        lines.append(
            line if len(figures) == 1 else f"{name}: {line}, {one['ratio']:.2f} times as fast as {next(iter(figures))}"
        )
    lines[-1] += f", peak memory {report['peak_memory_mb']:.0f} MB"
    return lines


def in_turn(calls: Mapping[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Time ``runs`` rounds, in each of which every call has its turn, after one that warms up; seconds."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_number in range(runs + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if round_number:
                times[name].append(time.perf_counter() - start)
    return times
