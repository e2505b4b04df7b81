"""`FieldQuality`: samples and forecasts in, figures, verdicts and flags out. Pure: no clock, no disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import FormatError
from device_runtime.quality.against import Against
from device_runtime.quality.evidence import Verdict
from device_runtime.quality.pending import Arrived, Made, Series, Waiting
from device_runtime.quality.rules import QualityRules
from device_runtime.quality.scored import DAY_MS, Scored, scored_of
from device_runtime.quality.scores import in_context_scale, loss, score
from device_runtime.quality.units import OpenUnit

VERSION = 1
MAX_SIGNALS = 8
MAX_SERIES = 64
KEPT = 3  # forecasters of one signal whose figures are kept: those that were scored last
REPORTED = 2  # of them, that reports speak of
BASE, PREVIOUS = "base", "previous"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What the field says of an adapter, and the figures it rests on."""

    verdict: Verdict
    why: str


class FieldQuality:
    """Scores of one monitor's forecasts. Not thread-safe, as the host that feeds it."""

    def __init__(self, rules: QualityRules, *, ratio: float | None = None) -> None:
        """``ratio`` is the WQL, over the base's, that an adapter on trial may have; None: it is not judged by it."""
        self.rules, self.ratio = rules, ratio
        self.left_out = 0  # samples and forecasts of more signals or series than are watched
        self._signals: dict[str, list[Scored]] = {}  # the forecaster that was scored last is last
        self._series: dict[tuple[str, str], Series] = {}
        self._units: dict[tuple[str, str, str], OpenUnit] = {}

    # --- what happens --------------------------------------------------------------------------------------------

    def observe(self, signal: str, t_ms: int, value: float, *, interval_ms: int, series: str = "") -> int:
        """Take one sample at ``t_ms`` milliseconds; return how many forecasts it completed.

        ``series`` tells feeds of one signal apart, as several beds. Raises `InputError` for an interval that is none.
        """
        feed = self._series.get((signal, series))
        if feed is None or feed.interval_ms != interval_ms:
            if len(self._series) >= MAX_SERIES and feed is None:
                self.left_out += 1
                return 0
            self._end_units(signal, series)
            feed = self._series[signal, series] = Series(interval_ms, late_steps=self.rules.late_steps)
        before = feed.newest
        count = self._take(signal, series, feed, feed.observe(t_ms, value))
        if before is not None and feed.newest is not None and feed.newest < before:  # the clock was set back
            self._end_units(signal, series)
        return count

    def end_stay(self, signal: str, *, series: str = "") -> int:
        """End a stay, also if the clock was set: score pending forecasts with the targets so far; return how many."""
        feed = self._series.get((signal, series))
        if feed is None:
            return 0
        count = self._take(signal, series, feed, feed.end())
        self._end_units(signal, series)
        return count

    def wants(self, signal: str, steps: int, levels: int, *, series: str = "") -> tuple[bool, bool]:
        """Return whether the next forecast, ``steps`` at ``levels``, is remembered, and whether others make it too."""
        feed = self._series.get((signal, series))
        if feed is None or (signal not in self._signals and len(self._signals) >= MAX_SIGNALS):
            self.left_out += feed is not None
            return False, False
        every = self.rules.shadow_every
        return feed.takes(steps, levels), every > 0 and (feed.made - 1) % every == 0

    def remember(
        self,
        signal: str,
        made: Made,
        levels: Sequence[float],
        context: NDArray[np.floating],
        shadows: Mapping[str, Made],
        *,
        series: str = "",
    ) -> None:
        """Remember a forecast that `wants` said yes to, made from ``context`` ``[L]`` when the newest sample was in."""
        feed = self._series[signal, series]
        assert feed.newest is not None
        feed.remember(
            Waiting(
                origin=feed.newest,
                levels=tuple(levels),
                scale=float(in_context_scale(context[None])[0]),
                made=made,
                shadows=dict(shadows),
            )
        )

    def _take(self, signal: str, series: str, feed: Series, arrived: Iterator[Arrived]) -> int:
        """Score what arrived."""
        count = 0
        for one in arrived:
            self._score(signal, series, feed.interval_ms, one)
            count += 1
        return count

    def _score(self, signal: str, series: str, interval_ms: int, arrived: Arrived) -> None:
        """Score one forecast and those beside it."""
        waiting, made = arrived.forecast, arrived.forecast.made
        levels = np.array(waiting.levels, dtype=np.float64)
        t_ms = waiting.end * interval_ms
        own = score(made.quantiles, arrived.target, levels, waiting.scale)
        scored = self._scored(signal, made.adapter, waiting.levels, t_ms)
        scored.add(own, t_ms, self.rules.half_life_days * DAY_MS)
        for name, shadow in waiting.shadows.items():
            other = score(shadow.quantiles, arrived.target, levels, waiting.scale)
            beside = scored.beside(name, shadow.adapter, self.ratio if name == BASE else None)
            beside.score(own, other)
            unit = self._units.setdefault((signal, series, name), OpenUnit(self.rules.unit == "stay"))
            if unit.of != (made.adapter, shadow.adapter):  # another pair: what was begun with the last one is dropped
                unit.close()
                unit.of = (made.adapter, shadow.adapter)
            closed = unit.add(waiting.origin, len(arrived.target), loss(own), loss(other))
            if closed is not None:
                beside.unit(closed, t_ms)
        scored.publish(self.rules.min_reported)

    def _scored(self, signal: str, adapter: str | None, levels: tuple[float, ...], t_ms: int) -> Scored:
        """Return the sums of a forecaster on a signal, as the last of the signal's."""
        held = self._signals.setdefault(signal, [])
        found = next((one for one in held if (one.adapter, one.levels) == (adapter, levels)), None)
        if found is None:
            found = Scored.begin(adapter, levels, t_ms)
        else:
            held.remove(found)
        held.append(found)
        del held[:-KEPT]
        return found

    def _end_units(self, signal: str, series: str) -> None:
        """Close the units of a series: its stay is over."""
        for name in (BASE, PREVIOUS):
            unit = self._units.pop((signal, series, name), None)
            closed = unit.close() if unit else None
            if unit is None or closed is None:
                continue
            for scored in self._signals.get(signal, []):
                beside = scored.against.get(name)
                if beside is not None and (scored.adapter, beside.adapter) == unit.of:
                    beside.unit(closed, scored.until)

    # --- what is said --------------------------------------------------------------------------------------------

    def judge(self, adapter: str | None, min_scored: int) -> Judgement:
        """Judge an adapter against the base: worse on any signal, or good enough on all that it forecasts.

        Both want ``min_scored`` steps that both forecast.
        """
        found = self._beside_base(adapter)
        verdicts = []
        for signal, beside in found:
            why = self._said(signal, beside)
            verdict = beside.verdict if beside.own.steps >= min_scored else Verdict.OPEN
            if verdict is Verdict.WORSE:
                return Judgement(verdict=verdict, why=why)
            verdicts.append((verdict, why))
        why = "; ".join(why for _, why in verdicts)
        if verdicts and all(verdict is Verdict.BETTER for verdict, _ in verdicts):
            return Judgement(verdict=Verdict.BETTER, why=why)
        return Judgement(verdict=Verdict.OPEN, why=why or "nothing was scored beside the base yet")

    def _said(self, signal: str, beside: Against) -> str:
        """Format a comparison's figures, for the log."""
        other = "the base" if beside.adapter is None else f"adapter {beside.adapter[:16]}"
        return (
            f"{signal} WQL {beside.own.wql:.6g}, {beside.percent:+.2f} % against {other}'s {beside.other.wql:.6g}, "
            f"{beside.own.steps:,.0f} scored steps, {beside.moments[0]:.0f} {self.rules.unit}s"
        )

    def drift_since(self, adapter: str | None) -> int:
        """Return when an adapter's first drift flag rose, in milliseconds of the feed's time; 0: none has."""
        return min((one.drift_since for _, one in self._beside_base(adapter) if one.drift_since), default=0)

    def drifts(self) -> dict[tuple[str | None, str], str]:
        """Return the figures of every drift flag that has risen, by the forecaster's adapter and the signal."""
        return {
            (scored.adapter, signal): self._said(signal, scored.against[BASE])
            for signal, held in self._signals.items()
            for scored in held
            if BASE in scored.against and scored.against[BASE].drift_since
        }

    def _beside_base(self, adapter: str | None) -> list[tuple[str, Against]]:
        """Return the comparisons of an adapter with the base, by signal."""
        return [
            (signal, one.against[BASE])
            for signal, held in self._signals.items()
            for one in held
            if one.adapter == adapter and BASE in one.against
        ]

    def figures(self) -> dict[str, Any]:
        """Return every figure for people on this monitor: signal → forecasters, the one that was scored last first."""
        return {signal: [one.figures() for one in reversed(held)] for signal, held in self._signals.items()}

    def published(self) -> dict[str, Any]:
        """Return what a report carries: sums over at least ``min_reported`` scored steps, no times, no values."""
        out: dict[str, Any] = {}
        for signal, held in self._signals.items():
            said = [
                {"adapter": one.adapter, "levels": list(one.levels), **one.said}
                for one in reversed(held[-REPORTED:])
                if one.said
            ]
            if said:
                out[signal] = said
        return out

    @property
    def size(self) -> int:
        """Bytes of forecasts and targets that wait."""
        return sum(feed.size for feed in self._series.values())

    def to_value(self) -> dict[str, Any]:
        """Encode the sums as plain values; forecasts that wait, and samples, stay in memory alone."""
        return {
            "version": VERSION,
            "left_out": self.left_out,
            "signals": {signal: [one.to_value() for one in held] for signal, held in self._signals.items()},
        }

    def restore(self, value: Any) -> None:
        """Restore what `to_value` wrote. Raises `FormatError` for anything else; then nothing is changed."""
        try:
            if value["version"] != VERSION:
                raise FormatError(f"quality: version {value['version']!r}, this release reads {VERSION}")
            signals = {str(name): [scored_of(one) for one in held] for name, held in value["signals"].items()}
            left_out = int(value["left_out"])
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise FormatError(f"quality: not what this monitor wrote: {error!r}") from error
        for one in (scored for held in signals.values() for scored in held):
            if BASE in one.against:  # evidence on what another limit allows is none on this one
                one.against[BASE].judge_by(self.ratio)
        self.left_out, self._signals = left_out, signals
