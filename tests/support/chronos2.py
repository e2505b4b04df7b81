"""What forecasts of Chronos-2 may be off by where only the order of summation differs."""

import numpy as np

from export.parity import difference
from tests.support.rounding import ANY_ORDER


def same(got: np.ndarray, wanted: np.ndarray, context: np.ndarray) -> None:
    """Equal to what float32's order of summation decides, of the contexts' scale and of the level added to it."""
    assert difference(got, wanted, context) < rounding(wanted, context)


def rounding(wanted: np.ndarray, context: np.ndarray) -> float:
    return float(ANY_ORDER * (1 + np.nanmax(np.abs(wanted)) / np.nanstd(context)))
