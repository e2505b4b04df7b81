"""``edge-tsfm export base`` and ``edge-tsfm export adapter``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from edge_tsfm.errors import DataError, ModelError


@click.group()
def command() -> None:
    """Write a frozen base as a bundle, or an adaptation of it as a blob of a few kilobytes."""


@command.command("base")
@click.option("--base", "name", default="edge-bolt-micro", help="Bundled name, local folder or hub id.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="New folder for the bundle.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def export_base_command(name: str, out: Path, as_json: bool) -> None:
    """Write a base once, and prove it equal to torch: forecasts, and every tunable tensor perturbed in turn.

    Nothing is written when the proof fails.
    """
    from edge_tsfm.models import load_base
    from export import export_base

    base = load_base(name)
    with click.progressbar(
        length=100, label="export base", hidden=as_json or not sys.stderr.isatty(), file=sys.stderr
    ) as bar:

        def progress(stage: str, done: int, total: int) -> None:
            share = 20 * done // total if stage == "trace" else 20 + 80 * done // total
            bar.update(share - bar.pos)

        result = export_base(
            base.model,
            family=base.family,
            name=base.name,
            out=out,
            provenance={"source": base.source, "weights": base.digest, "licence": base.licence},
            progress=progress,
        )
    if as_json:
        click.echo(json.dumps({**vars(result), "path": str(result.path), "parity": vars(result.parity)}))
        return
    click.echo(f"{result.path}: {base.name}, {result.bytes / 1e6:.1f} MB, base digest {result.digest[:16]}…")
    click.echo(
        f"  {result.tensors} tunable tensors, {result.tunable_parameters:,} numbers; "
        f"{len(result.dead)} dead parameters left out"
    )
    click.echo(
        f"  parity with torch: base {result.parity.base:.1e}, each tensor perturbed {result.parity.perturbed:.1e} "
        "of the scale"
    )


@command.command("adapter")
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--bundle", type=click.Path(path_type=Path), required=True, help="Bundle of the base the run adapted.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Blob to write (.etsa).")
@click.option(
    "--adapter-version", type=click.IntRange(0, 2**63), default=1, help="Monotonic; a device never goes back."
)
@click.option("--dtype", type=click.Choice(["int16", "int8"]), default="int16", help="How tuned numbers are stored.")
@click.option("--data", type=click.Path(path_type=Path), help="Data for held windows.  [default: what the run used]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def export_adapter_command(
    run: Path, bundle: Path, out: Path, adapter_version: int, dtype: Any, data: Path | None, as_json: bool
) -> None:
    """Write a RUN's adaptation as a blob bound to exactly one bundle, with its known-answer test.

    The runtime's forecasts with the blob are compared with torch's on windows of validation patients first; nothing
    is written when they differ.
    """
    from device_runtime.bundle import Bundle
    from device_runtime.files import write_atomic
    from edge_tsfm.models import load_base
    from edge_tsfm.training.run import load_run
    from export import export_adapter

    opened = Bundle.open(bundle)
    trained = load_run(run)
    base = load_base(trained.base["source"])
    recorded = _provenance(opened)
    if recorded != trained.base["digest"]:
        raise ModelError(
            f"{bundle} is of weights {recorded[:16]}…, the run adapted {trained.base['digest'][:16]}… ({base.name})",
            hint=f"edge-tsfm export base --base {trained.base['source']} --out BUNDLE",
        )
    contexts = held_contexts(trained, data)
    result = export_adapter(
        bundle=opened,
        base=base.model,
        tuned=trained.tuned_model(),
        deltas=trained.deltas(dtype),
        contexts=contexts,
        version=adapter_version,
        metadata={"target": trained.target, "method": trained.method},
        forced=bool(trained.gate.get("forced", False)),
    )
    write_atomic(out, result.blob)
    report = {key: value for key, value in vars(result).items() if key != "blob"}
    if as_json:
        click.echo(json.dumps({"path": str(out), "bytes": len(result.blob), **report}))
        return
    click.echo(
        f"{out}: {result.parameters:,} numbers in {len(result.blob):,} bytes, for base {opened.digest.hex()[:16]}…"
    )
    click.echo(
        f"  on {result.windows} held windows, in units of their scale: torch against runtime {result.parity:.1e}, "
        f"rounding to {dtype} {result.rounding:.1e}, effect on the forecast up to {result.effect:.2f}"
    )


def _provenance(bundle: Any) -> str:
    """Return the weights' digest that a bundle's manifest records."""
    from device_runtime.files import read_bounded
    from device_runtime.manifest import MANIFEST_FILE, MAX_MANIFEST_SIZE

    value = json.loads(read_bounded(bundle.path / MANIFEST_FILE, MAX_MANIFEST_SIZE))
    return str(value["base"]["weights"])


def held_contexts(run: Any, data: Path | None, limit: int = 256) -> Any:
    """Return contexts ``[N, L]`` of the run's validation patients, at most ``limit``, evenly spread.

    Raises `DataError` when the data cannot be found or hold no validation window.
    """
    import numpy as np

    windows = run.windows("validation", data=data)
    if len(windows) == 0:
        raise DataError("no window of a validation patient to compare torch and the runtime on", hint="give --data")
    chosen = np.linspace(0, len(windows) - 1, min(limit, len(windows))).astype(int)
    return windows.context[chosen]
