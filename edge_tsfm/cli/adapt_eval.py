"""``edge-tsfm adapt-eval``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from device_runtime.cli.asked import length_options, taken
from device_runtime.cli.options import (
    accept_option,
    context_steps,
    require_use_said,
    warn_of_use,
)
from device_runtime.cli.read_options import min_observed_option
from edge_tsfm.cli.paths import Existing, NewFile
from edge_tsfm.cli.progress import Progress, quiet_option
from edge_tsfm.cli.reading import read_options, split_option
from edge_tsfm.errors import ConfigError
from edge_tsfm.progress import Work

if TYPE_CHECKING:
    from device_runtime.adapt.rules import AdaptRules
    from device_runtime.forecast.forecaster import Forecaster
    from device_runtime.forecast.learning import LearningSession
    from edge_tsfm.data import Part
    from edge_tsfm.evaluation.adaptation import AdaptEval
    from edge_tsfm.runs.adapt_eval import Predict
    from edge_tsfm.runs.history import History, Lengths

FILE = Existing(dir_okay=False)


@click.command("adapt-eval")
@click.argument("data")
@click.option(
    "--bundle",
    type=Existing(file_okay=False),
    required=True,
    help="Base with its learning graph.",
)
@click.option("--adapter", type=FILE, help="Blob that the monitor runs.  [default: the base alone]")
@click.option("--beside", type=FILE, help="Blob to compare with, such as the workstation's adapter for this ward.")
@click.option("--target", help="Signal or column.  [default: what the adapter is for]")
@click.option(
    "--mode",
    type=click.Choice(["shadow", "active", "bounded"]),
    default="shadow",
    show_default=True,
    help="What the monitor may do: learn in shadow, forecast with what it learnt, or also track each stream.",
)
@split_option("validation", whose="Patients whose stays to use: choose rules on validation, use test only once.")
@click.option("--config", type=FILE, help="TOML file with an [adapt] table, as a monitor's.  [default: the defaults]")
@click.option(
    "--ward", type=click.IntRange(2), help="Stays in a ward; patients are not split.  [default: all in one ward]"
)
@click.option("--wards", type=click.IntRange(1), help="Number of wards to run.  [default: all]")
@click.option("--seeds", type=click.IntRange(1), default=2, show_default=True, help="Orders of the patients.")
@click.option(
    "--every", type=click.IntRange(1), help="bounded: steps between forecasts.  [default: the prediction length]"
)
@click.option(
    "--offline/--no-offline", default=True, help="Also train on all of the same stays at once, as an upper reference."
)
@click.option("--faults", is_flag=True, help="Also run with sensor faults in the second half of each ward's history.")
@click.option(
    "--simulate",
    "simulated",
    type=click.IntRange(0),
    default=2000,
    show_default=True,
    help="Number of simulated wards without any possible gain, to count false promotions, and of wards as measured.",
)
@click.option("--resamples", type=click.IntRange(100), default=1000, show_default=True, help="Draws of the bootstrap.")
@length_options(context="the adapter's, or 48", prediction="the adapter's, or 6")
@min_observed_option("12, or as many as the context has steps")
@read_options
@accept_option
@click.option("--html", "html_file", type=NewFile(), help="Write everything as one HTML page.")
@quiet_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    data: str,
    bundle: Path,
    adapter: Path | None,
    beside: Path | None,
    target: str | None,
    split: Part,
    accept: tuple[str, ...],
    html_file: Path | None,
    quiet: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Run a monitor's own learning on DATA, a ward's history: what it would have learnt, promoted and demoted.

    The stays are used in sequence. Each is forecast with what was learnt from the stays before it, scored, and then
    learnt from. With several wards (--ward), what was learnt on one is also scored on the next, and compared with
    training on all of the same stays at once.
    """
    from device_runtime.files import write_atomic
    from edge_tsfm.report.adapt import page, text
    from edge_tsfm.runs.adapt_eval import Options, adapt_eval
    from edge_tsfm.runs.history import AskedLengths, read_history
    from edge_tsfm.runs.learning_peak import learning_peak

    rules = _rules(given.pop("mode"), given.pop("config"))
    asked = AskedLengths(**taken(AskedLengths, given))
    how = taken(Options, given)
    history = read_history(data, adapter, part=split, target=target, reading=given)
    runs = _opened(history, bundle, adapter, accept)
    lengths = history.lengths(asked)
    context_steps(runs, lengths.context_length)
    learnable = _learnable(bundle, adapter, lengths)
    options = Options(
        rules=rules,
        lengths=lengths,
        levels=tuple(runs.bundle.manifest.quantile_levels),
        plausible=(bound.low, bound.high) if (bound := history.bound) else history.dataset.report.plausible_range,
        peak_mib=learning_peak(bundle, adapter, lengths.context_length, lengths.prediction_length),
        **how,
    )
    others = {"base": _predict(_opened(history, bundle, None, ()), lengths)} if adapter else {}
    if beside is not None:
        others["beside"] = _predict(_opened(history, bundle, beside, accept), lengths)
    work = Work()
    with Progress("adapt-eval", work, quiet=quiet) as progress:
        found = adapt_eval(history.stays, learnable, options, beside=others, work=work, tell=progress.update)
    if html_file is not None:
        write_atomic(html_file, page(found, f"Adaptation of {found.signal} on the device").encode())
    click.echo(_json(found, runs, split) if as_json else text(found))


def _rules(mode: str, config: Path | None) -> AdaptRules:
    """Read a monitor's rules, with the requested mode."""
    from device_runtime.adapt.modes import Mode
    from device_runtime.adapt.rules import AdaptRules
    from edge_tsfm.runs.adapt_eval import read_rules

    return replace(read_rules(config) if config else AdaptRules(), mode=Mode(mode))


def _learnable(bundle: Path, adapter: Path | None, lengths: Lengths) -> LearningSession:
    """Open the learning graph. Raises `ConfigError` if its prediction length is too short."""
    from device_runtime.forecast.learning import LearningSession

    learnable = LearningSession.open(bundle, adapter)
    if lengths.prediction_length > learnable.prediction_length:
        raise ConfigError(
            f"--prediction-length {lengths.prediction_length}: want at most {learnable.prediction_length}, "
            "the learning graph's length"
        )
    return learnable


def _opened(history: History, bundle: Path, blob: Path | None, accept: tuple[str, ...]) -> Forecaster:
    """Open the forecaster that a monitor would run; warn if the blob does not say what it is for."""
    forecaster = history.open(bundle, blob, accept)
    if blob is not None:
        require_use_said(forecaster)
        warn_of_use(forecaster)
    return forecaster


def _predict(forecaster: Forecaster, lengths: Lengths) -> Predict:
    """Forecast as a monitor does, context by context."""
    from edge_tsfm.runs.on_device import device_quantiles

    return lambda contexts: device_quantiles(forecaster, contexts, lengths.prediction_length)


def _json(found: AdaptEval, runs: Forecaster, split: str) -> str:
    """Return everything for JSON."""
    origin = {"bundle": runs.bundle.digest.hex(), "adapter": runs.adapter_digest, "split": split}
    return json.dumps({**origin, **found.to_value()}, indent=2, allow_nan=False)
