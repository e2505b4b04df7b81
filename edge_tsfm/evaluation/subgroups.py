"""Labels of windows by attributes of their patients, so that an average cannot hide a subgroup that becomes worse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_tsfm.errors import DataError

if TYPE_CHECKING:
    from edge_tsfm.data.series import Series
    from edge_tsfm.data.windows import Windows

MAX_LABELS = 12  # a column with more distinct numbers is cut at its quartiles
UNKNOWN = "unknown"


def subgroup_labels(series: Sequence[Series], windows: Windows, column: str) -> NDArray[np.str_]:
    """Label each window ``[N]`` by an attribute of its series, the ones `make_windows` was given.

    Numbers with more than `MAX_LABELS` distinct values are cut at the quartiles over patients. Series without
    the attribute are ``unknown``. Raises `DataError` when no series has it, or its texts are too many.
    """
    known = [one.attributes.get(column) for one in series]
    if all(value is None for value in known):
        others = sorted({name for one in series for name in one.attributes})
        raise DataError(
            f"no patient has an attribute {column!r}",
            hint=f"attributes are columns that stay the same within a patient; here: {', '.join(others) or 'none'}",
        )
    numbers = [float(v) for v in known if isinstance(v, int | float) and not np.isnan(v)]
    if len(set(numbers)) > MAX_LABELS:
        per_patient = {
            one.item_id: float(v)
            for one, v in zip(series, known, strict=True)
            if isinstance(v, int | float) and not np.isnan(v)
        }
        edges = np.quantile(list(per_patient.values()), [0, 0.25, 0.5, 0.75, 1])
        names = [_bin(v, edges) for v in known]
    else:
        names = [_name(v) for v in known]
        if len(set(names)) > MAX_LABELS:
            raise DataError(f"{column} has {len(set(names))} different values; at most {MAX_LABELS} make subgroups")
    return np.array(names, dtype=np.str_)[windows.series]


def _bin(value: str | float | None, edges: NDArray[np.float64]) -> str:
    if not isinstance(value, int | float) or np.isnan(value):
        return UNKNOWN
    k = int(np.clip(np.searchsorted(edges, value, side="right") - 1, 0, 3))
    return f"Q{k + 1}: {edges[k]:.4g} to {edges[k + 1]:.4g}"


def _name(value: str | float | None) -> str:
    if isinstance(value, str):
        return value
    return UNKNOWN if value is None or np.isnan(value) else f"{value:g}"
