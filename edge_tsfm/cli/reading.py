"""Options for reading data: the device's, those for a folder of files, and the split."""

from __future__ import annotations

from collections.abc import Callable

import click

from device_runtime.cli.read_options import F
from device_runtime.cli.read_options import read_options as of_a_table

# The choices are those of `edge_tsfm.data.across.ACROSS_FILES`; importing it would load pandas for a help text.
_ids_across_files = click.option(
    "--ids-across-files",
    type=click.Choice(["same", "per-file"]),
    help="An id in several files: one patient, or one for each file.  [default: refused if times overlap]",
)


def read_options(function: F) -> F:
    """Add the options of `edge_tsfm.data.read_dataset`, except for the target."""
    return of_a_table(_ids_across_files(function))


def split_option(default: str, *, whose: str) -> Callable[[F], F]:
    """Add ``--split``; ``whose`` is its help: what is split, and why ``default`` is the default."""
    return click.option(
        "--split",
        type=click.Choice(["train", "validation", "test", "all"]),
        default=default,
        show_default=True,
        help=whose,
    )
