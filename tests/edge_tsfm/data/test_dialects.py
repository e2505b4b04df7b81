"""One table in the dialects that files come in: the same series from all, on both sides, or a reason."""

import random
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.both_readers import Read, same_on_both
from tests.support.dialects import ENCODINGS, GOOD_BAD, HOUR_US, IDS, STEPS, TIMES, UNKNOWN_IDS, Dialect, write

START_US = 20_513 * 24 * HOUR_US  # 2026-03-01
REFUSED = {"sheet_days", "slashes_day_first", "time_of_day"}

dialects = st.builds(
    Dialect,
    time=st.sampled_from(TIMES),
    id_column=st.sampled_from(IDS + UNKNOWN_IDS),
    layout=st.sampled_from(["wide", "long", "events"]),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    decimal=st.sampled_from([".", ","]),
    encoding=st.sampled_from(ENCODINGS),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    order=st.sampled_from(["sorted", "newest first", "shuffled"]),
    unit=st.sampled_from(["mmHg", "mmHg", "kPa name", "kPa column", "cmH2O name", "hPa name", "kPa line"]),
    missing=st.sampled_from(["blank", "NA", "0", "no row", "---", "NULL", "-9999", "?"]),
    quote=st.booleans(),
    capitals=st.sampled_from(["", "upper", "lower", "title"]),
    repeated=st.booleans(),
    variable_column=st.sampled_from(["variable", "parameter", "type", "Bezeichnung", "label"]),
    before=st.sampled_from(["", "", "# from the ward\n", "\n"]),
    after=st.booleans(),
    flag=st.sampled_from(["", "", *GOOD_BAD]),
    floats=st.booleans(),
    packed=st.booleans(),
)
PLAIN = Dialect(
    time="iso", id_column="patient", layout="wide", delimiter=",", decimal=".", encoding="utf-8", line_end="\n",
    order="sorted", unit="mmHg", missing="blank", quote=False, capitals="", repeated=False,
)  # fmt: skip


def ward(seed: int, patients: int) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    draw = np.random.default_rng(seed)
    items, starts = {}, {}
    for patient in range(patients):
        values = draw.normal(60 + 25 * patient, 4, int(draw.integers(14, 40))).round(1).astype(np.float32)
        values[1:-1][draw.random(len(values) - 2) < 0.15] = np.nan
        items[f"{patient + 101}"], starts[f"{patient + 101}"] = values, int(draw.integers(0, 9))
    return items, starts


def read_in(how: Dialect, seed: int, patients: int) -> tuple[Read, dict[str, np.ndarray], dict[str, int]]:
    items, starts = ward(seed, patients)
    with TemporaryDirectory() as folder:
        path = Path(folder) / ("101.csv.gz" if how.packed else "101.csv")
        path.write_bytes(write(items, starts, how, random.Random(seed)))
        return same_on_both(path, "MAP"), items, starts


def assert_meant(read: Read, how: Dialect, items: dict[str, np.ndarray], starts: dict[str, int]) -> None:
    assert {item for item, _ in read.series} == set(items)
    assert read.interval_us == HOUR_US
    assert read.unit == "mmHg"
    for (item, segment), (start, values) in read.series.items():
        assert segment == 0
        assert start == (starts[item] if how.time in STEPS else START_US + starts[item] * HOUR_US)
        if how.unit == "mmHg":
            np.testing.assert_array_equal(values, items[item])
        else:
            np.testing.assert_allclose(values, items[item], rtol=1e-6)


@settings(max_examples=150, deadline=None)
@given(dialects, st.integers(0, 1_000), st.integers(1, 3))
def test_the_same_series_from_every_dialect_or_a_reason(how: Dialect, seed: int, patients: int) -> None:
    read, items, starts = read_in(how, seed, patients)
    if read.refused is None:
        assert how.time not in REFUSED
        assert_meant(read, how, items, starts)
    else:
        assert read.hint, read.refused
        unknown = how.id_column in UNKNOWN_IDS and patients > 1
        assert how.time in REFUSED or unknown, (read.refused, how)


@pytest.mark.parametrize("time", [time for time in TIMES if time not in REFUSED])
def test_every_form_of_time_is_read(time: str) -> None:
    how = Dialect(**{**vars(PLAIN), "time": time})
    read, items, starts = read_in(how, 1, 2)
    assert_meant(read, how, items, starts)


@pytest.mark.parametrize("time", sorted(REFUSED))
def test_times_that_could_be_two_things_are_refused(time: str) -> None:
    read, _, _ = read_in(Dialect(**{**vars(PLAIN), "time": time}), 1, 2)
    assert read.refused
    assert read.hint


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("layout", ["wide", "long", "events"])
def test_every_usual_name_of_an_id_is_one(name: str, layout: str) -> None:
    how = Dialect(**{**vars(PLAIN), "id_column": name, "layout": layout, "order": "shuffled"})
    read, items, starts = read_in(how, 2, 3)
    assert_meant(read, how, items, starts)


@pytest.mark.parametrize("name", UNKNOWN_IDS)
def test_an_id_of_another_name_is_found_by_structure_or_named_in_the_refusal(name: str) -> None:
    how = Dialect(**{**vars(PLAIN), "id_column": name})
    read, items, starts = read_in(how, 3, 3)
    assert_meant(read, how, items, starts)
    refused, _, _ = read_in(Dialect(**{**vars(how), "order": "shuffled"}), 3, 3)
    assert "no id column is known" in (refused.refused or "")
    assert f"{name} (3 distinct)" in (refused.hint or "")


@settings(max_examples=25, deadline=None)
@given(dialects, st.integers(0, 1_000))
def test_two_patients_under_one_id_are_refused(how: Dialect, seed: int) -> None:
    items, _ = ward(seed, 2)
    both = {"101": items["101"]}
    plain = {"encoding": "utf-8", "unit": "mmHg", "before": "", "after": False, "flag": "", "packed": False}
    how = replace(how, **plain)
    first = write(both, {"101": 0}, how, random.Random(1))
    second = write({"101": items["102"]}, {"101": 0}, how, random.Random(1)).split(how.line_end.encode(), 1)[1]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "ward.csv"
        path.write_bytes(first + second)
        read = same_on_both(path, "MAP")
    assert read.refused
    assert read.hint
