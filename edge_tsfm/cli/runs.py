"""Opening a run for a command, with its warnings on standard error."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edge_tsfm.runs.run import Run


def open_run(path: Path) -> Run:
    """Open a run folder as `load_run` does, and say on standard error when nothing pins its files."""
    from edge_tsfm.runs.run import load_run

    run = load_run(path)
    if run.unpinned:
        click.echo(f"note: {run.unpinned}", err=True)
    return run
