"""Options that say how data are read, each once for all commands."""

from __future__ import annotations

import click

unit_option = click.option("--unit", help="What the values are in, where that is not the signal's unit: kPa, degF.")
# `edge_tsfm.data.across.ACROSS_FILES`, which would import pandas to show a help text.
ids_across_files_option = click.option(
    "--ids-across-files",
    type=click.Choice(["same", "per-file"]),
    help="An id in several files: one patient, or one for each file.  [default: refused where times overlap]",
)
