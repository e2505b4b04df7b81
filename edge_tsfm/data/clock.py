"""Intervals and seasons as pandas has them, in the one syntax of spans of time."""

import numpy as np
import pandas as pd

from device_runtime.errors import InputError
from device_runtime.series.clock import say_interval as say_span
from device_runtime.series.duration import parse_duration
from device_runtime.series.times import STEP_US
from edge_tsfm.errors import ConfigError


def as_text(span: str | pd.Timedelta | None) -> str | None:
    """Return a span of time as the one syntax writes it, None for none."""
    return span if span is None or isinstance(span, str) else f"{microseconds(span)}us"


def microseconds(moment: pd.Timestamp | pd.Timedelta) -> int:
    """Return a time or a span in microseconds: de-identified years such as 2896 overflow nanoseconds."""
    kind = "datetime64[us]" if isinstance(moment, pd.Timestamp) else "timedelta64[us]"
    return int(moment.to_numpy().astype(kind).astype(np.int64))


def parse_interval(text: str | pd.Timedelta) -> pd.Timedelta:
    """Return ``1h``, ``5min``, ``1s`` ... as a Timedelta; raises `ConfigError` for what is no span of time."""
    try:
        return pd.Timedelta(parse_duration(str(as_text(text))), unit="us")
    except InputError as error:
        raise ConfigError(str(error.args[0]), hint=error.hint) from error


def season_steps(season: str, interval: pd.Timedelta | float) -> int:
    """Return a season in steps; ``season`` is a span of time (``1d``) or, as a plain number, steps.

    Raises `ConfigError` for a span that is no whole number of at least two steps, or of steps of unknown length.
    """
    if season.isdigit():
        steps = float(season)
    elif isinstance(interval, pd.Timedelta):
        steps = parse_interval(season) / interval
    else:
        raise ConfigError(f"season {season}: the data count steps of unknown length", hint="give it in steps: 24")
    if steps < 2 or steps != int(steps):
        raise ConfigError(f"season {season} is {steps:g} steps: want a whole number, at least 2")
    return int(steps)


def say_interval(interval: pd.Timedelta | float) -> str:
    """Return an interval as people write it: ``1h``, ``5min``; ``1 steps`` for steps of unknown length."""
    if isinstance(interval, pd.Timedelta):
        return say_span(microseconds(interval), "step")
    return say_span(round(interval * STEP_US), "count")
