"""A table's rows as flat arrays of one channel: whose, when, how much, in the channel's unit."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edge_tsfm.data.across import AcrossFiles, ids_across_files
from edge_tsfm.data.channels import CONVERSIONS, Channel, find_channel, find_unit, unit_of_name
from edge_tsfm.data.columns import Target, is_event_of
from edge_tsfm.data.layouts import Layout
from edge_tsfm.data.names import stem
from edge_tsfm.data.series import Attribute
from edge_tsfm.data.tables import Table, numbers, texts
from edge_tsfm.data.times import Clock, parse_times
from edge_tsfm.errors import ConfigError, DataError


@dataclass(frozen=True, kw_only=True)
class Samples:
    """R measurements of one channel; a part is one stay or record of one patient, in order of their ids."""

    item_ids: tuple[str, ...]  # [P]
    attributes: tuple[Mapping[str, Attribute], ...]  # [P]
    part: NDArray[np.int64]  # [R], index of the part
    time_us: NDArray[np.int64]  # [R]
    value: NDArray[np.float32]  # [R], NaN where nothing was measured
    clock: Clock
    converted: int
    note: str | None = None


def take_samples(
    table: Table, layout: Layout, target: Target, *, unit: str | None, across: AcrossFiles | None = None
) -> Samples:
    """Pull one channel out of a table; raises `DataError` for what cannot be read, naming file and row.

    ``across`` says what an id that occurs in several files is (`ids_across_files`).
    """
    if layout.name_column is not None:
        table = _rows_of(table, layout.name_column, target)
    times, clock = parse_times(table, layout.timestamp_column, step=layout.step)
    value, converted = _values(table, layout, target, unit)
    ids = (
        np.full(len(times), _stem(table), dtype=object) if layout.id_column is None else texts(table, layout.id_column)
    )
    ids, note = (
        (ids, None)
        if table.file is None
        else ids_across_files(ids, times, table.file, table.files, across, table.source)
    )
    part, names, part_names = _parts(table, layout, ids)
    return Samples(
        item_ids=names,
        attributes=_attributes(table, layout, target, part, part_names),
        part=part,
        time_us=times,
        value=value.astype(np.float32),
        clock=clock,
        converted=converted,
        note=note,
    )


def _stem(table: Table) -> str:
    return stem(table.source)


def _rows_of(table: Table, name_column: str, target: Target) -> Table:
    """Keep an event table's rows of the target, and their line numbers."""
    names = table.frame[name_column]
    wanted = [name for name in names.dropna().unique() if is_event_of(name, target)]
    kept = np.flatnonzero(names.isin(wanted).to_numpy())
    where = table.where
    return Table(
        source=table.source,
        frame=table.frame.iloc[kept].reset_index(drop=True),
        where=lambda row: where(int(kept[row])),
        layout=table.layout,
        notes=table.notes,
        file=None if table.file is None else table.file[kept],
        files=table.files,
    )


def _values(table: Table, layout: Layout, target: Target, unit: str | None) -> tuple[NDArray[np.float64], int]:
    """Return the values in the channel's unit, and how many were converted."""
    # Through float32 first: a CSV's 36.6 and a Parquet float32 of it must come out the same.
    column = target.column if layout.value_column is None else layout.value_column
    value = numbers(table, column).astype(np.float32).astype(np.float64)
    if target.channel is None:
        if unit is not None:
            raise ConfigError(f"--unit {unit}: {target.name} is not a vital sign of the channel table")
        return value, 0
    rows = _row_units(table, layout, column, target.channel, unit)
    converted = 0
    for name in pd.unique(rows):
        if name == target.channel.unit:
            continue
        if (name, target.channel.unit) not in CONVERSIONS:
            row = int(np.argmax(rows == name))
            raise DataError(
                f"{target.name} in {name!r}: wanted {target.channel.unit} ({table.where(row)})",
                hint=f"convert it, or say its unit with --unit ({_convertible(target.channel)})",
            )
        scale, offset = CONVERSIONS[name, target.channel.unit]
        these = rows == name
        value[these] = value[these] * scale + offset
        converted += int((these & ~np.isnan(value)).sum())
    return value, converted


