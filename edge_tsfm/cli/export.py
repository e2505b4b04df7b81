"""``edge-tsfm export base`` and ``edge-tsfm export adapter``."""

from __future__ import annotations

import click

from edge_tsfm.cli.export_adapter import export_adapter_command
from edge_tsfm.cli.export_base import export_base_command


@click.group()
def command() -> None:
    """Write a frozen base as a bundle, or an adaptation of it as a blob of a few kilobytes."""


command.add_command(export_base_command)
command.add_command(export_adapter_command)
