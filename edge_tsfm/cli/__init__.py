"""The ``edge-tsfm`` command: one thin file per verb, imported only when that verb runs."""

from __future__ import annotations

import click

import edge_tsfm
from device_runtime.cli.lazy import LazyGroup
from device_runtime.cli.outcome import FAILED, STATUSES, fail, reported, say_statuses
from device_runtime.errors import DeviceRuntimeError
from edge_tsfm.errors import EdgeTsfmError, GateRefusedError
from export.errors import ExportError

EXTRAS = {
    "huggingface_hub",
    "torch",
    "pandas",
    "chronos",
    "peft",
    "onnx",
    "onnxscript",
    "optimum",
    "matplotlib",
    "tuf",
    "cryptography",
    "wfdb",
    "pyarrow",
    "neuralforecast",
    "statsforecast",
    "ray",
}

VERBS = {
    "demo": "simulate two wards, adapt to one, export, merge and forecast",
    "simulate": "write plausible ICU vital signs to train on",
    "pretrain": "pre-train a small Chronos base on synthetic series",
    "train": "adapt a frozen base to a ward, a monitor type or a patient",
    "evaluate": "score an adapter beside its base and simple baselines",
    "export": "write a base bundle or an adapter blob",
    "inspect": "say what a bundle, blob, run or data file holds",
    "verify": "check a blob against its bundle as a device would",
    "forecast": "forecast a file with a bundle and an adapter",
    "push": "share a run on the Hugging Face hub",
    "replay": "run a ward's history through the monitor's own verdicts",
    "adapt-eval": "run a ward's history through the monitor's own learning",
    "bench": "time the device runtime against torch",
    "bench-table": "time several bases and precisions, as one table and one page",
    "measure": "score a base zero-shot: the figures of its model card",
    "study": "compare methods beside baselines, from one file to one table",
    "deploy": "sign, approve, publish and roll out adapters",
}


@click.group(
    cls=LazyGroup,
    package=__name__,
    verbs=VERBS,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    epilog=say_statuses(STATUSES | {3: "a trained adapter is not accepted"}),
)
@click.version_option(edge_tsfm.__version__, prog_name="edge-tsfm")
def cli() -> None:
    """Adapt a frozen Chronos model with a few kilobytes, and run it on the bedside monitor."""


def main() -> None:
    """Run the command line."""
    run(cli, "edge-tsfm")


def run(command: click.Command, name: str) -> None:
    """Run a command; errors become text and an exit status (3 for a refused adapter)."""
    with reported(name, (EdgeTsfmError, DeviceRuntimeError, ExportError), _status):
        try:
            command(prog_name=name)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] not in EXTRAS:
                raise
            fail(
                name,
                f"this command needs {error.name}, which is not installed",
                "install edge-tsfm with the extra [all]",
            )


def _status(error: Exception) -> int:
    """Return the exit status of a known error."""
    return 3 if isinstance(error, GateRefusedError) else FAILED
