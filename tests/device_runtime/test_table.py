import numpy as np
import pytest

from device_runtime.errors import InputError
from device_runtime.table import read_contexts


def test_series_are_told_apart_and_empty_cells_are_missing() -> None:
    got = read_contexts("item_id,timestamp,target\na,1,80\na,2,\nb,1,70\nb,2,NaN\n")
    np.testing.assert_array_equal(got["a"], [80, np.nan])
    np.testing.assert_array_equal(got["b"], [70, np.nan])


def test_a_table_without_ids_is_one_series() -> None:
    np.testing.assert_array_equal(read_contexts("\ufefftarget\n1\n2\n")["series"], [1, 2])


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
        read_contexts(text)
