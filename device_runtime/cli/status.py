"""``edge-tsfm-device status``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from device_runtime.cli.device_options import config_option, device
from device_runtime.cli.options import json_option
from device_runtime.cli.quality import figures_of, line_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from device_runtime.update.lifecycle import Record
    from device_runtime.update.notes import Polled
    from device_runtime.update.report import Report
    from device_runtime.update.slots import Slots

DAY = 86_400.0  # seconds


@click.command()
@config_option
@json_option
def command(config_path: Path, as_json: bool) -> None:
    """Show which base and adapter run on this monitor, what is staged, and when it last polled the publisher.

    A "problem" says why something other than what is installed runs; it is also on standard error.
    """
    from device_runtime.errors import DeviceRuntimeError
    from device_runtime.forecast.bundle import Bundle
    from device_runtime.update.disk import PosixDisk
    from device_runtime.update.field_store import published
    from device_runtime.update.notes import polled, running
    from device_runtime.update.report import report_of, to_value

    with device(config_path, change=False) as (config, slots):
        problems = []
        try:
            base = Bundle.open(config.bundle).digest.hex()
        except DeviceRuntimeError as error:
            base = ""
            problems.append(f"the base: {error}")
        last = polled(config.state)
        report = report_of(
            slots,
            ring=config.ring,
            base=base,
            now=running(config.state),
            last=last,
            quality=published(PosixDisk(config.state)),
        )
        quality = line_of(figures_of(config))
        problems.append(report.problem or _unusable(slots))
        record, now = slots.record, time.time()
    problem = "; ".join(filter(None, problems))
    if as_json:
        soonest = min(last.expires.items(), key=lambda item: item[1], default=("", 0.0))
        value = {
            **to_value(report),
            "problem": problem,
            "last_poll": {"tried": last.tried, "good": last.good, "problem": last.problem},
            "next_expiry": {"role": soonest[0], "at": soonest[1]},
        }
        click.echo(json.dumps(value))
    else:
        for line in (*_state(report, record), *_polls(last, now)):
            click.echo(line)
        if quality:
            click.echo(f"quality   {quality}")
    if problem:
        click.echo(f"problem: {problem}", err=True)


def _unusable(slots: Slots) -> str:
    """Return why the record's adapter could not be opened now, as far as that is visible without opening it."""
    from device_runtime.errors import DeviceRuntimeError

    entry = slots.record.runs
    if entry is None:
        return ""
    try:
        slots.load(entry)
        slots.check_counter()
    except DeviceRuntimeError as error:
        return str(error)
    return ""


def _state(report: Report, record: Record) -> Iterator[str]:
    """Give the lines about what is installed."""
    yield f"device    {report.device}, ring {report.channel}"
    yield f"state     {report.state}{f', {record.tries} tries left' if record.tries else ''}"
    yield f"base      {report.base[:16] or 'cannot be read'}"
    for name, entry in (
        ("runs", record.runs),
        ("waits", record.candidate if record.candidate != record.runs else None),
        ("previous", record.current if record.candidate == record.runs and record.candidate else record.previous),
    ):
        if entry:
            yield f"{name:<10}adapter {entry.adapter[:16]}, version {entry.version}, sequence {entry.sequence}"
        elif name == "runs":
            yield "runs      the base alone"
    if report.reason:
        yield f"because   {report.reason}"


def _polls(last: Polled, now: float) -> Iterator[str]:
    """Give the lines about the publisher: a monitor that is cut off says so."""
    if not last.tried:
        yield "polled    never"
        return
    failed = f"; since then {last.problem}" if last.problem else ""
    yield f"polled    {_ago(last.good, now) if last.good else 'never successfully'}{failed}"
    if last.revocations_signed:
        yield f"revoked   list signed {_ago(last.revocations_signed, now)}"
    if last.expires:
        role, at = min(last.expires.items(), key=lambda item: item[1])
        yield f"expires   {role}, {f'in {(at - now) / DAY:.0f} days' if at > now else _ago(at, now)}"


def _ago(moment: float, now: float) -> str:
    """Describe how long ago a moment was."""
    seconds = now - moment
    if seconds < 0:
        return "in the future: look at this monitor's clock"
    for unit, length in (("days", DAY), ("hours", 3_600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return "just now"
