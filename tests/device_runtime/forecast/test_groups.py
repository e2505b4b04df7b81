"""Targets and covariates to rows of groups, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_runtime.errors import InputError
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.forecast.groups import MAX_GROUP, arrange

NAN = float("nan")
CONTEXT = np.arange(12, dtype=np.float32).reshape(3, 4)


def test_a_covariate_joins_the_group_of_its_place() -> None:
    past = {"a": np.full((2, 4), 5), "b": [[1, 2, 3, NAN], [4, 5, 6, 7]]}
    rows = arrange(CONTEXT, 2, [8, 3, 8], past, {"b": [[10, 11], [12, NAN]]})
    assert rows.targets == 3
    np.testing.assert_array_equal(rows.groups, [0, 1, 0, 0, 1, 0, 1])  # 8 comes first, whatever its number
    np.testing.assert_array_equal(rows.context, np.concatenate([CONTEXT, past["a"], past["b"]]))
    np.testing.assert_array_equal(rows.future, [[NAN, NAN]] * 5 + [[10, 11], [12, NAN]])
    assert rows.context.dtype == rows.future.dtype == np.float32


def test_without_groups_each_series_has_its_own_covariate() -> None:
    np.testing.assert_array_equal(arrange(CONTEXT, 2, None, {"a": CONTEXT}, None).groups, [0, 1, 2, 0, 1, 2])


def test_one_group_takes_a_covariate_without_a_second_axis() -> None:
    rows = arrange(CONTEXT, 2, [1, 1, 1], {"a": [1, 2, 3, 4]}, {"a": [5, 6]})
    np.testing.assert_array_equal(rows.groups, [0, 0, 0, 0])
    np.testing.assert_array_equal(rows.future[-1], [5, 6])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": [0, 1]}, "groups: want a whole number for each of the 3 series"),
        ({"groups": [0.0, 1.0, 1.0]}, "groups: want a whole number"),
        ({"groups": [[0], [1, 2], [3]]}, "groups: want a whole number"),
        ({"past_covariates": {"a": [1, 2, 3, 4]}}, r"past_covariates: a: want shape \[3, 4\], got \[4\]"),
        ({"groups": [0, 0, 0], "past_covariates": {"a": [1, 2]}}, r"want shape \[4\] or \[1, 4\], got \[2\]"),
        ({"past_covariates": {"a": np.full((3, 4), np.inf)}}, "infinite"),
        ({"past_covariates": {"a": [["low"] * 4] * 3}}, "a: want numbers, got"),
        ({"past_covariates": {"a": np.full((3, 4), "1")}}, "a: want numbers, got"),
        ({"past_covariates": {"a": np.ones((3, 4), dtype=bool)}}, "a: want numbers, got bool"),
        ({"past_covariates": {"a": [[1, 2], [3]]}}, "past_covariates: a"),
        ({"future_covariates": {"a": [1, 2]}}, "'a' is not among past_covariates"),
        ({"past_covariates": {"a": CONTEXT}, "future_covariates": {"a": CONTEXT}}, r"want shape \[3, 2\]"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    wanted: dict[str, Any] = {"groups": None, "past_covariates": None, "future_covariates": None} | options
    with pytest.raises(InputError, match=message):
        arrange(CONTEXT, 2, **wanted)


def test_a_group_has_a_largest_size() -> None:
    context = np.zeros((MAX_GROUP, 4), dtype=np.float32)
    assert arrange(context, 2, [0] * MAX_GROUP, None, None).targets == MAX_GROUP
    with pytest.raises(InputError, match=f"a group of {MAX_GROUP + 1} series"):
        arrange(context, 2, [0] * MAX_GROUP, {"a": [1, 2, 3, 4]}, None)


@pytest.mark.parametrize("options", [{"groups": [0]}, {"past_covariates": {"a": [1.0] * 20}}])
def test_a_base_that_forecasts_series_alone_refuses_groups_and_covariates(
    dummy_bundle: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match="chronos-bolt forecasts each series alone") as refused:
        Forecaster.open(dummy_bundle).forecast([80.0] * 20, 4, **options)
    assert "Chronos-2" in str(refused.value.hint)
