"""``edge-tsfm pretrain``: make a base from generated series, or continue one with few parameters."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_tsfm.cli.paths import Existing
from edge_tsfm.cli.progress import Progress as Display
from edge_tsfm.cli.progress import log_to_option, quiet_option
from edge_tsfm.errors import ConfigError
from edge_tsfm.progress import Work

if TYPE_CHECKING:
    from edge_tsfm.research.pretraining.checkpoint import Progress
    from edge_tsfm.research.pretraining.config import PretrainConfig
    from edge_tsfm.training.callbacks import Callback

CONFIGS = Path(__file__).resolve().parent.parent / "research" / "pretraining" / "configs"


@click.command("pretrain")
@click.option("--config", "config_name", metavar="NAME|FILE", help="A built-in configuration or a TOML file.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of the run.")
@click.option("--list", "list_them", is_flag=True, help="List the built-in configurations.")
@click.option("--pace", is_flag=True, help="Only measure the series per second of generator and trainer.")
@click.option("--steps", type=click.IntRange(min=1), help="Total steps; may change when a run is resumed.")
@click.option(
    "--decay-steps", type=click.IntRange(min=0), help="Last steps, over which the learning rate decays to zero."
)
@click.option(
    "--validate-on",
    type=Existing(),
    help="Real data for validation only, never for training.",
)
@click.option("--target", "targets", multiple=True, help="Column of that data; may be repeated.")
@click.option(
    "--validation-windows", type=click.IntRange(min=1), default=1000, help="Real windows per target and validation."
)
@click.option(
    "--base",
    default=None,
    metavar="NAME|FOLDER|HUB_ID",
    help="Continue from this base instead of starting from scratch.",
)
@click.option("--method", help="Tune only what this method attaches (fourierft, bitfit, norms, …); needs --base.")
@click.option("--device", help="cpu, cuda or cuda:N.  [default: a GPU if there is one]")
@click.option("--resume/--no-resume", default=True, help="Continue from the run's last checkpoint.")
@log_to_option
@quiet_option
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def command(
    *,
    config_name: str | None,
    out: Path | None,
    list_them: bool,
    pace: bool,
    steps: int | None,
    decay_steps: int | None,
    validate_on: Path | None,
    targets: tuple[str, ...],
    validation_windows: int,
    base: str | None,
    method: str | None,
    device: str | None,
    resume: bool,
    log_to: tuple[str, ...],
    quiet: bool,
    as_json: bool,
) -> None:
    """Pre-train a small Chronos base on generated series only.

    Several GPUs: accelerate launch -m edge_tsfm.cli pretrain …
    """
    if list_them:
        click.echo("\n".join(sorted(path.stem for path in CONFIGS.glob("*.toml"))))
        return
    if config_name is None:
        raise click.UsageError("--config is needed (--list names the built-in ones)")
    if pace:
        from edge_tsfm.research.pretraining.pace import measure_pace

        _say(measure_pace(_read(config_name, steps, decay_steps), device=device), as_json)
        return
    if out is None:
        raise click.UsageError("--out is needed: the folder of the run")
    if method is not None and base is None:
        raise click.UsageError("--method continues a base: give it with --base")
    config = _read(config_name, steps, decay_steps)

    from edge_tsfm.research.pretraining.few import Continued
    from edge_tsfm.research.pretraining.run import pretrain
    from edge_tsfm.runs.log_to import open_loggers
    from edge_tsfm.training.callbacks import Several

    heard, work = Several(open_loggers(log_to, out)), Work()
    record = None
    try:
        with Display(f"pretrain {config.name}", work, quiet=quiet) as shown:
            outcome = pretrain(
                config,
                out,
                continued=None if base is None else Continued(base=base, method=method),
                validate_on=validate_on,
                targets=targets,
                validation_windows=validation_windows,
                resume=resume,
                device=device,
                on_log=_Lines(config, _Pace(config, work, shown), heard),
            )
        record = outcome.to_dict()
    finally:
        heard.on_end(record)
    _say(record, as_json)


class _Lines:
    """Passes each line of a run's curve to the display and to the logs."""

    def __init__(self, config: PretrainConfig, pace: _Pace, heard: Callback) -> None:
        self._config, self._pace, self._heard, self._begun = config, pace, heard, False

    def __call__(self, progress: Progress) -> None:
        """Take one line."""
        if not self._begun:
            self._heard.on_begin({"config": self._config.to_dict()})
            self._begun = True
        row = {name: value for name, value in progress.curve[-1].items() if name != "step"}
        self._heard.on_step(progress.step, row)
        self._pace(progress)


class _Pace:
    """Shows how far a run is, and learns from its lines how long the rest will take."""

    def __init__(self, config: PretrainConfig, work: Work, shown: Display) -> None:
        self._config, self._work, self._shown = config, work, shown
        self._since, self._last = time.monotonic(), -1

    def __call__(self, progress: Progress) -> None:
        """Take one line of the run's curve."""
        row, now, in_all = progress.curve[-1], time.monotonic(), self._config.optimiser.steps
        if self._last < 0:  # the first line of a run or of the rest of one: what was before it is not of its pace
            done = self._config.log_every
            seconds = done * progress.series / progress.step / row["series_per_second"]
        else:  # looks at the model and checkpoints are between the lines, and count
            done, seconds = progress.step - self._last, now - self._since
        self._work.plan(steps=in_all - progress.step + done)
        self._work.add("steps", seconds, done)
        self._since, self._last = now, progress.step
        self._shown.update(
            f"step {progress.step:,} of {in_all:,}, loss {row['loss']:.3f}, {row['series_per_second']:.0f} series/s"
        )


def _say(report: dict[str, Any], as_json: bool) -> None:
    """Print a report for people or for programs."""
    lines = "\n".join(f"{key}: {value}" for key, value in report.items())
    click.echo(json.dumps(report, indent=2) if as_json else lines)


def _read(name: str, steps: int | None, decay_steps: int | None) -> PretrainConfig:
    """Find a configuration by name or path and apply the options that change it."""
    from edge_tsfm.research.pretraining.config import read_config

    built_in = CONFIGS / f"{name}.toml"
    path = built_in if built_in.exists() else Path(name)
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in CONFIGS.glob("*.toml")))
        raise ConfigError(f"no configuration {name}", hint=f"a TOML file, or one of: {known}")
    config = read_config(path)
    optimiser = config.optimiser
    if steps is not None:
        optimiser = dataclasses.replace(optimiser, steps=steps)
    if decay_steps is not None:
        optimiser = dataclasses.replace(optimiser, decay_steps=decay_steps)
    return dataclasses.replace(config, optimiser=optimiser)
