"""``edge-tsfm verify``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge_tsfm.cli.paths import Existing


@click.command()
@click.argument("blob", type=Existing(dir_okay=False))
@click.option("--bundle", type=click.Path(path_type=Path), required=True, help="Base bundle the adapter is for.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(blob: Path, bundle: Path, as_json: bool) -> None:
    """Check a BLOB as a device does: every rule of the format, the base, the merge, the known-answer test.

    Also shows exactly which tensors it changes and by how much, and checks every other file of the base.
    """
    import numpy as np

    from device_runtime.forecast.bundle import Bundle
    from device_runtime.forecast.forecaster import Forecaster
    from device_runtime.forecast.merge import merge

    opened = Bundle.open(bundle)
    forecaster = Forecaster.open(opened, blob)
    adapter = forecaster.adapter
    assert adapter is not None
    merged = merge(opened.manifest, opened.tensor, adapter)
    changed = {
        opened.manifest.tensors[index].name: float(np.abs(array - opened.tensor(index)).max())
        for index, array in merged.items()
    }
    total = sum(entry.size for entry in opened.manifest.tensors)
    report = {
        "adapter": forecaster.adapter_digest,
        "adapter_version": adapter.version,
        "base": opened.digest.hex(),
        "binding": adapter.binding and adapter.binding.to_dict(),
        "files_as_pinned": sorted(opened.manifest.files),
        "known_answer_off_by": forecaster.self_test(),
        "parameters": adapter.parameters,
        "share_of_tunable": adapter.parameters / total,
        "largest_change": changed,
    }
    if as_json:
        click.echo(json.dumps(report))
        return
    click.echo(
        f"{blob}: adapter {str(report['adapter'])[:16]}, good for base {opened.digest.hex()[:16]}… "
        f"({opened.manifest.name})"
    )
    click.echo(f"  for {adapter.binding or 'no stated signal: the blob is unbound'}")
    click.echo(f"  every file of the base is as pinned: {', '.join(sorted(opened.manifest.files))}")
    click.echo(f"  known answer off by {report['known_answer_off_by']:.2g}")
    click.echo(
        f"  {adapter.parameters:,} parameters ({report['share_of_tunable']:.3%} of the tunable) change these tensors:"
    )
    for name, change in changed.items():
        click.echo(f"    {name}: at most {change:.3g}")
