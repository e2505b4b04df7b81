"""``edge-tsfm-device update``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import click

from device_runtime.cli.device_options import config_option, device, who_option
from device_runtime.cli.options import json_option
from device_runtime.errors import UnsupportedError


@click.command()
@config_option
@click.option("--repository", help="Another repository for this time: an address, or a folder such as a stick.")
@click.option("--activate", is_flag=True, help="Begin the trial now, whatever the policy says but an inhibit file.")
@who_option
@json_option
def command(config_path: Path, repository: str | None, activate: bool, who: str, as_json: bool) -> None:
    """Poll the repository once: verify, fetch, prove and stage what is rolled out for this monitor.

    The exit status is 0 also when there is nothing to do, and 1 when something was refused or failed; what runs goes
    on in either case. Run it from a timer with jitter.
    """
    try:
        from device_runtime.agent import Agent
    except ImportError as error:
        raise UnsupportedError(
            f"the update client is not installed: {error}", hint="pip install 'edge-tsfm[agent]'"
        ) from error
    from device_runtime.install import Installer

    with device(config_path) as (own, slots):
        config = replace(own, repository=repository) if repository else own
        outcome = Agent(config, slots, Installer.of(config)).poll(activate_now=activate, who=who)
    if as_json:
        click.echo(json.dumps(asdict(outcome)))
    else:
        what = f" (sequence {outcome.sequence})" if outcome.sequence is not None else ""
        click.echo(f"{outcome.action}{what}{': ' + outcome.reason if outcome.reason else ''}")
        if outcome.report_failed:
            click.echo(f"report not sent: {outcome.report_failed}", err=True)
    if outcome.action in ("refused", "failed"):
        sys.exit(1)
