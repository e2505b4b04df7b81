"""Running the forecast sample, and reading what it prints."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.support.rounding import ANY_ORDER

from .conftest import run


def forecast(
    built: Path, library: Path, bundle: Path, *arguments: object, stdin: str | None = None
) -> tuple[int, str, str]:
    done = run(built / "forecast_ort" / "etsa-forecast", "--library", library, bundle, *arguments, stdin=stdin)
    return done.returncode, done.stdout, done.stderr


def quantiles(text: str) -> np.ndarray:
    """The table that etsa-forecast prints: ``[H, Q]``."""
    return np.array([[float(cell) for cell in line.split(",")[1:]] for line in text.splitlines()[1:]])


def same(got: np.ndarray, wanted: np.ndarray) -> None:
    """Equal to rounding of the largest: quantiles near zero are differences of larger numbers."""
    assert got.shape == wanted.shape
    assert float(np.abs(got - wanted).max()) <= ANY_ORDER * float(np.abs(wanted).max())
