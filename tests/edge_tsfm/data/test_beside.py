"""Several signals of one source on one clock."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from edge_tsfm.data.beside import lay_beside, read_beside, take_contexts
from edge_tsfm.data.series import Series
from edge_tsfm.errors import ConfigError, DataError

NAN = float("nan")
HOUR = pd.Timedelta("1h")


def series(values: list[float], *, signal: str = "HR", start: str | None = None, first_step: int = 0) -> Series:
    return Series(
        item_id="a",
        signal=signal,
        interval=HOUR,
        target=np.array(values, dtype=np.float32),
        start=None if start is None else pd.Timestamp(start),
        first_step=first_step,
    )


def test_another_signal_lies_at_the_same_times() -> None:
    own = series([1, 2, 3, 4], start="2026-01-01 06:00")
    early = series([7, 8, 9], signal="MAP", start="2026-01-01 04:00")
    late = series([5, NAN], signal="MAP", start="2026-01-01 09:00")
    np.testing.assert_array_equal(lay_beside(own, [early, late]), [9, NAN, NAN, 5])
    np.testing.assert_array_equal(lay_beside(own, []), [NAN] * 4)
    steps = series([1, 2], first_step=5)
    np.testing.assert_array_equal(lay_beside(steps, [series([8, 9], signal="MAP", first_step=4)]), [9, NAN])


def test_times_that_do_not_meet_or_are_told_twice_are_refused() -> None:
    own = series([1, 2, 3, 4], start="2026-01-01 06:00")
    with pytest.raises(DataError, match="not measured at the times of HR"):
        lay_beside(own, [series([7, 8], signal="MAP", start="2026-01-01 06:30")])
    twice = [series([7, 8], signal="MAP", start="2026-01-01 06:00")] * 2
    with pytest.raises(DataError, match="two series of MAP"):
        lay_beside(own, twice)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = ["item_id,timestamp,HR,MAP,dose"]
    rows += [f"a,{step},{80 + step},{60 + step if step < 5 else ''},{step}" for step in range(1, 9)]
    rows += [f"b,{step},{90 + step if step < 7 else ''},{70 + step if step < 7 else ''},{step}" for step in range(1, 9)]
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "t.csv"


def test_targets_and_covariates_are_cut_alike(table: Path) -> None:
    _, stretches = read_beside(table, ["HR", "MAP", "dose"])
    got = take_contexts(stretches, targets=["HR", "MAP"], past=["dose"], context_length=3, prediction_length=2)
    assert [one.item_id for one in got.kept] == ["b"]  # nobody measured a's MAP lately
    assert got.left_out == {
        "item a, segment 0": "MAP has 0 observed values in the last 3 steps, want 1: --min-observed takes fewer, "
        "--interval a longer step"
    }
    np.testing.assert_array_equal(got.targets, [[96, NAN, NAN], [76, NAN, NAN]])
    np.testing.assert_array_equal(got.past["dose"], [[6, 7, 8]])
    assert got.future == {}


def test_what_is_known_ahead_lies_in_the_last_places(table: Path) -> None:
    _, stretches = read_beside(table, ["HR", "dose"])
    options = {"targets": ["HR"], "future": ["dose"], "context_length": 9, "prediction_length": 2}
    got = take_contexts(stretches, **options)
    assert list(got.left_out) == ["item a, segment 0"]
    assert got.left_out["item a, segment 0"].startswith("HR has a value in the last 2 places")
    np.testing.assert_array_equal(got.targets, [[NAN, NAN, NAN, 91, 92, 93, 94, 95, 96]])
    np.testing.assert_array_equal(got.past["dose"], [[NAN, NAN, NAN, 1, 2, 3, 4, 5, 6]])
    np.testing.assert_array_equal(got.future["dose"], [[7, 8]])
    none = take_contexts(stretches, **options | {"prediction_length": 8})
    assert set(none.left_out.values()) == {"8 places, want more than the 8 to forecast"}


def test_a_signal_is_named_once(table: Path) -> None:
    with pytest.raises(ConfigError, match="named twice"):
        read_beside(table, ["HR", "HR"])
