"""``edge-tsfm train``."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import click

from device_runtime.cli.options import FiniteRange
from device_runtime.cli.read_options import min_observed_option
from edge_tsfm.cli.method_options import method_options
from edge_tsfm.cli.progress import Progress, log_to_option, quiet_option
from edge_tsfm.cli.reading import read_options
from edge_tsfm.errors import ConfigError, GateRefusedError
from edge_tsfm.progress import Work


@click.command()
@click.argument("data", required=False)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for the run.")
@click.option("--target", "targets", multiple=True, help="Signal or column to forecast, such as MAP.")
@click.option(
    "--method",
    help="What to tune, such as bitfit, fourierft or bitfit+norms: docs/reference/methods.md.  [default: fourierft]",
)
@click.option("--base", help="Bundled name, local folder or hub id.  [default: edge-bolt-micro]")
@method_options
@click.option("--context-length", type=click.IntRange(1), help="Steps of context.  [default: 48]")
@click.option("--prediction-length", type=click.IntRange(1), help="Steps to forecast.  [default: 6]")
@click.option("--steps", type=click.IntRange(1), help="Most training steps.  [default: 800]")
@click.option("--batch-size", type=click.IntRange(1), help="Windows in a step.  [default: 256]")
@click.option("--learning-rate", type=FiniteRange(), help="Peak learning rate.  [default: the method's own]")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Same seed, same adapter (on CPU).  [default: 0]")
@read_options
@min_observed_option("12")
@click.option(
    "--split-by",
    type=click.Choice(["item", "time"]),
    help="Split by item, or by time for a few long series.  [default: item]",
)
@click.option(
    "--block-length",
    type=click.IntRange(1),
    help="With --split-by time: length of the bootstrap's blocks.  [default: a context]",
)
@click.option("--season", help="Season of a seasonal baseline in evaluations: 1d, or steps.")
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path, dir_okay=False), help="TOML with the same options."
)
@click.option(
    "--group-by",
    metavar="COLUMN",
    help="Train an adapter for each value of a column, such as ward or bed, in one pass.",
)
@click.option("--ray", metavar="ADDRESS", help="With --group-by: use a Ray cluster; auto, or local to start one here.")
@click.option("--resume", is_flag=True, help="Continue a run that was killed.")
@click.option("--force", is_flag=True, help="Accept an adapter that the gate refuses; recorded in run and blob.")
@log_to_option
@quiet_option
@click.option("--json", "as_json", is_flag=True, help="Print the run's record as JSON.")
def command(
    data: str | None,
    out: Path,
    targets: tuple[str, ...],
    config_file: Path | None,
    group_by: str | None,
    ray: str | None,
    resume: bool,
    force: bool,
    log_to: tuple[str, ...],
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Adapt a frozen base to DATA with a few hundred to a few thousand parameters.

    Trains on the patients of the training split and stops early on validation patients. The gate then compares the
    adapter with its frozen base on other validation patients; without a significant gain it is not accepted (exit 3).
    A few long series are split by time instead: --split-by time. With --group-by, OUT gets a run folder for each group;
    one that cannot be trained does not stop the others.
    """
    from edge_tsfm.report.verdict import RunVerdict
    from edge_tsfm.runs.log_to import open_loggers
    from edge_tsfm.runs.train import train
    from edge_tsfm.training.callbacks import Callback, Figures
    from edge_tsfm.training.config import load_config

    if len(targets) > 1:
        raise ConfigError(
            f"--target {' --target '.join(targets)}: an adapter is trained on one target at a time",
            hint="train one for each; several can be forecast jointly (Chronos-2) with any of these adapters",
        )
    options["target"] = targets[0] if targets else None
    if options["target_modules"]:
        options["target_modules"] = tuple(part.strip() for part in options["target_modules"].split(","))
    config = load_config(config_file, {"data": os.path.realpath(data) if data else None, **options})
    if group_by is not None:
        from edge_tsfm.cli.train_groups import train_and_say

        train_and_say(
            config, out, group_by, ray=ray, resume=resume, force=force, log_to=log_to, quiet=quiet, as_json=as_json
        )
        return
    if ray is not None:
        raise ConfigError("--ray is for --group-by", hint="one run needs no cluster")
    with Progress(f"train {config.method}", Work(), quiet=quiet) as progress:

        class Shown(Callback):
            held = math.nan

            def on_step(self, step: int, figures: Figures) -> None:
                self.held = figures.get("validation_score", self.held)
                if step:
                    text = f"step {step:,} of at most {config.steps:,}, loss {figures['training_loss']:.3f}"
                    progress.update(f"{text}, validation {self.held:.5f}", mark="validation_score" in figures)

        heard = [Shown(), *open_loggers(log_to, out)]
        run = train(config, out, resume=resume, force=force, callbacks=heard, work=progress.work, remark=progress.say)
    record, gate = run.record, run.gate
    if as_json:
        click.echo(json.dumps(record))
    else:
        training = record["training"]
        click.echo(
            f"{out}: {config.method} on {record['base']['name']}, {record['parameters']:,} parameters in "
            f"{len(record['tensors'])} tensors, {training['seconds']:.0f} s"
        )
        click.echo(
            f"  validation {training['metric']} {training['base']:.5f} (frozen base) → {training['best']:.5f} at step "
            f"{training['best_step']}{' (stopped early)' if training['stopped_early'] else ''}"
        )
        for line in RunVerdict(gate=gate).text.splitlines():
            click.echo(f"  {line}")
    if not gate["accepted"] and not force:
        raise GateRefusedError(
            f"the adapter is not accepted: {gate['reason']}",
            hint="\nhint: ".join(
                [*record["advice"], f"the run is kept in {out}; export adapter --force would mark the blob as forced"]
            ),
        )
