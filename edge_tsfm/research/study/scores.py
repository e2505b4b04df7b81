"""A cell's scores on the test patients, kept as sums for each patient: any figure and interval follows from them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_runtime.binder import bind
from device_runtime.documents import parse_json
from device_runtime.files import write_atomic
from edge_tsfm.data import Windows
from edge_tsfm.errors import DataError
from edge_tsfm.evaluation.bootstrap import patient_sums
from edge_tsfm.evaluation.metrics import at_level, score_windows

SCORES_FILE = "test_scores.npz"
# Families forecast different levels; all are judged at these, which every one of them reaches.
LEVELS = tuple(round(0.1 * k, 1) for k in range(1, 10))


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Numerators and denominators of every metric by patient, for each forecaster of a cell."""

    item_id: NDArray[np.str_]  # [P], the names of what is drawn
    sums: Mapping[str, NDArray[np.float64]]  # forecaster → [P, M, 2]
    windows: int
    values: int  # observed targets
    record: Mapping[str, Any]  # config, data fingerprint, versions
    unit: str = "patient"  # what a row of the sums is: patient, item or block


@dataclass(frozen=True, kw_only=True)
class ScoresRecord:
    """The keys required beside the sums."""

    config: Mapping[str, Any]
    fingerprint: str
    windows: int
    values: int
    unit: str = "patient"


def write_scores(
    path: Path,
    forecasts: Mapping[str, NDArray[np.floating]],
    windows: Windows,
    levels: Sequence[float],
    record: Mapping[str, Any],
) -> None:
    """Score forecasts ``[N, H, Q]`` at `LEVELS` and write their sums by patient. Raises `DataError` for no windows."""
    if not len(windows):
        raise DataError("the test part has no window to score", hint="more data, or shorter windows")
    sums = {
        name: patient_sums(score_windows(_at_levels(quantiles, levels), windows, LEVELS), windows.drawn)
        for name, quantiles in forecasts.items()
    }
    counts = {"unit": windows.unit, "windows": len(windows), "values": int((~np.isnan(windows.target)).sum())}
    buffer = io.BytesIO()
    arrays = {f"sums/{name}": array for name, array in sums.items()}
    np.savez_compressed(
        buffer,
        item_id=np.unique(windows.drawn),
        record=np.array(json.dumps({**record, **counts}, default=str)),
        **arrays,  # type: ignore[arg-type]  # numpy's stub takes the keywords for its own options
    )
    write_atomic(path, buffer.getvalue())


def read_scores(path: Path) -> Scores:
    """Read what `write_scores` wrote. Raises `DataError` when it cannot be read, or is something else."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        text = str(arrays["record"]).encode()
        item_id = arrays["item_id"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path}: not the scores of a study's cell: {error}", hint="remove it to score again"
        ) from error
    record = parse_json(text, f"{path}: record", error=DataError)
    made = bind(ScoresRecord, record, f"{path}: record", error=DataError, ignore_unknown=True)
    return Scores(
        item_id=item_id,
        sums={key.removeprefix("sums/"): array for key, array in arrays.items() if key.startswith("sums/")},
        windows=made.windows,
        values=made.values,
        unit=made.unit,
        record={key: value for key, value in record.items() if key not in ("windows", "values", "unit")},
    )


def _at_levels(quantiles: NDArray[np.floating], levels: Sequence[float]) -> NDArray[np.floating]:
    if len(levels) == len(LEVELS) and np.allclose(levels, LEVELS, atol=1e-6):
        return quantiles
    full, known = quantiles.astype(np.float64), np.asarray(levels, dtype=np.float64)
    return np.stack([at_level(full, known, level) for level in LEVELS], axis=-1)
