"""``edge-tsfm deploy device-settings``."""

from __future__ import annotations

from pathlib import Path

import click

from edge_tsfm.cli.deploy.options import keys_option, open_repository, repository_argument, ring_argument


@click.command()
@repository_argument
@keys_option
@ring_argument
@click.argument("device_id")
@click.option("--url", required=True, help="Address or folder where the monitor finds public/.")
def command(repository: Path, keys: tuple[Path, ...], ring: str, device_id: str, url: str) -> None:
    """Print a monitor's device.toml."""
    from edge_tsfm.deploy.setup import device_settings

    click.echo(device_settings(open_repository(repository, keys), ring=ring, device_id=device_id, url=url), nl=False)
