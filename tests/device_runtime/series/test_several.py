from typing import Any

import numpy as np
import pytest

from device_runtime.errors import InputError
from device_runtime.series.dialect import read_csv
from device_runtime.series.options import ReadOptions
from device_runtime.series.several import Item, Items, read_items

TABLE = """item_id,HR,MAP,dose
a,80,60,1
a,81,,2
a,,,3
b,70,50,4
b,71,51,5
b,,,6
"""
HOUR_US = 3_600_000_000


def items(text: str, **options: Any) -> Items:
    return read_items(read_csv(text.encode(), "input"), **options)


def target(item: Item) -> np.ndarray:
    """The one target of an item without covariates."""
    assert item.past_covariates == item.future_covariates == {}
    (only,) = item.targets
    return only


def test_series_are_told_apart_and_empty_cells_are_missing() -> None:
    got = items("item_id,timestamp,target\na,1,80\na,2,\nb,1,70\nb,2,NaN\n").items
    np.testing.assert_array_equal(target(got["a"]), [80, np.nan])
    np.testing.assert_array_equal(target(got["b"]), [70, np.nan])


def test_a_table_without_ids_or_times_is_one_series_and_that_is_said() -> None:
    got = items("\ufefftarget\n1\n\n2\n")
    np.testing.assert_array_equal(target(got.items["series"]), [1, np.nan, 2])
    assert "no timestamp column: each row is the next step of its item" in got.notes
    assert (got.interval_us, got.signal, got.unit) == (None, None, None)
    said = items("HR\n70\n71\n", targets=["HR"], options=ReadOptions(interval="1min", rows_are_steps=True))
    assert said.interval_us == 60_000_000
    assert said.signal is not None
    assert said.unit == "1/min"


def test_what_an_adapter_is_held_against_is_known() -> None:
    rows = "".join(f"p,2026-03-01 {hour:02d}:00,{9 + hour / 10:.1f}\n" for hour in range(9))
    got = items("patient,time,MAP (kPa)\n" + rows, targets=["map"])
    assert got.signal is not None
    assert (got.signal.name, got.unit, got.interval_us) == ("MAP", "mmHg", HOUR_US)
    assert got.items["p"].targets[0, 0] == pytest.approx(67.5056, abs=1e-3)
    assert "id: patient" in got.summary()


def test_the_latest_stretch_is_forecast() -> None:
    rows = "".join(f"p,{hour},{70 + hour % 7}\n" for hour in [*range(20), *range(100, 115)])
    got = items("patient,hour,HR\n" + rows, targets=["HR"])
    assert got.items["p"].targets.shape == (1, 15)


def test_an_item_without_a_value_is_named() -> None:
    got = items("patient,hour,HR\n" + "".join(f"a,{h},7{h}\nb,{h},0\n" for h in range(5)), targets=["HR"])
    assert list(got.items) == ["a"]
    assert got.empty_items == ("b",)


def test_a_context_wants_as_many_observed_values_as_training() -> None:
    (item,) = items("HR\n" + "80\n" * 11, targets=["HR"]).items.values()
    with pytest.raises(InputError, match="11 observed values in its last 11 steps, want 12") as caught:
        item.context(48)
    assert "--min-observed" in (caught.value.hint or "")
    assert item.context(48, 11).shape == (1, 11)
    assert item.context(8).shape == (1, 8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item_id,value2\na,1\n", "which column is the target"),
        ("item_id,target\n", "no rows"),
        ("item_id,target\na,1\na,high\n", "'high' where a number is needed .*line 3"),
        ("", "is empty"),
        ("item_id,timestamp,target\na,1,1\na,1,2\n", "1 of 2 values are of a time that has another value"),
    ],
)
def test_bad_tables_are_refused_by_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        items(text)


def test_targets_and_covariates_come_apart_and_the_last_rows_are_what_is_known_ahead() -> None:
    got = items(
        TABLE, targets=["HR"], past_covariates=["MAP"], future_covariates=["dose"], prediction_length=1
    ).items  # fmt: skip
    np.testing.assert_array_equal(got["a"].targets, [[80, 81]])
    np.testing.assert_array_equal(got["a"].past_covariates["MAP"], [60, np.nan])
    np.testing.assert_array_equal(got["a"].past_covariates["dose"], [1, 2])
    np.testing.assert_array_equal(got["b"].future_covariates["dose"], [6])
    assert list(got["a"].future_covariates) == ["dose"]


def test_without_a_known_covariate_every_row_was() -> None:
    got = items(TABLE, targets=["HR", "MAP"], past_covariates=["dose"], prediction_length=2).items
    np.testing.assert_array_equal(got["b"].targets, [[70, 71, np.nan], [50, 51, np.nan]])
    np.testing.assert_array_equal(got["b"].past_covariates["dose"], [4, 5, 6])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": ["HR", "RR"]}, "no column 'RR'"),
        ({"targets": ["HR", "HR"]}, "'HR' is asked for twice"),
        ({"targets": ["HR", "heart rate"]}, "is asked for twice"),
        ({"targets": ["HR"], "future_covariates": ["HR"]}, "'HR' is asked for twice"),
        ({"targets": ["HR"], "future_covariates": ["dose"], "prediction_length": 2}, "a: HR has a value in the last 2"),
        ({"targets": ["MAP"], "past_covariates": ["HR"], "future_covariates": ["dose"], "prediction_length": 2},
         "a: HR has a value in the last 2"),
        ({"targets": ["HR"], "future_covariates": ["MAP"], "prediction_length": 1}, "a: MAP has no value in the last"),
        ({"targets": ["HR"], "future_covariates": ["dose"], "prediction_length": 3}, "a: 3 rows, want more than the 3"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        items(TABLE, **options)


def test_an_item_that_cannot_be_forecast_from_stops_no_other() -> None:
    got = items(TABLE + "c,60,50,7\n", targets=["HR"], future_covariates=["dose"], prediction_length=1)
    assert list(got.items) == ["a", "b"]
    assert "c: 1 rows, want more than the 1" in str(got.faults["c"])
