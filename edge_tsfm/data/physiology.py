"""Simulated physiology: levels, circadian rhythm, care, noise with long correlations, episodes, all of it coupled."""

import numpy as np
from numpy.typing import NDArray

from edge_tsfm.data.wards import TIME_CONSTANTS_H, Ward

Signal = NDArray[np.float64]  # [T]
_VITALS = ("HR", "MAP", "PP", "SpO2", "RESP", "TEMP")
_FACTORS = ("stress", "lungs", *_VITALS)
# Each vital sign's noise as a mixture of its own and of what it shares; squares of a row sum to one.
_LOADINGS = {
    "HR": {"HR": 0.88, "stress": 0.45, "MAP": 0.10},
    "MAP": {"MAP": 0.97, "stress": 0.25},
    "PP": {"PP": 0.80, "MAP": 0.55, "stress": 0.15},
    "SpO2": {"SpO2": 0.88, "lungs": -0.45},
    "RESP": {"RESP": 0.86, "stress": 0.35, "lungs": 0.35},
    "TEMP": {"TEMP": 0.93, "stress": 0.35},
}


def simulate_body(rng: np.random.Generator, ward: Ward, hours: Signal) -> dict[str, Signal]:
    """Return one patient's true vital signs at ``hours`` since midnight of admission ``[T]``, evenly spaced.

    HR, MAP, SBP, DBP, SpO2, RESP and TEMP, each ``[T]`` in its signal's unit, before the monitor.
    """
    since = hours - hours[0]
    memory = _long_memory(rng, len(hours), float(hours[1] - hours[0]) if len(hours) > 1 else 1.0)
    illness = rng.standard_normal()  # what a patient's levels share
    stay_h = rng.uniform(12.0, 48.0)  # how fast admission fades
    signals: dict[str, Signal] = {}
    for name in _VITALS:
        vital = ward.vitals[name]
        weights = np.sqrt(np.array(vital.memory))  # [K]
        noise = sum(load * (weights @ memory[_FACTORS.index(f)]) for f, load in _LOADINGS[name].items())
        shared = {"HR": 0.35, "RESP": 0.35, "SpO2": -0.35, "TEMP": 0.3}.get(name, 0.0)
        level = vital.level + vital.between * (shared * illness + (1 - shared**2) ** 0.5 * rng.standard_normal())
        day = -np.cos(2 * np.pi * (hours - 4.0) / 24.0)
        arrival = vital.admission * rng.lognormal(-0.3, 0.8) * np.exp(-since / stay_h)
        signals[name] = level + vital.circadian * day + arrival + vital.within * noise
    _add_care(rng, ward, hours, signals)
    _add_episodes(rng, ward, since, signals)
    for name in _VITALS:
        signals[name] = np.clip(signals[name], ward.vitals[name].low, ward.vitals[name].high)
    pulse = np.minimum(signals.pop("PP"), 1.35 * signals["MAP"])  # keeps diastole above half of MAP
    signals["SBP"] = signals["MAP"] + 2 / 3 * pulse  # MAP is a third of the way up from diastole
    signals["DBP"] = signals["MAP"] - 1 / 3 * pulse
    return signals


def _long_memory(rng: np.random.Generator, steps: int, interval_h: float) -> NDArray[np.float64]:
    """Return stationary Ornstein-Uhlenbeck noise of unit variance, ``[factor, time constant, T]``.

    ``x[t] = a x[t-1] + e[t]`` is summed by doubling (Hillis and Steele 1986): log2 T passes instead of T
    steps.
    """
    decay = np.exp(-interval_h / np.array(TIME_CONSTANTS_H))[:, None]  # [K, 1]
    noise = rng.standard_normal((len(_FACTORS), len(TIME_CONSTANTS_H), steps))
    noise[:, :, 1:] *= np.sqrt(1 - decay**2)
    shift = 1
    while shift < steps:
        noise[:, :, shift:] += decay**shift * noise[:, :, :-shift].copy()
        shift *= 2
    return noise


def _add_care(rng: np.random.Generator, ward: Ward, hours: Signal, signals: dict[str, Signal]) -> None:
    """Raise what turning, suction and waking raise; each patient more or less, never at the exact minute."""
    late = rng.normal(0.0, 0.15)
    strength = rng.lognormal(-0.1, 0.4)
    away = np.abs((hours[:, None] - late - np.array(ward.care_hours) + 12.0) % 24.0 - 12.0)  # [T, rounds]
    bump = strength * np.exp(-0.5 * (away.min(axis=1) / ward.care_width_h) ** 2)
    for name, effect in ward.care_effect.items():
        signals[name] += effect * bump


def _add_episodes(rng: np.random.Generator, ward: Ward, since: Signal, signals: dict[str, Signal]) -> None:
    """Add what goes wrong and what is done about it."""
    for start in _starts(rng, ward.hypotension_rate, since):
        depth, duration = rng.uniform(12, 30), rng.uniform(1.0, 6.0)
        dip = _episode(since, start, rise_h=0.5, duration_h=duration, fall_h=1.5)
        signals["MAP"] -= depth * dip
        signals["PP"] -= 0.4 * depth * dip
        signals["HR"] += rng.uniform(0.4, 0.9) * depth * dip  # baroreflex
        signals["RESP"] += 0.1 * depth * dip
        if rng.random() < ward.pressor_share:
            held = _episode(since, start + duration, rise_h=0.7, duration_h=rng.uniform(6, 24), fall_h=4.0)
            signals["MAP"] += rng.uniform(3, 12) * held
            signals["HR"] += rng.uniform(0, 8) * held
    for start in _starts(rng, ward.fever_rate, since):
        degrees = rng.uniform(0.7, 2.0)
        fever = _episode(since, start, rise_h=2.0, duration_h=rng.uniform(3, 10), fall_h=3.0)
        signals["TEMP"] += degrees * fever
        signals["HR"] += 8.0 * degrees * fever  # beats a minute for each degree, Liebermeister's rule
        signals["RESP"] += 2.0 * degrees * fever
    for start in _starts(rng, ward.agitation_rate, since):
        much = _episode(since, start, rise_h=0.1, duration_h=rng.uniform(0.2, 1.5), fall_h=0.6)
        for name, effect in (("HR", 25.0), ("MAP", 15.0), ("PP", 8.0), ("RESP", 7.0), ("SpO2", -1.0)):
            signals[name] += effect * rng.uniform(0.5, 1.2) * much
    for start in _starts(rng, ward.desaturation_rate, since):
        drop = rng.uniform(3, 12) * _episode(since, start, rise_h=0.05, duration_h=rng.uniform(0.1, 1.0), fall_h=0.3)
        signals["SpO2"] -= drop
        signals["RESP"] += 0.5 * drop
        signals["HR"] += 0.8 * drop


def _starts(rng: np.random.Generator, rate_per_day: float, since: Signal) -> list[float]:
    """Return when episodes begin, in hours; some before the first reading."""
    length = float(since[-1]) + 12.0
    return [float(at) - 12.0 for at in rng.uniform(0, length, rng.poisson(rate_per_day * length / 24.0))]


def _episode(since: Signal, start: float, *, rise_h: float, duration_h: float, fall_h: float) -> Signal:
    """Return 0 ... 1 ... 0: an exponential rise from ``start``, a plateau, an exponential fall."""
    t = since - start
    top = 1 - np.exp(-duration_h / rise_h)
    rising = 1 - np.exp(-np.clip(t, 0, duration_h) / rise_h)
    falling = top * np.exp(-np.clip(t - duration_h, 0, None) / fall_h)
    return np.where(t < duration_h, rising, falling)
