"""``edge-tsfm replay``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from device_runtime.cli.options import (
    FiniteRange,
    accept_option,
    context_steps,
    require_use_said,
    warn_of_use,
)
from device_runtime.cli.quality import said_beside, said_figures
from device_runtime.cli.read_options import min_observed_option
from edge_tsfm.cli.progress import Progress, quiet_option
from edge_tsfm.cli.reading import read_options
from edge_tsfm.errors import ConfigError, DataError
from edge_tsfm.options import CONTEXT_LENGTH, PREDICTION_LENGTH
from edge_tsfm.progress import Work

if TYPE_CHECKING:
    from device_runtime.forecast.forecaster import Forecaster
    from edge_tsfm.data import Dataset, Part
    from edge_tsfm.runs.replay import Replay

BASE = "base"
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.argument("data")
@click.option("--bundle", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True, help="Base.")
@click.option("--adapter", type=FILE, required=True, help="Blob on trial.")
@click.option("--against", required=True, metavar="base|BLOB", help="What it is judged against, in shadow.")
@click.option("--target", help="Signal or column.  [default: what the adapter is for]")
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test", "all"]),
    default="test",
    show_default=True,
    help="Whose stays: an adapter is judged too well on patients it was trained on.",
)
@click.option("--stays", "most", type=click.IntRange(1), help="Replay the first so many.  [default: all]")
@click.option(
    "--max-wql-percent",
    type=FiniteRange(-90, 1000),
    default=2.0,
    show_default=True,
    help="How much worse than the other it may be: a monitor's max_wql_vs_base_percent.",
)
@click.option(
    "--min-scored",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="Steps scored beside the other before a verdict.",
)
@click.option(
    "--shadow-every",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="One forecast in so many is made by the other too.",
)
@click.option(
    "--judge-by",
    type=click.Choice(["block", "stay"]),
    default="block",
    show_default=True,
    help="What one piece of evidence is: a block of two horizons, or a whole stay.",
)
@click.option(
    "--context-length", type=click.IntRange(1), help="Latest steps to use.  [default: what the adapter is for]"
)
@click.option(
    "--prediction-length", type=click.IntRange(1), help="Steps to forecast.  [default: what the adapter is for]"
)
@min_observed_option("12, or as many as the context has steps")
@read_options
@accept_option
@quiet_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    data: str,
    bundle: Path,
    adapter: Path,
    against: str,
    target: str | None,
    split: Part,
    most: int | None,
    max_wql_percent: float,
    min_scored: int,
    shadow_every: int,
    judge_by: Literal["block", "stay"],
    context_length: int | None,
    prediction_length: int | None,
    min_observed: int | None,
    accept: tuple[str, ...],
    quiet: bool,
    as_json: bool,
    **reading: Any,
) -> None:
    """Run DATA, a ward's history, through the monitor's own code: what it would have decided of an adapter, and when.

    Stays come one behind another, as they would to one bed. The trial is taken back when its forecasts are shown to be
    worse than what is allowed, and passes when they are shown not to be; it may end with neither. Without a trial's end
    or behind it, the drift flag says that forecasts became worse than the other's.
    """
    from device_runtime.forecast.uses import binding_of
    from device_runtime.quality.rules import QualityRules
    from device_runtime.series.options import MIN_OBSERVED
    from device_runtime.update.health import HealthRules
    from edge_tsfm.data import DataOptions, read_dataset
    from edge_tsfm.data.split import DIGITS, split_digit
    from edge_tsfm.runs.replay import interval_ms_of, replay

    health = HealthRules(max_wql_vs_base_percent=max_wql_percent, min_scored=min_scored)
    rules = QualityRules(shadow_every=shadow_every, unit=judge_by)
    bound = binding_of(adapter)
    name = target or (bound.name if bound else None)
    signal = bound.own_signal if bound else None
    dataset = read_dataset(data, DataOptions.of(reading), target=name, signal=signal)
    series = [one for one in dataset.series if split_digit(one.item_id) in DIGITS[split]][:most]
    if not series:
        raise DataError(f"{data}: none of its {len(dataset.series)} stays is in the {split} split", hint="--split all")
    interval_ms_of(series[0])  # before anything slow
    runs, other = _opened(bundle, adapter, against, dataset, accept)
    warn_of_use(runs)
    context_length = context_steps(runs, context_length or (bound.context_length if bound else CONTEXT_LENGTH))
    work = Work()
    work.plan(stays=len(series))
    with Progress("replay", work, quiet=quiet) as progress:

        def tell(text: str) -> None:
            work.add("stays", work_clock.lap())
            progress.update(text)

        work_clock = Lap()
        found = replay(
            series,
            runs,
            other,
            health=health,
            rules=rules,
            context_length=context_length,
            prediction_length=prediction_length or (bound.prediction_length if bound else PREDICTION_LENGTH),
            min_observed=min_observed or min(MIN_OBSERVED, context_length),
            tell=tell,
        )
    if as_json:
        click.echo(json.dumps({"verdict": found.verdict, "split": split, **asdict(found), "channel": found.signal}))
        return
    for line in _lines(found):
        click.echo(line)


class Lap:
    """Seconds since it was last asked."""

    def __init__(self) -> None:
        self._at = time.monotonic()

    def lap(self) -> float:
        """Return them, and begin anew."""
        before, self._at = self._at, time.monotonic()
        return self._at - before


def _opened(
    bundle: Path, adapter: Path, against: str, dataset: Dataset, accept: tuple[str, ...]
) -> tuple[Forecaster, Forecaster]:
    """Open what is on trial and what it is judged against."""
    from device_runtime.forecast.forecaster import Forecaster
    from device_runtime.forecast.uses import binding_of, signal_of
    from edge_tsfm.data.use import use_of

    beside = None if against == BASE else Path(against)
    if beside is not None and not beside.is_file():
        raise ConfigError(f"--against {against}: want {BASE}, or an adapter's file", hint=f"--against {BASE}")
    use = use_of(dataset)
    opened = []
    for blob in (adapter, beside):
        own = replace(use, signal=signal_of([dataset.signal], binding_of(blob)))
        forecaster = Forecaster.open(bundle, blob, use=own, accept=accept)
        require_use_said(forecaster)
        opened.append(forecaster)
    runs, other = opened
    if runs.adapter_digest == other.adapter_digest:
        raise ConfigError(f"--against {against} is the adapter itself", hint=f"--against {BASE}")
    return runs, other


def _lines(found: Replay) -> Iterator[str]:
    """Say it for people."""
    other = "the base alone" if found.against is None else f"adapter {found.against[:16]}"
    yield f"adapter {found.adapter[:16]} against {other}: {found.verdict}"
    yield f"{found.stays:,} stays of {found.signal}, {found.forecasts:,} forecasts"
    for one in found.events:
        yield (
            f"  {one.what} in stay {one.stay:,} (item {one.item_id}), step {one.step}, "
            f"after {one.scored:,} scored steps: {one.why}"
        )
    yield f"in all: {said_figures(found.figures)}"
    for name, beside in found.figures["against"].items():
        yield f"  {said_beside(name, beside)}"
