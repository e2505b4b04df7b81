from typing import Any

import numpy as np
import pytest

from device_runtime.errors import InputError
from device_runtime.table import Item, read_items

TABLE = """item_id,HR,MAP,dose
a,80,60,1
a,81,,2
a,,,3
b,70,50,4
b,71,51,5
b,,,6
"""


def target(item: Item) -> np.ndarray:
    """The one target of an item without covariates."""
    assert item.past_covariates == item.future_covariates == {}
    (only,) = item.targets
    return only


def test_series_are_told_apart_and_empty_cells_are_missing() -> None:
    got = read_items("item_id,timestamp,target\na,1,80\na,2,\nb,1,70\nb,2,NaN\n")
    np.testing.assert_array_equal(target(got["a"]), [80, np.nan])
    np.testing.assert_array_equal(target(got["b"]), [70, np.nan])


def test_a_table_without_ids_is_one_series() -> None:
    np.testing.assert_array_equal(target(read_items("\ufefftarget\n1\n2\n")["series"]), [1, 2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item_id,value\na,1\n", "no column 'target'; it has item_id, value"),
        ("item_id,target\n", "no rows"),
        ("item_id,target\na,1\na,high\n", "line 3: target: want a number, got 'high'"),
        ("item_id,timestamp,target\na,10,1\na,9,2\n", "line 3: a: timestamp 9 is not after 10"),
        ("", "it has none"),
    ],
)
def test_bad_tables_are_refused_by_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_items(text)


def test_targets_and_covariates_come_apart_and_the_last_rows_are_what_is_known_ahead() -> None:
    got = read_items(
        TABLE, targets=["HR"], past_covariates=["MAP"], future_covariates=["dose"], prediction_length=1
    )  # fmt: skip
    np.testing.assert_array_equal(got["a"].targets, [[80, 81]])
    np.testing.assert_array_equal(got["a"].past_covariates["MAP"], [60, np.nan])
    np.testing.assert_array_equal(got["a"].past_covariates["dose"], [1, 2])
    np.testing.assert_array_equal(got["b"].future_covariates["dose"], [6])
    assert list(got["a"].future_covariates) == ["dose"]


def test_without_a_known_covariate_every_row_was() -> None:
    got = read_items(TABLE, targets=["HR", "MAP"], past_covariates=["dose"], prediction_length=2)
    np.testing.assert_array_equal(got["b"].targets, [[70, 71, np.nan], [50, 51, np.nan]])
    np.testing.assert_array_equal(got["b"].past_covariates["dose"], [4, 5, 6])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": ["HR", "RR"]}, "no column 'RR'"),
        ({"targets": ["HR", "HR"]}, "'HR' is asked for twice"),
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
        read_items(TABLE, **options)
