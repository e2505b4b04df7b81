"""``edge-tsfm adapt-eval``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from device_runtime.cli.options import (
    accept_option,
    context_steps,
    require_use_said,
    warn_of_use,
)
from device_runtime.cli.read_options import min_observed_option
from edge_tsfm.cli.progress import Progress, quiet_option
from edge_tsfm.cli.reading import read_options
from edge_tsfm.errors import ConfigError, DataError
from edge_tsfm.options import CONTEXT_LENGTH, PREDICTION_LENGTH
from edge_tsfm.progress import Work

if TYPE_CHECKING:
    from device_runtime.forecast.forecaster import Forecaster
    from edge_tsfm.data import Dataset, Part
    from edge_tsfm.evaluation.adaptation import AdaptEval
    from edge_tsfm.runs.adapt_eval import Predict

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command("adapt-eval")
@click.argument("data")
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="Base with its learning graph.",
)
@click.option("--adapter", type=FILE, help="Blob that the monitor runs.  [default: the base alone]")
@click.option("--beside", type=FILE, help="Blob to compare with, such as the workstation's adapter for this ward.")
@click.option("--target", help="Channel or column.  [default: what the adapter is for]")
@click.option(
    "--mode",
    type=click.Choice(["shadow", "active", "bounded"]),
    default="shadow",
    show_default=True,
    help="What the monitor may do: learn unseen, forecast with what it learnt, or follow each stream by tracking.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test", "all"]),
    default="validation",
    show_default=True,
    help="Whose stays: choose rules on validation patients, look at test patients once.",
)
@click.option("--config", type=FILE, help="TOML file with an [adapt] table, as a monitor's.  [default: the defaults]")
@click.option("--ward", type=click.IntRange(2), help="Stays in a ward, whole patients.  [default: all in one]")
@click.option("--wards", type=click.IntRange(1), help="Put through so many wards.  [default: all]")
@click.option("--seeds", type=click.IntRange(1), default=2, show_default=True, help="Orders of the patients.")
@click.option("--every", type=click.IntRange(1), help="bounded: steps between forecasts.  [default: one's length]")
@click.option("--offline/--no-offline", default=True, help="Also train on the same stays at once: the ceiling.")
@click.option("--faults", is_flag=True, help="Also with faults from the middle of each ward's history on.")
@click.option(
    "--simulate",
    type=click.IntRange(0),
    default=200,
    show_default=True,
    help="Wards in which nothing is to be gained, simulated to count false promotions.",
)
@click.option("--resamples", type=click.IntRange(100), default=1000, show_default=True, help="Draws of patients.")
@click.option("--context-length", type=click.IntRange(1), help="Latest steps to use.  [default: the adapter's, or 48]")
@click.option("--prediction-length", type=click.IntRange(1), help="Steps to forecast.  [default: the adapter's, or 6]")
@min_observed_option("12, or as many as the context has steps")
@read_options
@accept_option
@click.option(
    "--html", "html_file", type=click.Path(path_type=Path, dir_okay=False), help="Write one page with it all."
)
@quiet_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    data: str,
    bundle: Path,
    adapter: Path | None,
    beside: Path | None,
    target: str | None,
    mode: str,
    split: Part,
    config: Path | None,
    ward: int | None,
    wards: int | None,
    seeds: int,
    every: int | None,
    offline: bool,
    faults: bool,
    simulate: int,
    resamples: int,
    context_length: int | None,
    prediction_length: int | None,
    min_observed: int | None,
    accept: tuple[str, ...],
    html_file: Path | None,
    quiet: bool,
    as_json: bool,
    **reading: Any,
) -> None:
    """Put DATA, a ward's history, through a monitor's own learning: what it would have learnt, promoted, taken back.

    Stays come one behind another. Each is forecast by what was learnt from those before it, scored, and then learnt
    from. With several wards (--ward), what one ward taught is also scored on the next, beside training on the same
    stays at once.
    """
    from device_runtime.adapt.modes import Mode
    from device_runtime.adapt.rules import AdaptRules
    from device_runtime.files import write_atomic
    from device_runtime.forecast.learning import LearningSession
    from device_runtime.forecast.uses import binding_of
    from device_runtime.series.options import MIN_OBSERVED
    from edge_tsfm.data import DataOptions, read_dataset
    from edge_tsfm.data.split import DIGITS, split_digit
    from edge_tsfm.report.adapt import page, text
    from edge_tsfm.runs.adapt_eval import Options, adapt_eval, read_rules
    from edge_tsfm.runs.passages import Lengths
    from edge_tsfm.runs.replay import interval_ms_of

    rules = replace(read_rules(config) if config else AdaptRules(), mode=Mode(mode))
    bound = binding_of(adapter)
    name = target or (bound.name if bound else None)
    signal = bound.own_signal if bound else None
    dataset = read_dataset(data, DataOptions.of(reading), target=name, signal=signal)
    stays = [one for one in dataset.series if split_digit(one.item_id) in DIGITS[split]]
    if not stays:
        raise DataError(f"{data}: none of its {len(dataset.series)} stays is in the {split} split", hint="--split all")
    interval_ms = interval_ms_of(stays[0])
    runs = _forecaster(bundle, adapter, dataset, accept)
    context_length = context_steps(runs, context_length or (bound.context_length if bound else CONTEXT_LENGTH))
    lengths = Lengths(
        context_length=context_length,
        prediction_length=prediction_length or (bound.prediction_length if bound else PREDICTION_LENGTH),
        min_observed=min_observed or min(MIN_OBSERVED, context_length),
        interval_ms=interval_ms,
    )
    learnable = LearningSession.open(bundle, adapter)
    if lengths.prediction_length > learnable.prediction_length:
        raise ConfigError(
            f"--prediction-length {lengths.prediction_length}: want at most {learnable.prediction_length}, "
            "as far as what runs forecasts"
        )
    options = Options(
        rules=rules,
        lengths=lengths,
        levels=tuple(runs.bundle.manifest.quantile_levels),
        plausible=(bound.low, bound.high) if bound else dataset.report.plausible_range,
        ward=ward,
        wards=wards,
        seeds=seeds,
        every=every,
        offline=offline,
        faults=faults,
        simulated=simulate,
        resamples=resamples,
    )
    others = {"base": _predict(_forecaster(bundle, None, dataset, ()), lengths.prediction_length)} if adapter else {}
    if beside is not None:
        others["beside"] = _predict(_forecaster(bundle, beside, dataset, accept), lengths.prediction_length)
    work = Work()
    with Progress("adapt-eval", work, quiet=quiet) as progress:
        found = adapt_eval(stays, learnable, options, beside=others, work=work, tell=progress.update)
    if html_file is not None:
        write_atomic(html_file, page(found, f"Adaptation of {found.channel} on the device").encode())
    click.echo(_json(found, runs, split) if as_json else text(found))


def _forecaster(bundle: Path, blob: Path | None, dataset: Dataset, accept: tuple[str, ...]) -> Forecaster:
    """Open what a monitor would run."""
    from device_runtime.forecast.forecaster import Forecaster
    from device_runtime.forecast.uses import binding_of, signal_of
    from edge_tsfm.data.use import use_of

    use = replace(use_of(dataset), signal=signal_of([dataset.signal], binding_of(blob)))
    forecaster = Forecaster.open(bundle, blob, use=use, accept=accept)
    if blob is not None:
        require_use_said(forecaster)
        warn_of_use(forecaster)
    return forecaster


def _predict(forecaster: Forecaster, steps: int) -> Predict:
    """Forecast as a monitor does, context by context."""
    from edge_tsfm.runs.on_device import device_quantiles

    return lambda contexts: device_quantiles(forecaster, contexts, steps)


def _json(found: AdaptEval, runs: Forecaster, split: str) -> str:
    """Say it all for machines."""
    origin = {"bundle": runs.bundle.digest.hex(), "adapter": runs.adapter_digest, "split": split}
    return json.dumps({**origin, **found.to_value()}, indent=2, allow_nan=False)
