"""One id in several files of a folder: one patient, or two sites that both count from 1."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edge_tsfm.errors import DataError

AcrossFiles = Literal["same", "per-file"]
ACROSS_FILES: tuple[AcrossFiles, ...] = ("same", "per-file")


def ids_across_files(
    ids: NDArray[np.object_],
    time_us: NDArray[np.int64],
    file: NDArray[np.int64],
    names: Sequence[str],
    how: AcrossFiles | None,
    source: object,
) -> tuple[NDArray[np.object_], str | None]:
    """Return whose each row is, ``[R]``, and what a reader must know about it.

    ``file`` ``[R]`` is each row's file, ``names`` their names without endings. ``how`` None: an id in several files is
    one patient where its times in one end before those in the next begin, as in a table that grows by a file a month.
    ``same``: it is one patient, whatever its times. ``per-file``: ids count within their file, which becomes part of
    the id (``siteA/1``). Raises `DataError` for an id whose times in two files overlap without the option.
    """
    if how == "per-file":
        return np.array([f"{names[at]}/{one}" for at, one in zip(file, ids, strict=True)], dtype=object), None
    code, distinct = pd.factorize(ids)
    both, owner = np.unique(code.astype(np.int64) * len(names) + file, return_inverse=True)  # [G] of an id and a file
    first = np.full(len(both), np.iinfo(np.int64).max)
    last = np.full(len(both), np.iinfo(np.int64).min)
    np.minimum.at(first, owner.reshape(-1), time_us)
    np.maximum.at(last, owner.reshape(-1), time_us)
    item, at = both // len(names), both % len(names)
    order = np.lexsort((first, item))
    item, at, first, last = item[order], at[order], first[order], last[order]
    again = item[1:] == item[:-1]
    shared = len(np.unique(item[1:][again]))
    if not shared or how == "same":
        return ids, f"{shared} ids occur in several files: one item each" if shared else None
    overlap = np.flatnonzero(again & (first[1:] <= last[:-1]))
    if len(overlap):
        row = overlap[0]
        files = " and ".join(sorted((names[at[row]], names[at[row + 1]])))
        raise DataError(
            f"{source}: {len(np.unique(item[overlap]))} of {len(distinct)} ids occur in several files at the same "
            f"times, such as {distinct[item[row]]} in {files}: one patient, or two of one name?",
            hint="say --ids-across-files per-file (each file has its own patients) or same (they are one patient's)",
        )
    return ids, (
        f"{shared} ids occur in several files, at times that do not overlap: one item each "
        "(--ids-across-files per-file keeps them apart)"
    )
