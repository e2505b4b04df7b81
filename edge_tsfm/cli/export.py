"""``edge-tsfm export base``, ``export learning``, ``export static``, ``export adapter`` and ``export merged``."""

from __future__ import annotations

import click

from edge_tsfm.cli.export_adapter import export_adapter_command
from edge_tsfm.cli.export_base import export_base_command
from edge_tsfm.cli.export_learning import export_learning_command
from edge_tsfm.cli.export_merged import export_merged_command
from edge_tsfm.cli.export_static import export_static_command


@click.group()
def command() -> None:
    """Write a frozen base as a bundle, an adaptation of it as a blob of a few kilobytes, or both merged."""


command.add_command(export_base_command)
command.add_command(export_learning_command)
command.add_command(export_static_command)
command.add_command(export_adapter_command)
command.add_command(export_merged_command)
