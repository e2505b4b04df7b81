"""Windows made by hand, and forecasts of a known quality."""

import numpy as np
from numpy.typing import NDArray

from edge_tsfm.data.windows import Windows

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def windows_of(
    context: NDArray[np.floating], target: NDArray[np.floating], item_id: list[str] | None = None
) -> Windows:
    count = len(context)
    names = item_id or [f"p{n}" for n in range(count)]
    return Windows(
        context=np.asarray(context, dtype=np.float32),
        target=np.asarray(target, dtype=np.float32),
        item_id=np.array(names, dtype=np.str_),
        cutoff=np.full(count, np.asarray(context).shape[1], dtype=np.int64),
        series=np.arange(count),
    )


def ward(seed: int = 0, *, patients: int = 40, each: int = 5, length: int = 24, horizon: int = 6) -> Windows:
    """Noise around a level per patient, a tenth of it missing."""
    rng = np.random.default_rng(seed)
    level = 80 + 10 * rng.standard_normal(patients)
    spread = rng.uniform(3, 9, patients)
    owner = np.repeat(np.arange(patients), each)
    noise = rng.standard_normal((len(owner), length + horizon))
    values = level[owner, None] + spread[owner, None] * noise
    values[rng.random(values.shape) < 0.1] = np.nan
    values[:, 0], values[:, -1] = level[owner], level[owner]
    return windows_of(values[:, :length], values[:, length:], [f"p{n:03d}" for n in owner])


def around(point: NDArray[np.floating], spread: float = 5.0) -> NDArray[np.float64]:
    """Quantiles ``[N, H, 9]`` of a Gaussian around ``[N, H]``."""
    from statistics import NormalDist

    z = np.array([NormalDist().inv_cdf(level) for level in LEVELS])
    return point[..., None] + spread * z


def mean_forecast(windows: Windows, *, off: float = 0.0, spread: float = 5.0) -> NDArray[np.float64]:
    """Forecast the context's mean, ``off`` too high."""
    mean = np.nanmean(windows.context.astype(np.float64), axis=1) + off
    return around(np.repeat(mean[:, None], windows.target.shape[1], 1), spread)
