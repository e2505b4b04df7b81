"""Run a ward's history through the device's own code: what a monitor would have decided about an adapter, and when.

Patients follow one another, as at one bed. The stream, the scores, the evidence and the health window
are the monitor's (`device_runtime`); only the clock is the data's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from device_runtime.errors import InputError
from device_runtime.forecast.forecaster import Forecast, Forecaster
from device_runtime.forecast.stream import Stream, StreamSignal
from device_runtime.format.binding import Use
from device_runtime.quality.field import BASE, FieldQuality
from device_runtime.quality.pending import Made
from device_runtime.quality.rules import QualityRules
from device_runtime.update.health import Health, HealthRules, HealthWindow
from edge_tsfm.data.series import Series
from edge_tsfm.errors import DataError
from edge_tsfm.runs.history import Lengths, interval_ms_of

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that the monitor would have decided, or flagged."""

    what: str  # "confirmed", "taken back", "drift"
    why: str
    item_id: str  # the stay that it came in
    stay: int  # its number, from 1
    step: int  # of that stay, from 1
    scored: int  # steps that had been scored beside the other by then


@dataclass(frozen=True, kw_only=True)
class Replay:
    """The result of replaying a history with an adapter on trial."""

    signal: str
    adapter: str  # SHA-256 of the blob, hex
    against: str | None  # the other's; None: the frozen base
    stays: int
    forecasts: int
    events: tuple[Event, ...]
    figures: dict[str, Any]  # of `FieldQuality.figures`, for the adapter

    @property
    def verdict(self) -> str:
        """Describe how the trial ended."""
        return next((one.what for one in self.events if one.what != "drift"), "still on trial")


@dataclass
class _Pair:
    """The forecaster of a `Stream`: the one that a monitor runs, and another in shadow."""

    runs: Forecaster
    other: Forecaster
    quality: FieldQuality
    forecasts: int = 0
    news: list[None] = field(default_factory=list)  # one entry for each forecast that was scored since it was emptied

    def observe(
        self, signal: str, t_ms: int, value: float, *, series: str = "", interval_ms: int | None = None
    ) -> None:
        """Take a sample that the stream took."""
        assert interval_ms is not None
        scored = self.quality.observe(signal, t_ms, value, series=series, interval_ms=interval_ms)
        self.news += [None] * scored

    def end_stay(self, signal: str, *, series: str = "") -> None:
        """Restart, since the feed starts afresh."""
        self.news += [None] * self.quality.end_stay(signal, series=series)

    def forecast(
        self, context: ArrayLike, prediction_length: int | None = None, *, use: Use | None = None, series: str = ""
    ) -> Forecast:
        """Forecast as a host does, and remember it."""
        made = self.runs.forecast(context, prediction_length, use=use)
        self.forecasts += 1
        steps, levels = made.quantiles.shape
        signal = str(use.signal if use else "")
        keep, shadowed = self.quality.wants(signal, steps, levels, series=series)
        if keep:
            shadows = {}
            if shadowed:
                other = self.other.forecast(context, steps, made.quantile_levels, use=use)
                shadows = {BASE: Made(adapter=other.adapter, quantiles=other.quantiles)}
            own = Made(adapter=made.adapter, quantiles=made.quantiles)
            row = np.asarray(context, dtype=np.float32)
            self.quality.remember(signal, own, made.quantile_levels, row, shadows, series=series)
        return made


def replay(
    series: Iterable[Series],
    runs: Forecaster,
    other: Forecaster,
    *,
    health: HealthRules,
    rules: QualityRules,
    lengths: Lengths,
    tell: Tell = lambda _: None,
) -> Replay:
    """Replay the stays of ``series`` in sequence, with ``runs`` on trial and ``other`` in shadow.

    Raises `DataError` for steps of no stated length or where nothing can be forecast, `SignalMismatchError` for an
    adapter of another signal.
    """
    assert runs.adapter_digest is not None
    stays = list(series)
    if not stays:
        raise DataError("nothing to replay: no stays")
    signal = stays[0].signal
    pair = _Pair(runs, other, FieldQuality(rules, ratio=health.ratio))
    kind = StreamSignal(name=signal, interval_ms=lengths.interval_ms)
    trial = _Trial(pair, health, signal)
    for number, (one, samples) in enumerate(_feed(stays, lengths.context_length), start=1):
        # A new one for each stay: a stream takes the first samples behind a long gap for strays.
        stream = Stream(pair, (kind,), context_length=lengths.context_length, min_observed=lengths.min_observed)
        for step, (t_ms, value) in enumerate(samples, start=1):
            trial.place = (one.item_id, number, step)
            if stream.push(signal, t_ms, value):
                with contextlib.suppress(InputError):  # too little to forecast from yet
                    stream.forecast(signal, lengths.prediction_length)
                    trial.counted(t_ms)
        pair.end_stay(signal, series=signal)
        trial.look(t_ms)
        tell(f"{number:,} of {len(stays):,} stays")
    if not pair.forecasts:
        raise DataError(f"nothing to replay: no stay has {lengths.min_observed} observed values to forecast from")
    held = pair.quality.figures().get(signal, [{}])
    return Replay(
        signal=signal,
        adapter=runs.adapter_digest,
        against=other.adapter_digest,
        stays=len(stays),
        forecasts=pair.forecasts,
        events=tuple(trial.events),
        figures=held[0],
    )


def _feed(stays: list[Series], context_length: int) -> Iterator[tuple[Series, Iterator[tuple[int, float]]]]:
    """Give each stay's samples; stays are a buffer apart, so none is forecast from another's values."""
    at = 0
    for one in stays:
        interval = interval_ms_of(one)
        seen = np.flatnonzero(~np.isnan(one.target))
        yield one, ((int(at + step) * interval, float(one.target[step])) for step in seen)
        at += len(one) + 2 * context_length


@dataclass
class _Trial:
    """The health window of the trial, then the drift flag, looked at after each forecast that was scored."""

    pair: _Pair
    health: HealthRules
    signal: str
    place: tuple[str, int, int] = ("", 0, 0)
    events: list[Event] = field(default_factory=list)
    window: HealthWindow | None = None
    over: bool = False
    flagged: bool = False

    def counted(self, t_ms: int) -> None:
        """Count a forecast, as punctual: how long one takes is `edge-tsfm-device bench`'s."""
        if self.window is None:
            self.window = HealthWindow(self.health, at=t_ms / 1_000)
        self.window.observe(ok=True, latency=0.0)
        self.look(t_ms)

    def look(self, t_ms: int) -> None:
        """Judge the trial if anything was scored since the last check."""
        if not self.pair.news or self.window is None:
            return
        self.pair.news.clear()
        adapter = self.pair.runs.adapter_digest
        judged = self.pair.quality.judge(adapter, self.health.min_scored)
        health = Health.WAIT if self.over else self.window.health(t_ms / 1_000, judged)
        if health is not Health.WAIT:
            self.over = True
            failed = health is Health.FAILED
            self._note("taken back" if failed else "confirmed", self.window.reason if failed else judged.why)
        if not self.flagged and self.pair.quality.drift_since(adapter):
            self.flagged = True
            self._note("drift", judged.why)

    def _note(self, what: str, why: str) -> None:
        item_id, stay, step = self.place
        held = self.pair.quality.figures()[self.signal][0]["against"].get(BASE)
        scored = 0 if held is None else round(held["other"]["steps"])
        self.events.append(Event(what=what, why=why, item_id=item_id, stay=stay, step=step, scored=scored))
