"""The ``edge-tsfm-device`` command: one thin file per verb, imported only when that verb runs."""

from __future__ import annotations

import os

import click

import device_runtime
from device_runtime.cli.lazy import LazyGroup
from device_runtime.cli.outcome import STATUSES, reported, say_statuses
from device_runtime.errors import DeviceRuntimeError

VERBS = {
    "forecast": "forecast the series of a CSV file",
    "stream": "forecast a live feed, one sample a line",
    "selftest": "prove an adapter on this device",
    "install": "take a signed adapter into the device's slots",
    "status": "say what runs on this device",
    "quality": "say how good this device's forecasts were",
    "adapt": "look after what this device learns by itself",
    "confirm": "trust the adapter on trial",
    "rollback": "go back to the previous adapter, or the base",
    "update": "fetch and try what the fleet's repository offers",
    "audit": "export and verify the device's log",
    "bench": "time forecasts and activation on this device",
    "providers": "list where this device can run a base",
    "prove": "measure a base on an accelerator, so that it may run there",
}


@click.group(
    cls=LazyGroup,
    package=__name__,
    verbs=VERBS,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    epilog=say_statuses(STATUSES),
)
@click.version_option(device_runtime.__version__, prog_name="edge-tsfm-device")
def cli() -> None:
    """Forecast on the monitor: verify, merge, run the known-answer test, then forecast. Needs no torch."""


def main() -> None:
    """Run the command line; errors become text and an exit status."""
    # Merging is a few small matrix products: threads of BLAS cost more than they give. Set before numpy loads.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with reported("edge-tsfm-device", (DeviceRuntimeError,)):
        cli(prog_name="edge-tsfm-device")
