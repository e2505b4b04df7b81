"""``edge-tsfm replay``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from device_runtime.cli.asked import length_options, taken
from device_runtime.cli.options import (
    FiniteRange,
    accept_option,
    context_steps,
    require_use_said,
    warn_of_use,
)
from device_runtime.cli.quality import said_beside, said_figures
from device_runtime.cli.read_options import min_observed_option
from edge_tsfm.cli.paths import Existing
from edge_tsfm.cli.progress import Progress, quiet_option
from edge_tsfm.cli.reading import read_options, split_option
from edge_tsfm.errors import ConfigError
from edge_tsfm.progress import Work

if TYPE_CHECKING:
    from device_runtime.forecast.forecaster import Forecaster
    from edge_tsfm.data import Part
    from edge_tsfm.runs.history import History
    from edge_tsfm.runs.replay import Replay

BASE = "base"
FILE = Existing(dir_okay=False)


@click.command()
@click.argument("data")
@click.option("--bundle", type=Existing(file_okay=False), required=True, help="Base.")
@click.option("--adapter", type=FILE, required=True, help="Blob on trial.")
@click.option("--against", required=True, metavar="base|BLOB", help="What it is compared with, in shadow.")
@click.option("--target", help="Signal or column.  [default: what the adapter is for]")
@split_option("test", whose="Whose stays: on patients that it was trained on an adapter looks too good.")
@click.option("--stays", "most", type=click.IntRange(1), help="Number of stays to replay.  [default: all]")
@click.option(
    "--max-wql-percent",
    type=FiniteRange(-90, 1000),
    default=2.0,
    show_default=True,
    help="Allowed excess of its WQL over the other's: a monitor's max_wql_vs_base_percent.",
)
@click.option(
    "--min-scored",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="Steps forecast by both before a verdict.",
)
@click.option(
    "--shadow-every",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="The other also makes one forecast in so many.",
)
@click.option(
    "--judge-by",
    type=click.Choice(["block", "stay"]),
    default="block",
    show_default=True,
    help="One observation in the evidence: a block of two horizons, or a whole stay.",
)
@length_options(context="what the adapter is for", prediction="what the adapter is for")
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
    accept: tuple[str, ...],
    quiet: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Run the monitor's own code on DATA, a ward's history: what it would have decided about an adapter, and when.

    Stays follow one another, as at one bed. The trial is rolled back when its forecasts are shown to be worse than
    allowed, and passes when they are shown not to be; it may end without either. The drift flag, also after the trial,
    says that forecasts have become worse than the other's.
    """
    from device_runtime.quality.rules import QualityRules
    from device_runtime.update.health import HealthRules
    from edge_tsfm.runs.history import AskedLengths, read_history
    from edge_tsfm.runs.replay import replay

    health = HealthRules(max_wql_vs_base_percent=given.pop("max_wql_percent"), min_scored=given.pop("min_scored"))
    rules = QualityRules(shadow_every=given.pop("shadow_every"), unit=given.pop("judge_by"))
    asked = AskedLengths(**taken(AskedLengths, given))
    history = read_history(data, adapter, part=split, target=target, reading=given)
    runs, other = _opened(history, bundle, adapter, against, accept)
    warn_of_use(runs)
    lengths = history.lengths(asked)
    context_steps(runs, lengths.context_length)
    stays = history.stays[:most]
    work, clock = Work(), Lap()
    work.plan(stays=len(stays))
    with Progress("replay", work, quiet=quiet) as progress:

        def tell(text: str) -> None:
            work.add("stays", clock.lap())
            progress.update(text)

        found = replay(stays, runs, other, health=health, rules=rules, lengths=lengths, tell=tell)
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
    history: History, bundle: Path, adapter: Path, against: str, accept: tuple[str, ...]
) -> tuple[Forecaster, Forecaster]:
    """Open the forecaster on trial and the one that it is compared with."""
    beside = None if against == BASE else Path(against)
    if beside is not None and not beside.is_file():
        raise ConfigError(f"--against {against}: want {BASE}, or an adapter's file", hint=f"--against {BASE}")
    runs, other = (history.open(bundle, blob, accept) for blob in (adapter, beside))
    for forecaster in (runs, other):
        require_use_said(forecaster)
    if runs.adapter_digest == other.adapter_digest:
        raise ConfigError(f"--against {against} is the adapter itself", hint=f"--against {BASE}")
    return runs, other


def _lines(found: Replay) -> Iterator[str]:
    """Format it for people."""
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
