"""An online linear forecaster, mixed in as far as it has paid: what learning on a monitor is compared with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from edge_tsfm.data.series import Series
from edge_tsfm.data.windows import Windows, make_windows
from edge_tsfm.evaluation.metrics import METRICS, score_windows
from edge_tsfm.evaluation.online_mix import online_mix, revealed

LEVELS = (0.1, 0.5, 0.9)
LENGTHS = {"context_length": 24, "prediction_length": 6, "stride": 3, "min_observed": 12}


def returning(count: int, *, seed: int = 0) -> list[Series]:
    """Stays that return to their level: the last value is a poor forecast, a linear one is good."""
    rng = np.random.default_rng(seed)
    stays = []
    for number in range(count):
        x = np.zeros(80)
        for t in range(1, len(x)):
            x[t] = 0.5 * x[t - 1] + rng.normal()
        x[rng.random(len(x)) < 0.1] = np.nan
        stays.append(
            Series(item_id=f"p{number}", signal="HR", interval=pd.Timedelta("1h"), target=(80 + x).astype(np.float32))
        )
    return stays


def last_value(windows: Windows) -> np.ndarray:
    last = np.array([one[~np.isnan(one)][-1] for one in windows.context])
    spread = np.array([-1.5, 0.0, 1.5], dtype=np.float32)
    return np.broadcast_to(last[:, None, None] + spread, (len(last), 6, 3)).astype(np.float32)


def wql(quantiles: np.ndarray, windows: Windows) -> float:
    sums = score_windows(quantiles, windows, LEVELS).sum(0)[list(METRICS).index("wql")]
    return float(sums[0] / sums[1])


def test_it_is_mixed_in_where_it_pays() -> None:
    windows = make_windows(returning(60), **LENGTHS)
    frozen = last_value(windows)
    late = windows.series >= 30
    assert wql(online_mix(windows, frozen, LEVELS)[late], windows.keep(late)) < 0.95 * wql(
        frozen[late], windows.keep(late)
    )


def test_it_is_left_out_where_it_does_not() -> None:
    windows = make_windows(returning(60), **LENGTHS)
    known = np.nan_to_num(windows.target, nan=80.0)[..., None] + np.array([-0.1, 0.0, 0.1], dtype=np.float32)
    late = windows.series >= 30
    shift = np.abs(online_mix(windows, known.astype(np.float32), LEVELS) - known)[late].mean()
    assert shift < 0.15  # of the floor of the weights, which no share falls below


def test_no_forecast_knows_what_came_later() -> None:
    stays = returning(8)
    changed = [*stays[:5], replace(stays[5], target=stays[5].target[::-1].copy()), *stays[6:]]
    windows, other = make_windows(stays, **LENGTHS), make_windows(changed, **LENGTHS)
    before = windows.series < 5
    first, second = (online_mix(one, last_value(one), LEVELS) for one in (windows, other))
    assert np.array_equal(first[before], second[before])
    assert not np.array_equal(first[windows.series > 5], second[windows.series > 5])


def test_rows_are_given_once_and_never_before_their_targets() -> None:
    windows = make_windows(returning(4), **LENGTHS)
    seen: list[int] = []
    for row, came in revealed(windows):
        seen += came
        assert all(
            windows.series[old] < windows.series[row] or windows.cutoff[old] + 6 <= windows.cutoff[row] for old in came
        )
    assert seen == list(range(len(seen)))