def _row_units(table: Table, layout: Layout, column: str, channel: Channel, unit: str | None) -> NDArray[np.object_]:
    """Return each row's unit: as said by the user, the row, its item id or name, the column, or the table."""
    rows = len(table.frame)
    if unit is not None:
        known = find_unit(unit)
        if known != channel.unit and (known, channel.unit) not in CONVERSIONS:
            raise ConfigError(f"--unit {unit}: {channel.name} is in {_convertible(channel)}")
        return np.full(rows, known, dtype=object)
    units = np.full(rows, unit_of_name(column) or channel.unit, dtype=object)
    if layout.name_column is not None:
        fahrenheit = {str(item_id) for item_id in channel.fahrenheit_item_ids}
        for name in table.frame[layout.name_column].unique():
            stated = "degF" if str(name).removesuffix(".0") in fahrenheit else unit_of_name(str(name))
            if stated is not None:
                units[(table.frame[layout.name_column] == name).to_numpy()] = stated
    if layout.unit_column is not None:
        spelled = table.frame[layout.unit_column]
        for spelling in spelled.dropna().unique():
            units[(spelled == spelling).to_numpy()] = find_unit(str(spelling)) or str(spelling)
    return units


def _convertible(channel: Channel) -> str:
    return " or ".join([channel.unit, *(a for a, b in CONVERSIONS if b == channel.unit)])


def _parts(
    table: Table, layout: Layout, ids: NDArray[np.object_]
) -> tuple[NDArray[np.int64], tuple[str, ...], tuple[str, ...]]:
    """Return each row's part ``[R]``, and each part's item_id and stay or record name ``[P]``, sorted."""
    code, names = pd.factorize(ids, sort=True)
    if layout.part_column is None:
        return code.astype(np.int64), tuple(map(str, names)), ("",) * len(names)
    column = table.frame[layout.part_column]
    if pd.api.types.is_float_dtype(column):
        column = column.astype("Int64")
    stay, stays = pd.factorize(column.astype("str").fillna("").to_numpy(dtype=object), sort=True)
    both, part = np.unique(code.astype(np.int64) * len(stays) + stay, return_inverse=True)
    return (
        part.astype(np.int64),
        tuple(str(names[one // len(stays)]) for one in both),
        tuple(str(stays[one % len(stays)]) for one in both),
    )


def _attributes(
    table: Table, layout: Layout, target: Target, part: NDArray[np.int64], part_names: tuple[str, ...]
) -> tuple[Mapping[str, Attribute], ...]:
    """Return what stays the same throughout each part: age, sex, unit ... for reports by subgroup."""
    found: list[dict[str, Attribute]] = [{} for _ in part_names]
    if layout.part_column is not None:
        for one, name in zip(found, part_names, strict=True):
            one[layout.part_column] = name
    used = {layout.id_column, layout.part_column, layout.timestamp_column, target.column}
    columns = layout.attributes
    if columns is None:
        columns = tuple(c for c in table.frame.columns if c not in used and find_channel(c) is None)
    for column in columns:
        values = table.frame[column]
        if pd.api.types.is_datetime64_any_dtype(values):
            continue
        for index, value in _constant(values, part, len(part_names), strict=layout.attributes is None).items():
            found[index][column] = value
    return tuple(found)


def _constant(
    values: "pd.Series[float] | pd.Series[str]", part: NDArray[np.int64], parts: int, *, strict: bool
) -> dict[int, Attribute]:
    """Return each part's first value of a column; nothing when ``strict`` and it changes within some part."""
    present = values.notna().to_numpy()
    owner, kept = part[present], values[present]
    codes, distinct = pd.factorize(kept)
    first = np.full(parts, -1, dtype=np.int64)
    first[owner[::-1]] = codes[::-1]  # of several, the last written stays: the first in the file
    if strict and (codes != first[owner]).any():
        return {}
    # float32 through its shortest text: an age of 83.14 stays 83.14.
    named = [
        float(str(one)) if pd.api.types.is_number(one) and not isinstance(one, bool | np.bool_) else str(one)
        for one in np.asarray(distinct)
    ]
    return {part: named[code] for part, code in enumerate(first) if code >= 0}
