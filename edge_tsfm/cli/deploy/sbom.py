"""``edge-tsfm deploy sbom``."""

from __future__ import annotations

from pathlib import Path

import click

from edge_tsfm.cli.deploy.options import FILE, keys_option, open_repository, repository_argument


@click.command()
@repository_argument
@keys_option
@click.option("--out", type=FILE, required=True, help="File to write.")
def command(repository: Path, keys: tuple[Path, ...], out: Path) -> None:
    """Write a CycloneDX 1.6 bill of materials: the runtime's packages, and each approved adapter as a model."""
    from device_runtime.files import write_atomic
    from edge_tsfm.deploy.sbom import sbom_of

    write_atomic(out, sbom_of(open_repository(repository, keys)).encode())
    click.echo(str(out))
