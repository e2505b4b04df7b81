"""``edge-tsfm export adapter``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_tsfm.cli.paths import Existing, NewFile
from edge_tsfm.cli.runs import open_run

if TYPE_CHECKING:
    from device_runtime.forecast.bundle import Bundle
    from edge_tsfm.runs.export import RunExport


@click.command("adapter")
@click.argument("run", type=Existing(file_okay=False))
@click.option(
    "--bundle", type=click.Path(path_type=Path), required=True, help="Bundle of the base that the run adapted."
)
@click.option("--out", type=NewFile(), required=True, help="Blob to write (.etsa).")
@click.option(
    "--adapter-version",
    type=click.IntRange(1, 2**63 - 1),
    default=1,
    help="Version number of the adapter; increase it each time.",
)
@click.option("--dtype", type=click.Choice(["int16", "int8"]), default="int16", help="How tuned parameters are stored.")
@click.option(
    "--calibrate",
    is_flag=True,
    help="Add offsets, fitted on validation patients, that correct the coverage of the quantiles.",
)
@click.option("--force", is_flag=True, help="Export a run that the gate refused; the blob says so.")
@click.option(
    "--data", type=click.Path(path_type=Path), help="Data for held-out windows.  [default: what the run used]"
)
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

    The runtime's forecasts with the blob are first compared with torch's on windows of validation patients. Nothing
    is written if they differ, or, without --force, if the gate refused the run.
    """
    from device_runtime.files import write_atomic
    from edge_tsfm.runs.export import export_run

    trained = open_run(run)
    opened = trained.open_bundle(bundle)
    trained.require_accepted(force=force)
    exported = export_run(trained, opened, version=adapter_version, dtype=dtype, calibrate=calibrate, data=data)
    write_atomic(out, exported.blob)
    if not as_json:
        _say(out, exported, opened, dtype)
        return
    measured = {key: value for key, value in vars(exported.measured).items() if key != "blob"}
    report = {
        "path": str(out),
        "adapter": exported.adapter,
        "bytes": len(exported.blob),
        "calibration_bytes": exported.calibration_bytes,
        **measured,
        "binding": exported.measured.binding.to_dict(),
    }
    click.echo(json.dumps(report))


def _say(out: Path, exported: RunExport, bundle: Bundle, dtype: str) -> None:
    """Report in words."""
    result = exported.measured
    click.echo(
        f"{out}: adapter {exported.adapter[:16]}, {result.parameters:,} parameters in {len(exported.blob):,} bytes, "
        f"for base {bundle.digest.hex()[:16]}…"
    )
    click.echo(f"  for {result.binding}")
    click.echo(
        f"  on {result.windows} held-out windows, in units of their scale: torch against runtime {result.parity:.1e}, "
        f"rounding to {dtype} {result.rounding:.1e}, effect on the forecast up to {result.effect:.2f}"
    )
    if added := exported.calibration_bytes:
        click.echo(
            f"  calibrated on validation patients: {added} of the bytes; edge-tsfm evaluate --calibrate scores it"
        )
    if bundle.manifest.precision != "float32":
        click.echo(f"  {bundle.manifest.precision} keeps {result.effect_kept:.2%} of the adapter's effect in float32")
