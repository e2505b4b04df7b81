"""The PhysioNet/CinC Challenge 2019 folder: one ``|``-separated file a patient, one row an hour."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge_tsfm.data.names import names_of
from edge_tsfm.data.tables import Table, parse_csv
from edge_tsfm.errors import DataError


def read_psv_folder(files: Sequence[Path], *, source: Path) -> Table:
    """Read all files as one table, the file's name as ``patient``; tens of thousands are parsed in one go.

    Raises `DataError` for a file that is empty, has no rows, or has other columns than the first.
    """
    head: str | None = None
    bodies: list[str] = []
    counts: list[int] = []
    for file in files:
        try:
            first, _, body = file.read_text("utf-8-sig").partition("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{file} cannot be read: {error}") from error
        body = body.strip()
        if not first.strip() or not body:
            what = "column names but no rows" if first.strip() else "nothing in it"
            raise DataError(f"{file} has {what}", hint="the download may be incomplete: fetch it again, or remove it")
        head = head or first.strip()
        if first.strip() != head:
            raise DataError(f"{file} has other columns than {files[0]}")
        bodies.append(body)
        counts.append(body.count("\n") + 1)
    frame = parse_csv("\n".join([head or "", *bodies]), source=source)
    frame["patient"] = np.repeat(names_of(source, files), counts)
    ends = np.cumsum(counts)

    def where(row: int) -> str:
        at = int(np.searchsorted(ends, row, side="right"))
        return f"{files[at]}, line {row - int(ends[at] - counts[at]) + 2}"

    return Table(source=source, frame=frame, where=where)
