"""The options for reading data: those of the device for a table, and those for a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd

from device_runtime.binder import bind
from device_runtime.series.options import OptionError, ReadOptions, TableOptions
from device_runtime.series.signals import Signal
from edge_tsfm.data.across import ACROSS_FILES, AcrossFiles
from edge_tsfm.data.clock import as_text
from edge_tsfm.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class DataOptions(TableOptions):
    """How data are read; the keys of every TOML that names data, the options of every command that reads some.

    ``ids_across_files`` says what an id in several files of a folder is: ``same`` or ``per-file``.
    """

    ids_across_files: str | None = None

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> DataOptions:
        """Take options by name, of Python's kinds too: a span may be a Timedelta, a list may stand for a tuple.

        Raises `ConfigError` for a name that is none, and for a value of another kind.
        """
        values = {name: as_text(value) if isinstance(value, pd.Timedelta) else value for name, value in said.items()}
        return bind(DataOptions, values, "", error=ConfigError)

    def of_table(self, *, signal: Signal | None = None, plausible: tuple[float, float] | None = None) -> ReadOptions:
        """Return what the reader of one table is told. Raises `OptionError` for what no table could be read with."""
        said = {one.name: getattr(self, one.name) for one in fields(TableOptions)}
        return ReadOptions(**said, signal=signal, plausible=plausible)

    def across(self) -> AcrossFiles | None:
        """Return what an id in several files is. Raises `OptionError` for what it cannot be."""
        if self.ids_across_files not in (None, *ACROSS_FILES):
            raise OptionError(f"ids_across_files: want {' or '.join(ACROSS_FILES)}, got {self.ids_across_files!r}")
        return self.ids_across_files

    def check(self) -> None:
        """Refuse what no data could be read with. Raises `OptionError`."""
        self.of_table()
        self.across()

    def over(self, other: DataOptions) -> DataOptions:
        """Return these options, and where they say nothing those of ``other``."""
        return DataOptions(
            **{one.name: getattr(self, one.name) or getattr(other, one.name) for one in fields(DataOptions)}
        )
