"""``edge-tsfm export adapter``."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_tsfm.cli.runs import open_run

if TYPE_CHECKING:
    from device_runtime.forecast.bundle import Bundle
    from edge_tsfm.runs.run import Run
    from export import AdapterExport


@click.command("adapter")
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--bundle", type=click.Path(path_type=Path), required=True, help="Bundle of the base the run adapted.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Blob to write (.etsa).")
@click.option(
    "--adapter-version", type=click.IntRange(0, 2**63), default=1, help="Monotonic; a device never goes back."
)
@click.option("--dtype", type=click.Choice(["int16", "int8"]), default="int16", help="How tuned numbers are stored.")
@click.option(
    "--calibrate",
    is_flag=True,
    help="Add offsets, fitted on validation patients, with which the quantiles cover what they promise.",
)
@click.option("--force", is_flag=True, help="Export a run that the gate refused; the blob says so.")
@click.option("--data", type=click.Path(path_type=Path), help="Data for held windows.  [default: what the run used]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def export_adapter_command(
    run: Path,
    bundle: Path,
    out: Path,
    adapter_version: int,
    dtype: Any,
    calibrate: bool,
    force: bool,
    data: Path | None,
    as_json: bool,
) -> None:
    """Write a RUN's adaptation as a blob bound to exactly one bundle, with its known-answer test.

    The runtime's forecasts with the blob are compared with torch's on windows of validation patients first; nothing
    is written when they differ, nor from a run that the gate refused, unless with --force.
    """
    from device_runtime.files import write_atomic
    from export import export_adapter

    trained = open_run(run)
    opened = trained.open_bundle(bundle)
    trained.require_accepted(force=force)
    result = export_adapter(
        bundle=opened,
        base=trained.frozen_model(),
        tuned=trained.tuned_model(),
        deltas=trained.deltas(dtype),
        contexts=trained.held_contexts(data=data),
        binding=trained.binding,
        version=adapter_version,
        metadata=trained.blob_metadata,
        forced=not trained.gate["accepted"],
    )
    blob = _calibrated(trained, opened, result.blob, data) if calibrate else result.blob
    write_atomic(out, blob)
    if as_json:
        report = {key: value for key, value in vars(result).items() if key != "blob"}
        report["binding"] = result.binding.to_dict()
        click.echo(
            json.dumps(
                {
                    "path": str(out),
                    "adapter": sha256(blob).hexdigest(),
                    "bytes": len(blob),
                    "calibration_bytes": len(blob) - len(result.blob),
                    **report,
                }
            )
        )
        return
    _say(out, blob, result, opened, dtype)


def _calibrated(run: Run, bundle: Bundle, blob: bytes, data: Path | None) -> bytes:
    """Fit the calibration on what the device's runtime forecasts with ``blob`` for validation patients, and add it."""
    from device_runtime.forecast.forecaster import Forecaster
    from edge_tsfm.evaluation.calibration import fit_calibration
    from edge_tsfm.runs.on_device import device_quantiles
    from export.adapter import with_calibration

    windows = run.windows("validation", data=data)
    quantiles = device_quantiles(Forecaster.open(bundle, blob), windows.context, run.config.prediction_length)
    levels = bundle.manifest.quantile_levels
    return with_calibration(bundle, blob, fit_calibration(quantiles, windows, levels))


def _say(out: Path, blob: bytes, result: AdapterExport, bundle: Bundle, dtype: str) -> None:
    """Report in words."""
    name = sha256(blob).hexdigest()
    click.echo(
        f"{out}: adapter {name[:16]}, {result.parameters:,} numbers in {len(blob):,} bytes, for base "
        f"{bundle.digest.hex()[:16]}…"
    )
    click.echo(f"  for {result.binding}")
    click.echo(
        f"  on {result.windows} held windows, in units of their scale: torch against runtime {result.parity:.1e}, "
        f"rounding to {dtype} {result.rounding:.1e}, effect on the forecast up to {result.effect:.2f}"
    )
    if added := len(blob) - len(result.blob):
        click.echo(
            f"  calibrated on validation patients: {added} of the bytes; edge-tsfm evaluate --calibrate scores it"
        )
    if bundle.manifest.precision != "float32":
        click.echo(f"  {bundle.manifest.precision} keeps {result.effect_kept:.2%} of the adapter's effect in float32")
