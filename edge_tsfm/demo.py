"""The main job from end to end on two simulated wards, offline: what `make demo` runs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_runtime.files import write_atomic
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.forecaster import Forecaster
from edge_tsfm.data.simulate import encode_table, simulate_ward
from edge_tsfm.data.windows import Windows
from edge_tsfm.errors import ConfigError
from edge_tsfm.evaluation import Report, evaluate_forecasts
from edge_tsfm.evaluation.report import BASE
from edge_tsfm.one_writer import is_empty, only_writer
from edge_tsfm.report.pictures import Shown, forecasts_file
from edge_tsfm.report.scale import Scale
from edge_tsfm.report.verdict import RunVerdict, Seen, scored_on
from edge_tsfm.runs.export import export_run
from edge_tsfm.runs.run import Run
from edge_tsfm.runs.train import train
from edge_tsfm.training.config import TrainConfig
from export import export_base

TARGET = "MAP"
METHODS = ("fourierft", "bitfit")
PATIENTS = 1_500
STEPS = 300
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Demo:
    """What the demo made."""

    reports: dict[str, Report]  # by method, on held-out patients of ward B
    elsewhere: Report  # the fourierft adapter on patients of ward A, for whom it was not made
    gates: dict[str, dict[str, Any]]  # by method, what the gate said of its run
    picture: Path
    sizes: dict[str, int]  # bytes of each blob
    device_command: str
    seconds: float


def run_demo(out: Path, say: Say, *, patients: int = PATIENTS, steps: int = STEPS) -> Demo:
    """Simulate two wards, adapt to ward B with two methods, export, merge and forecast through the device runtime.

    Every scored forecast is made by `device_runtime`, on held-out patients of ward B.
    """
    with only_writer(out):
        if not is_empty(out):
            raise ConfigError(f"{out} is not empty", hint="remove it, or give another --out")
        return _run_demo(out, say, patients=patients, steps=steps)


def _run_demo(out: Path, say: Say, *, patients: int, steps: int) -> Demo:
    """Do what `run_demo` says, alone in ``out``."""
    start = time.monotonic()
    for site in ("A", "B"):
        frame = simulate_ward(patients=patients, site=site, seed=0, signals=["HR", "MAP"])
        write_atomic(out / f"ward-{site.lower()}.csv", encode_table(frame, out / f"ward-{site.lower()}.csv"))
        say(f"simulated ward {site}: {patients} patients, {len(frame):,} hourly rows")
    runs = {method: _train(out, method, steps, say) for method in METHODS}
    bundle, blobs = _export(out, runs, say)
    levels = bundle.manifest.quantile_levels
    windows = runs["fourierft"].windows("test")
    forecasts = {method: _forecasts(bundle, blob, windows) for method, blob in blobs.items()}
    reports = {method: evaluate_forecasts(made, windows, levels) for method, made in forecasts.items()}
    other_ward = runs["fourierft"].windows("test", data=out / "ward-a.csv")
    picture = out / "forecasts.png"
    title = f"{TARGET}, ward B, patients never seen"
    shown = Shown(
        scale=Scale.of(runs["fourierft"].binding),
        windows=windows,
        forecasts=forecasts["fourierft"],
        quantile_levels=levels,
    )
    write_atomic(picture, forecasts_file(shown, title))
    return Demo(
        reports=reports,
        gates={method: dict(run.gate) for method, run in runs.items()},
        elsewhere=evaluate_forecasts(_forecasts(bundle, blobs["fourierft"], other_ward), other_ward, levels),
        picture=picture,
        sizes={method: len(blob) for method, blob in blobs.items()},
        device_command=_as_a_device(out, say),
        seconds=time.monotonic() - start,
    )


def verdict(demo: Demo, method: str, report: Report, who: str) -> RunVerdict:
    """Return the verdict on a method's run beside what ``report`` found on ``who`` ("test", or another ward's)."""
    group = report.overall
    part, source = ("test", "") if who == "test" else ("", who)
    seen = Seen(
        who=scored_on(group.patients, group.unit, part=part, source=source), wql=group.adapter_minus[BASE]["wql"]
    )
    return RunVerdict(gate=demo.gates[method], seen=seen)


def _train(out: Path, method: str, steps: int, say: Say) -> Run:
    """Adapt to ward B with one method."""
    config = TrainConfig(data=str(out / "ward-b.csv"), target=TARGET, method=method, steps=steps, batch_size=128)
    run = train(config, out / f"run-{method}")
    record = run.record
    say(f"trained {method}: {record['parameters']:,} parameters, {record['training']['seconds']:.0f} s")
    say(f"  {RunVerdict(gate=run.gate).headline}")
    return run


def _export(out: Path, runs: dict[str, Run], say: Say) -> tuple[Bundle, dict[str, bytes]]:
    """Write the bundle once, then a blob for each run."""
    base = runs[METHODS[0]].base_model
    written = export_base(
        base.model, family=base.family, name=base.bundle_name, out=out / "bundle", provenance=base.provenance
    )
    off = max(written.parity.base, written.parity.redrawn)
    say(
        f"exported {base.name}: {written.bytes / 1e6:.1f} MB; equal to torch, all of its {written.tensors} tensors "
        f"drawn anew too, to {off:.0e}"
    )
    bundle, blobs = Bundle.open(out / "bundle"), {}
    for method, run in runs.items():
        exported = export_run(run, bundle)
        write_atomic(out / f"map-{method}.etsa", exported.blob)
        blobs[method] = exported.blob
        numbers, size = exported.measured.parameters, len(exported.blob)
        say(f"exported map-{method}.etsa: {numbers:,} parameters in {size:,} bytes")
    return bundle, blobs


def _forecasts(bundle: Bundle, blob: bytes, windows: Windows) -> dict[str, NDArray[np.float32]]:
    """Forecast windows with the device runtime: ``[N, H, Q]`` by the base and by the adapter."""
    context, length = windows.context, windows.target.shape[1]
    return {
        "base": Forecaster.open(bundle).forecast(context, length).quantiles,
        "adapter": Forecaster.open(bundle, blob).forecast(context, length).quantiles,
    }


def _as_a_device(out: Path, say: Say) -> str:
    """Run the device's own command in a process of its own, as a monitor would, and show its first forecast."""
    arguments = ["forecast", str(out / "bundle"), "--adapter", str(out / "map-fourierft.etsa")]
    arguments += ["--input", str(out / "ward-b.csv"), "--target", TARGET, "--context-length", "48"]
    arguments += ["--prediction-length", "6", "--json"]
    command = [sys.executable, "-m", "device_runtime.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first = json.loads(done.stdout)[0]
    median = [row[first["quantile_levels"].index(0.5)] for row in first["quantiles"]]
    values = ", ".join(f"{value:.0f}" for value in median)
    say(f"the device's own process forecast {first['item_id']}: {values} mmHg (median)")
    return "edge-tsfm-device " + " ".join(arguments)
