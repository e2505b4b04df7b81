"""``edge-tsfm-device update``."""

from __future__ import annotations

import faulthandler
import json
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from device_runtime.cli.device_options import config_option, who_option
from device_runtime.cli.options import FiniteRange, json_option
from device_runtime.errors import MissingLibraryError


@click.command()
@config_option
@click.option("--repository", help="Use another repository this time: an address, or a folder such as a USB stick.")
@click.option(
    "--activate", is_flag=True, help="Begin the trial now regardless of the policy, unless an inhibit file forbids it."
)
@click.option("--deadline", type=click.IntRange(1), default=300, help="Seconds after which a hanging poll is ended.")
@click.option(
    "--every",
    type=FiniteRange(60, 30 * 86_400),
    help="Poll repeatedly, this many seconds apart, with jitter and backoff.",
)
@who_option
@json_option
def command(config_path: Path, every: float | None, as_json: bool, **options: Any) -> None:
    """Poll the repository once: verify, fetch, test and stage what is rolled out for this monitor.

    The exit status is 0 also if there is nothing to do, and 1 if something was refused or failed; the running adapter
    continues in either case. Run it from a timer with jitter, or repeatedly with --every: each interval is randomised
    by 20 %, and doubled after each failure, up to a day. With --every each poll is a separate process: one that hangs
    until its deadline, or dies, counts as a failure, and the next one follows.
    """
    try:
        from device_runtime.update.agent.poll import next_poll
    except ImportError as error:
        raise MissingLibraryError(
            f"the update client is not installed: {error}", hint="install edge-tsfm-device[agent]"
        ) from error
    if every is None:
        sys.exit(1 if _poll(config_path, as_json, **options) else 0)
    once = _command(config_path, as_json, **options)
    failures = 0
    while True:
        failures = failures + 1 if subprocess.run(once, check=False).returncode else 0
        time.sleep(next_poll(every, failures))


def _command(
    config_path: Path, as_json: bool, *, repository: str | None, activate: bool, deadline: int, who: str
) -> list[str]:
    """Return the command that polls once."""
    command = [sys.executable, "-m", "device_runtime.cli", "update"]
    command += [f"--config={config_path}", f"--deadline={deadline}", f"--who={who}"]
    command += [f"--repository={repository}"] if repository else []
    return command + [flag for flag, wanted in (("--activate", activate), ("--json", as_json)) if wanted]


def _poll(config_path: Path, as_json: bool, *, repository: str | None, activate: bool, deadline: int, who: str) -> bool:
    """Poll once and say what came of it; return whether something was refused or failed."""
    from device_runtime.monitor import installer_of
    from device_runtime.update.agent.poll import Agent
    from device_runtime.update.settings import read_config

    # A poll that hangs, wherever it does, dies here: every change of it is durable and whole, the next one goes on.
    faulthandler.dump_traceback_later(deadline, exit=True, file=2)
    try:
        own = read_config(config_path)
        config = replace(own, repository=repository) if repository else own
        outcome = Agent(config, installer_of(config)).poll(activate_now=activate, who=who)
    finally:
        faulthandler.cancel_dump_traceback_later()
    if as_json:
        click.echo(json.dumps(asdict(outcome)))
    else:
        what = f" (sequence {outcome.sequence})" if outcome.sequence is not None else ""
        click.echo(f"{outcome.action}{what}{': ' + outcome.reason if outcome.reason else ''}")
        if outcome.envelope:
            click.echo(f"envelope {outcome.envelope}", err=outcome.envelope.startswith("not"))
        if outcome.report_failed:
            click.echo(f"report not sent: {outcome.report_failed}", err=True)
    return outcome.action in ("refused", "failed")
