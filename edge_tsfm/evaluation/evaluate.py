"""Score an adapter beside its frozen base and simple baselines, on the same windows and the same draws of patients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_tsfm.errors import ConfigError, DataError
from edge_tsfm.evaluation.baselines import BASELINES, baseline_quantiles
from edge_tsfm.evaluation.bootstrap import bounds, patient_sums, ratio, resample
from edge_tsfm.evaluation.breakdown import Draws, compare_patients, wql_by_step
from edge_tsfm.evaluation.metrics import METRICS, calibration, score_windows
from edge_tsfm.evaluation.report import ADAPTER, BASE, Difference, Estimate, Group, Report

if TYPE_CHECKING:
    from edge_tsfm.data.windows import Windows

FloatArray = NDArray[np.float64]
Predict = Callable[[NDArray[np.float32], int], NDArray[np.floating]]  # context [N, L], H -> quantiles [N, H, Q]


def evaluate(
    predict: Predict,
    base_predict: Predict,
    windows: Windows,
    quantile_levels: Sequence[float],
    *,
    seed: int = 0,
    resamples: int = 1000,
    confidence: float = 0.95,
    subgroups: Mapping[str, NDArray[np.str_]] | None = None,
) -> Report:
    """Forecast ``windows`` with an adapter and with its frozen base, and score both; see `evaluate_forecasts`.

    ``predict`` and ``base_predict`` take contexts ``[N, L]`` (NaN = missing) and a prediction_length, and
    return quantiles ``[N, H, Q]`` at ``quantile_levels``.
    """
    prediction_length = windows.target.shape[1]
    forecasts = {
        ADAPTER: predict(windows.context, prediction_length),
        BASE: base_predict(windows.context, prediction_length),
    }
    return evaluate_forecasts(
        forecasts,
        windows,
        quantile_levels,
        seed=seed,
        resamples=resamples,
        confidence=confidence,
        subgroups=subgroups,
    )


def evaluate_forecasts(
    forecasts: Mapping[str, NDArray[np.floating]],
    windows: Windows,
    quantile_levels: Sequence[float],
    *,
    seed: int = 0,
    resamples: int = 1000,
    confidence: float = 0.95,
    subgroups: Mapping[str, NDArray[np.str_]] | None = None,
) -> Report:
    """Score forecasts ``[N, H, Q]`` by name beside `BASELINES`; ``"adapter"`` is compared with every other.

    Intervals are percentile bootstrap over patients (`Windows.drawn`), the same draws for every forecaster, so
    differences are paired. ``subgroups`` is column → label of each window ``[N]``.

    Raises `DataError` when there is nothing to score, `ModelError` for a forecast of the wrong shape or not
    finite, `ConfigError` for options out of range.
    """
    if not 0 < confidence < 1 or resamples < 1:
        raise ConfigError(f"confidence {confidence} must lie in 0 to 1 and resamples {resamples} be at least 1")
    if not np.any(~np.isnan(windows.target)):
        raise DataError(f"{len(windows)} windows hold no observed target value: nothing to score")
    prediction_length = windows.target.shape[1]
    every = dict(sorted(forecasts.items(), key=lambda pair: pair[0] != ADAPTER))  # the adapter first
    for name in BASELINES:
        if name in every:
            raise ConfigError(f"a forecast is called {name!r}, like a baseline")
        every[name] = baseline_quantiles(name, windows.context, prediction_length, quantile_levels)
    scores = np.stack([score_windows(q, windows, quantile_levels) for q in every.values()], axis=1)  # [N, K, M, 2]

    draws = Draws(seed=seed, resamples=resamples, confidence=confidence)

    def group(chosen: NDArray[np.bool_]) -> Group:
        return _group(
            tuple(every),
            scores[chosen],
            windows.drawn[chosen],
            windows.target[chosen],
            unit=windows.unit,
            seed=seed,
            resamples=resamples,
            confidence=confidence,
        )

    by_column = {}
    for column, labels in (subgroups or {}).items():
        if len(labels) != len(windows):
            raise ConfigError(f"subgroup {column}: {len(labels)} labels for {len(windows)} windows")
        by_column[column] = {str(label): group(labels == label) for label in dict.fromkeys(np.sort(labels))}
    return Report(
        overall=group(np.ones(len(windows), dtype=np.bool_)),
        subgroups=by_column,
        calibration={name: tuple(calibration(q, windows, quantile_levels).tolist()) for name, q in every.items()},
        wql_by_step=wql_by_step(every, windows, quantile_levels, draws),
        by_patient=compare_patients(every[ADAPTER], every[BASE], windows, quantile_levels)
        if {ADAPTER, BASE} <= every.keys()
        else None,
        quantile_levels=tuple(float(level) for level in quantile_levels),
        context_length=windows.context.shape[1],
        prediction_length=prediction_length,
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )


def paired(
    sums: FloatArray, *, seed: int, resamples: int, confidence: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Turn sums of patients ``[P, K, M, 2]`` into figures and paired comparisons of forecaster 0 with each.

    Returns estimates ``[3, K, M]`` (value, low, high) of the figures, of the differences, and of the relative
    differences. Bounds are NaN with fewer than two patients.
    """
    value = ratio(sums.sum(0))  # [K, M]
    draws = ratio(resample(sums, resamples=resamples, seed=seed)) if len(sums) > 1 else value[None] * np.nan
    return (
        _estimates(value, draws, confidence),
        _estimates(value[:1] - value, draws[:, :1] - draws, confidence),
        _estimates(_relative(value[:1], value), _relative(draws[:, :1], draws), confidence),
    )


def _relative(one: FloatArray, other: FloatArray) -> FloatArray:
    known = other > 0
    share: FloatArray = np.where(known, (one - other) / np.where(known, other, 1), np.nan)
    return share


def _estimates(value: FloatArray, draws: FloatArray, confidence: float) -> FloatArray:
    return np.concatenate([value[None], bounds(draws, confidence=confidence)])


def _group(
    names: tuple[str, ...],
    scores: FloatArray,
    drawn: NDArray[np.str_],
    target: NDArray[np.float32],
    *,
    unit: str,
    seed: int,
    resamples: int,
    confidence: float,
) -> Group:
    sums = patient_sums(scores, drawn)  # [P, K, M, 2]
    figures, absolute, relative = paired(sums, seed=seed, resamples=resamples, confidence=confidence)

    def estimate(of: FloatArray, k: int, m: int) -> Estimate:
        return Estimate(value=float(of[0, k, m]), low=float(of[1, k, m]), high=float(of[2, k, m]))

    scored = int((~np.isnan(target)).sum())
    rated = dict(zip(METRICS, sums[:, 0, :, 1].sum(0), strict=True))
    return Group(
        windows=len(drawn),
        patients=len(sums),
        unit=unit,
        scored=scored,
        missing=int(target.size) - scored,
        unrated={"mape": scored - int(rated["mape"]), "mase": int(rated["dtw"] - rated["mase"])},
        models={
            name: {metric: estimate(figures, k, m) for m, metric in enumerate(METRICS)} for k, name in enumerate(names)
        },
        adapter_minus={
            name: {
                metric: Difference(absolute=estimate(absolute, k, m), relative=estimate(relative, k, m))
                for m, metric in enumerate(METRICS)
            }
            for k, name in enumerate(names)
            if names[0] == ADAPTER and k > 0
        },
    )
