"""Options for reading data: the device's, and those for a folder of files."""

from __future__ import annotations

import click

from device_runtime.cli.read_options import F
from device_runtime.cli.read_options import read_options as of_a_table

# `edge_tsfm.data.across.ACROSS_FILES`, which would import pandas to show a help text.
_ids_across_files = click.option(
    "--ids-across-files",
    type=click.Choice(["same", "per-file"]),
    help="An id in several files: one patient, or one for each file.  [default: refused if times overlap]",
)


def read_options(function: F) -> F:
    """Add the options of `edge_tsfm.data.read_dataset`, but for the target."""
    return of_a_table(_ids_across_files(function))
