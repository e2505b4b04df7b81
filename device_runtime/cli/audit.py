"""``edge-tsfm-device audit``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from device_runtime.cli.device_options import config_option, device


@click.group()
def command() -> None:
    """Export this monitor's log, or verify one."""


@command.command("export")
@config_option
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write.  [default: print]")
def export_command(config_path: Path, out: Path | None) -> None:
    """Write the log, one entry per line, each chained to the one before."""
    from device_runtime.files import write_atomic

    with device(config_path, change=False) as (_, slots):
        data = slots.audit.export()
    if out is None:
        sys.stdout.write(data.decode())
    else:
        write_atomic(out, data)


@command.command("verify")
@click.argument("log", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--head", help="Hash that the log must end with, from a status report.")
def verify_command(log: Path, head: str | None) -> None:
    """Check the chain of an exported LOG; say where it breaks."""
    from device_runtime.errors import ChecksumError
    from device_runtime.files import about, read_bounded
    from device_runtime.update.audit import MAX_SIZE, START, read_lines

    with about(log):
        data = read_bounded(log, 4 * MAX_SIZE)
        lines = list(read_lines(data))
        if data and not lines:
            raise ChecksumError("no whole entry: not a log, or cut in its first line")
    if head is not None and head not in {line.hash for line in lines}:
        raise ChecksumError(f"{log} does not contain the entry {head[:16]}", hint="the end of the log is missing")
    click.echo(f"{len(lines)} entries, unbroken; head {lines[-1].hash if lines else 'none'}")
    if lines and lines[0].body["follows"] != START:
        click.echo(f"begins after entry {lines[0].body['follows'][:16]}: older entries are not in this log")
