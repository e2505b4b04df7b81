"""The options for reading data: those of the device for a table, and those for a folder."""

from __future__ import annotations

from dataclasses import dataclass, fields

from device_runtime.series.options import OptionError, ReadOptions, TableOptions
from edge_tsfm.data.across import ACROSS_FILES


@dataclass(frozen=True, kw_only=True)
class DataOptions(TableOptions):
    """How data are read; the keys of every TOML that names data.

    ``ids_across_files`` says what an id in several files of a folder is: ``same`` or ``per-file``.
    """

    ids_across_files: str | None = None

    def check(self) -> None:
        """Refuse what no data could be read with. Raises `OptionError`."""
        ReadOptions(**{one.name: getattr(self, one.name) for one in fields(TableOptions)})
        if self.ids_across_files not in (None, *ACROSS_FILES):
            raise OptionError(f"ids_across_files: want {' or '.join(ACROSS_FILES)}, got {self.ids_across_files!r}")
