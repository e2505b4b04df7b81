"""BIDMC numerics: a CSV a recording, and a text beside it that names the patient."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from edge_tsfm.data.recordings import about, table_of
from edge_tsfm.data.tables import Table, read_table
from edge_tsfm.errors import DataError

_BIDMC_PATIENT = re.compile(r"^MIMIC II matched wdb ID:\s*(\S+)", re.MULTILINE)


def read_bidmc_folder(files: Sequence[Path], *, source: Path) -> Table:
    """Read ``bidmc_##_Numerics.csv``; the patient is the MIMIC II id in ``bidmc_##_Fix.txt``, not the record.

    Raises `DataError` when a record's Fix file or the id in it is missing.
    """
    frames: list[pd.DataFrame] = []
    for file in files:
        record = file.name[: -len("_Numerics.csv")]
        fix = file.with_name(f"{record}_Fix.txt")
        try:
            text = fix.read_text("utf-8")
        except OSError as error:
            raise DataError(f"{file} has no {fix.name} beside it, which names its patient") from error
        except UnicodeDecodeError as error:
            raise DataError(f"{fix} is not UTF-8 text: byte {error.start}") from error
        patient = _BIDMC_PATIENT.search(text)
        if patient is None:
            raise DataError(f"{fix} does not name the patient ('MIMIC II matched wdb ID: ...')")
        frames.append(read_table(file).frame.assign(item_id=patient[1], record=record, **about(text)))
    return table_of(
        frames,
        source=source,
        name="BIDMC numerics",
        where=lambda row: f"{source}, row {row + 1} of all records",
        timestamp_column="Time [s]",
        step_us=1_000_000,
    )
