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
    """How data are read: the keys of every TOML file that names data, and the options of every command that reads them.

    ``ids_across_files`` says whether an id in several files of a folder is one patient (``same``) or one for each file
    (``per-file``).
    """

    ids_across_files: str | None = None

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> DataOptions:
        """Make options from names and values, also of Python types: a duration may be a Timedelta, a tuple a list.

        Raises `ConfigError` for an unknown name, and for a value of the wrong type.
        """
        values = {name: as_text(value) if isinstance(value, pd.Timedelta) else value for name, value in said.items()}
        return bind(DataOptions, values, "", error=ConfigError)

    def of_table(self, *, signal: Signal | None = None, plausible: tuple[float, float] | None = None) -> ReadOptions:
        """Return the options for the reader of one table. Raises `OptionError` for an invalid one."""
        said = {one.name: getattr(self, one.name) for one in fields(TableOptions)}
        return ReadOptions(**said, signal=signal, plausible=plausible)

    def across(self) -> AcrossFiles | None:
        """Return ``ids_across_files``, checked. Raises `OptionError` for an invalid value."""
        if self.ids_across_files not in (None, *ACROSS_FILES):
            raise OptionError(f"ids_across_files: want {' or '.join(ACROSS_FILES)}, got {self.ids_across_files!r}")
        return self.ids_across_files

    def check(self) -> None:
        """Check all options. Raises `OptionError` for an invalid one."""
        self.of_table()
        self.across()

    def over(self, other: DataOptions) -> DataOptions:
        """Return these options, and those of ``other`` where these are not set."""
        return DataOptions(
            **{one.name: getattr(self, one.name) or getattr(other, one.name) for one in fields(DataOptions)}
        )
