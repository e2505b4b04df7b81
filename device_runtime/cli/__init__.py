"""The ``edge-tsfm-device`` command: one thin file per verb, imported only when that verb runs."""

from __future__ import annotations

import os
from importlib import import_module

import click

from device_runtime.cli.outcome import STATUSES, reported, say_statuses
from device_runtime.errors import DeviceRuntimeError

VERBS = {
    "forecast": "forecast the series of a CSV file",
    "stream": "forecast a live feed, one sample a line",
    "selftest": "prove an adapter on this device",
    "install": "take a signed adapter into the device's slots",
    "status": "say what runs on this device",
    "confirm": "trust the adapter on trial",
    "rollback": "go back to the previous adapter, or the base",
    "update": "fetch and try what the fleet's repository offers",
    "audit": "export and verify the device's log",
    "bench": "time forecasts and activation on this device",
    "tuf-conformance": "speak the protocol of the public TUF conformance suite",
}
HIDDEN = {"tuf-conformance"}


class LazyGroup(click.Group):
    """A group whose commands live in ``device_runtime.cli.<verb>`` as ``command`` and load on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the verbs a person uses."""
        return [verb for verb in VERBS if verb not in HIDDEN]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one verb."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = import_module(f"device_runtime.cli.{cmd_name.replace('-', '_')}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(verb, VERBS[verb]) for verb in self.list_commands(ctx)])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    epilog=say_statuses(STATUSES),
)
@click.version_option(package_name="edge-tsfm", prog_name="edge-tsfm-device")
def cli() -> None:
    """Forecast on the monitor: verify, merge, prove, then forecast. Never torch."""


def main() -> None:
    """Run the command line; errors become text and an exit status."""
    # Merging is a few small matrix products: threads of BLAS cost more than they give. Set before numpy loads.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with reported("edge-tsfm-device", (DeviceRuntimeError,)):
        cli(prog_name="edge-tsfm-device")
