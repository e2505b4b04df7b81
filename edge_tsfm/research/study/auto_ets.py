"""AutoETS of statsforecast on each context alone: exponential smoothing whose form AICc chooses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_tsfm.research.study.scores import LEVELS

COVERAGES = tuple(round(100 * (1 - 2 * level)) for level in LEVELS if level < 0.5)  # 80, 60, 40, 20


def auto_ets(context: NDArray[np.float32], prediction_length: int, season: int = 1) -> NDArray[np.float64]:
    """Forecast contexts ``[N, L]``: ``[N, H, Q]`` at `LEVELS`; ``season`` in steps, 1 is none.

    The library takes no missing values: gaps are interpolated, places before the first value cut off, and a context
    that ends in a gap is forecast from its last value on.
    """
    from statsforecast.models import AutoETS

    model = AutoETS(season_length=season)
    out = np.empty((len(context), prediction_length, len(LEVELS)))
    for row, values in enumerate(context.astype(np.float64)):
        seen = np.flatnonzero(~np.isnan(values))
        known = np.interp(np.arange(seen[0], seen[-1] + 1), seen, values[seen])
        late = len(values) - 1 - seen[-1]  # steps between the last value and the context's end
        if np.ptp(known) == 0:  # nothing to fit
            out[row] = known[-1]
            continue
        found = model.forecast(y=known, h=prediction_length + late, level=list(COVERAGES))
        columns = [*(f"lo-{c}" for c in COVERAGES), "mean", *(f"hi-{c}" for c in reversed(COVERAGES))]
        out[row] = np.sort(np.stack([found[name][late:] for name in columns], axis=-1), axis=-1)
    return out
