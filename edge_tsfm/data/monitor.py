"""Simulated recording effects of monitor and chart: artefacts, rounding, missing readings."""

import numpy as np
from numpy.typing import NDArray

from edge_tsfm.data.wards import Vital, Ward

Signal = NDArray[np.float64]  # [T]
# How long an artefact lasts at the bedside; a slower chart catches it in one reading or not at all.
_ARTEFACT_H = 2.0 / 60.0
_PRESSURES = ("MAP", "SBP", "DBP")


def record(
    rng: np.random.Generator, ward: Ward, body: dict[str, Signal], hours: Signal
) -> dict[str, NDArray[np.float32]]:
    """Return what is written down of a patient's vital signs, float32 ``[T]``, NaN where nothing is."""
    interval_h = float(hours[1] - hours[0]) if len(hours) > 1 else 1.0
    steps = len(hours)
    seen = {name: signal.copy() for name, signal in body.items()}
    _add_artefacts(rng, ward, seen, interval_h)
    away = _stretches(rng, steps, interval_h, ward.away_rate, ward.away_hours)
    line_off = _stretches(rng, steps, interval_h, ward.lost_rate, ward.lost_hours)
    written: dict[str, NDArray[np.float32]] = {}
    for name, signal in seen.items():
        vital = ward.vitals["PP" if name in ("SBP", "DBP") else name]
        own_off = _stretches(rng, steps, interval_h, ward.lost_rate, ward.lost_hours)
        off = line_off if name in _PRESSURES else own_off
        missing = away | off | (rng.random(steps) < vital.missing)
        if name == "TEMP" and interval_h >= 1.0:
            missing |= ~_due(rng, hours, ward.temperature_every_h)
        value = _rounded(signal, vital)
        value[missing] = np.nan
        written[name] = value.astype(np.float32)
    return written


def _add_artefacts(rng: np.random.Generator, ward: Ward, seen: dict[str, Signal], interval_h: float) -> None:
    """Flush and clamp the line, loosen leads and probes; values stay what a monitor would show."""
    steps = len(next(iter(seen.values())))
    span = max(1, round(_ARTEFACT_H / interval_h))
    # A slower chart keeps one reading an interval, and meets an artefact only if it is then.
    caught = min(1.0, _ARTEFACT_H / interval_h)
    kinds = rng.integers(0, 4, rng.poisson(ward.artefact_rate * steps * interval_h / 24.0))
    for kind in kinds:
        at = int(rng.integers(0, steps))
        here = slice(at, at + span)
        if rng.random() > caught:
            continue
        if kind == 0:  # line flushed: all pressures jump to the bag's
            for name in _PRESSURES:
                seen[name][here] = rng.uniform(180, 280)
        elif kind == 1:  # line damped: the pulse vanishes into the mean
            seen["SBP"][here] = seen["MAP"][here] + 8
            seen["DBP"][here] = seen["MAP"][here] - 5
        elif kind == 2:  # probe half off
            seen["SpO2"][here] -= rng.uniform(8, 30)
        else:  # chewing, shivering or T waves counted as beats and breaths
            seen["HR"][here] *= rng.uniform(1.3, 1.9)
            seen["RESP"][here] *= rng.uniform(1.2, 2.0)


def _stretches(
    rng: np.random.Generator, steps: int, interval_h: float, rate_per_day: float, mean_h: float
) -> NDArray[np.bool_]:
    """Return where ``[T]`` something is off: starts at random, lasting ``mean_h`` on average."""
    off = np.zeros(steps, dtype=bool)
    for at in rng.uniform(0, steps, rng.poisson(rate_per_day * steps * interval_h / 24.0)):
        off[int(at) : int(at) + max(1, round(rng.exponential(mean_h) / interval_h))] = True
    return off


def _due(rng: np.random.Generator, hours: Signal, every_h: float) -> NDArray[np.bool_]:
    """Return at which readings ``[T]`` a value charted every ``every_h`` hours is taken."""
    phase = rng.uniform(0, every_h)
    turn = np.floor((hours + phase) / every_h)
    return np.concatenate([[True], turn[1:] != turn[:-1]])


def _rounded(signal: Signal, vital: Vital) -> Signal:
    return np.round(np.round(signal / vital.rounding) * vital.rounding, 3)
