"""Logging of runs to TensorBoard, MLflow and Weights & Biases, each through its own library.

A library is imported only when it is requested, and its own telemetry is off (docs/adr/0018). The log holds what the
run record holds, without the path of the data.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from secrets import token_hex
from typing import Any

from device_runtime.nearest import did_you_mean
from edge_tsfm.errors import ConfigError
from edge_tsfm.runs.logged import LONGEST, as_table, as_text, begun, flat, shared, verdict
from edge_tsfm.training.callbacks import Callback, Figures

PROJECT = "edge-tsfm"  # MLflow's experiment and wandb's project, unless the environment names one
BATCH = 200  # metrics in one request to MLflow; a server accepts up to 1,000


def open_loggers(names: Iterable[str], out: Path) -> list[Callback]:
    """Return callbacks that log the run in the folder ``out`` to the tools ``names``, one for each.

    Raises `ConfigError` if one is unknown or not installed, before any is opened: opening MLflow creates its store.
    """
    return [make(out) for make in check_loggers(names)]


def check_loggers(names: Iterable[str]) -> list[Callable[[Path], Callback]]:
    """Return what makes each logger. Raises `ConfigError` like `open_loggers`, which opens them."""
    return [_maker(name) for name in dict.fromkeys(names)]


def open_group_loggers(names: Iterable[str]) -> Callable[[str, Path], list[Callback]]:
    """Return what gives each group's run, by name and folder, the loggers of `open_loggers`.

    Raises `ConfigError` as that, and for a tool that logs one run in a process.
    """
    chosen = tuple(dict.fromkeys(names))
    for name in chosen:
        _maker(name)
    if "wandb" in chosen:
        raise ConfigError(
            "log_to: wandb logs one run in a process, group_by trains many",
            hint="tensorboard or mlflow log all of them",
        )
    return lambda _, folder: open_loggers(chosen, folder)


def _maker(name: str) -> Callable[[Path], Callback]:
    if name not in LOGGERS:
        hint = f"{did_you_mean(name, LOGGERS)}one of {', '.join(LOGGERS)}"
        raise ConfigError(f"log_to: no tool is called {name!r}", hint=hint)
    make, module = LOGGERS[name]
    if find_spec(module) is None:
        raise ConfigError(
            f"--log-to {name} needs {module}, which is not installed", hint=f"pip install 'edge-tsfm[{name}]'"
        )
    return make


class TensorBoard(Callback):
    """Event files in ``OUT/tensorboard``; a resumed run replaces what was logged after its checkpoint."""

    def __init__(self, out: Path) -> None:
        self._folder = out / "tensorboard"
        self._facts: Mapping[str, Any] = {}
        self._writer: Any = None

    def on_begin(self, facts: Mapping[str, Any]) -> None:
        """Keep the facts: they are written at the first step, whose number is not known yet."""
        self._facts = facts

    def on_step(self, step: int, figures: Figures) -> None:
        """Write a step's figures."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=step or None)
            self._writer.add_text("run", as_table(dict(flat(self._facts))), step)
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def on_end(self, record: Mapping[str, Any] | None) -> None:
        """Write the verdict and close the file."""
        if self._writer is None:
            return
        if record is not None and (said := verdict(record)):
            self._writer.add_text("verdict", said.reason, said.step)
            for name, value in said.figures.items():
                self._writer.add_scalar(f"gate/{name}", value, said.step)
        self._writer.close()


class Mlflow(Callback):
    """A run on the server or in the store that MLflow's own settings name (``MLFLOW_TRACKING_URI``)."""

    def __init__(self, out: Path) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before the import, which starts telemetry
        from mlflow import MlflowClient

        self._out, self._client = out, MlflowClient()
        self._id = ""
        self._figures: list[Any] = []

    def on_begin(self, facts: Mapping[str, Any]) -> None:
        """Begin a run, or go on with the one that this folder began."""
        with _of_mlflow():
            self._begin(facts)

    def _begin(self, facts: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = self._client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self._client.create_experiment(name)
        self._id = begun(
            self._out, "mlflow", lambda: str(self._client.create_run(experiment, run_name=self._out.name).info.run_id)
        )
        params = [Param(key, as_text(value)) for key, value in flat(facts)]
        self._client.log_batch(self._id, params=params)

    def on_step(self, step: int, figures: Figures) -> None:
        """Collect a step's figures; send them once there are `BATCH` of them."""
        from mlflow.entities import Metric

        now = int(time.time() * 1_000)
        self._figures += [Metric(name, value, now, step) for name, value in figures.items()]
        if len(self._figures) >= BATCH:
            with _of_mlflow():
                self._send()

    def on_end(self, record: Mapping[str, Any] | None) -> None:
        """Send the remaining figures, the verdict and the record."""
        with _of_mlflow():
            self._end(record)

    def _end(self, record: Mapping[str, Any] | None) -> None:
        if not self._id:
            return
        self._send()
        if record is not None and (said := verdict(record)):
            for name, value in said.figures.items():
                self._client.log_metric(self._id, f"gate_{name}", value, step=said.step)
            self._client.set_tag(self._id, "verdict", as_text(said.reason))
        if record is not None:
            self._client.log_dict(self._id, shared(record), "run.json")
        self._client.set_terminated(self._id, "FAILED" if record is None else "FINISHED")

    def _send(self) -> None:
        self._client.log_batch(self._id, metrics=self._figures)
        self._figures = []


class WeightsAndBiases(Callback):
    """A wandb run, configured by wandb's own settings (``WANDB_MODE=offline``); its files are in ``OUT/wandb``."""

    def __init__(self, out: Path) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self._out = out
        self._run: Any = None

    def on_begin(self, facts: Mapping[str, Any]) -> None:
        """Begin a run, or go on with the one that this folder began."""
        import wandb

        name = begun(self._out, "wandb", lambda: token_hex(4))
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT), name=self._out.name, id=name, resume="allow",
                dir=str(self._out), config=dict(flat(facts)),
                settings=wandb.Settings(silent=True, disable_git=True, save_code=False, x_disable_stats=True),
            )  # fmt: skip
        except wandb.errors.Error as error:
            hint = "wandb login; or WANDB_MODE=offline, and wandb sync later"
            raise ConfigError(f"--log-to wandb: {error}", hint=hint) from error

    def on_step(self, step: int, figures: Figures) -> None:
        """Write a step's figures."""
        self._run.log(dict(figures), step=step)

    def on_end(self, record: Mapping[str, Any] | None) -> None:
        """Write the verdict and close the run."""
        if self._run is None:
            return
        if record is not None and (said := verdict(record)):
            figures = {f"gate/{name}": value for name, value in said.figures.items()}
            self._run.summary.update({"verdict": said.reason, **figures})
        self._run.finish(exit_code=int(record is None))


# Name → class of the logger, and the module that it needs.
LOGGERS: Mapping[str, tuple[Callable[[Path], Callback], str]] = {
    "tensorboard": (TensorBoard, "tensorboard"),
    "mlflow": (Mlflow, "mlflow"),
    "wandb": (WeightsAndBiases, "wandb"),
}


@contextmanager
def _of_mlflow() -> Iterator[None]:
    """Convert MLflow's errors to `ConfigError`."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        hint = "MLFLOW_TRACKING_URI names the server or store; training goes on with --resume"
        raise ConfigError(f"--log-to mlflow: {str(error).splitlines()[0][:LONGEST]}", hint=hint) from error
