from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_runtime.series.stamps import is_ambiguous_day, parse_stamp, parse_stamps, parse_time_of_day

EPOCH = datetime(1970, 1, 1)


def us(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("text", "moment", "zoned"),
    [
        ("2026-03-01 12:05", datetime(2026, 3, 1, 12, 5), False),
        ("2026-3-1 4:05", datetime(2026, 3, 1, 4, 5), False),
        ("2026-03-01T04:05:06.123456789", datetime(2026, 3, 1, 4, 5, 6, 123456), False),
        ("2026/03/01 04:05", datetime(2026, 3, 1, 4, 5), False),
        ("31.12.2026 04:05", datetime(2026, 12, 31, 4, 5), False),
        ("20260301", datetime(2026, 3, 1), False),
        ("2026030104", datetime(2026, 3, 1, 4), False),
        ("202603010405", datetime(2026, 3, 1, 4, 5), False),
        ("20260301040506", datetime(2026, 3, 1, 4, 5, 6), False),
        ("20260301T0405", datetime(2026, 3, 1, 4, 5), False),
        ("2026-03-01 24:00", datetime(2026, 3, 2), False),
        ("20261024T120000+0200", datetime(2026, 10, 24, 10), True),
        ("2026-10-25T02:30:00+01:00", datetime(2026, 10, 25, 1, 30), True),
        ("2026-10-25T02:30:00+02:00", datetime(2026, 10, 25, 0, 30), True),
        ("2026-03-01 12:00Z", datetime(2026, 3, 1, 12), True),
        ("2026-03-01 12:00:00-05:30", datetime(2026, 3, 1, 17, 30), True),
        ("2150-02-28 23:59:59", datetime(2150, 2, 28, 23, 59, 59), False),
        ("2026-03", datetime(2026, 3, 1), False),
    ],
)
def test_forms_of_a_time(text: str, moment: datetime, zoned: bool) -> None:
    assert parse_stamp(text) == (us(moment), zoned)


@pytest.mark.parametrize(
    "text",
    ["", "now", "2026-02-30", "2026-13-01", "03/04/2026", "2026-03-01 25:00", "2026-03-01 24:01", "2026-03-01 12:60",
     "1772323200", "2026-03-01T12:00:00+99:00", "٢٠٢٦-٠٣-٠١", "2026-03-01 12", "12:00"],
)  # fmt: skip
def test_what_is_no_time_is_none(text: str) -> None:
    assert parse_stamp(text) is None


def test_day_or_month_first_cannot_be_told() -> None:
    assert is_ambiguous_day("03/04/2026 12:00")
    assert not is_ambiguous_day("2026-03-04")


def test_times_of_day() -> None:
    hour = 3_600_000_000
    texts = ("00:00", "4:30", "12:00 am", "2 PM", "2:00 PM", "13:00 PM", "24:00")
    times = [0, hour * 9 // 2, 0, None, 14 * hour, None, 24 * hour]
    assert [parse_time_of_day(text) for text in texts] == times


@given(st.lists(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 30)), min_size=70, max_size=90), st.booleans())
def test_many_at_once_are_read_as_one_by_one(moments: list[datetime], seconds: bool) -> None:
    moments = [moment.replace(microsecond=0, second=moment.second if seconds else 0) for moment in moments]
    texts = [moment.isoformat(" ")[: 19 if seconds else 16] for moment in moments]
    times, kinds = parse_stamps(texts)
    np.testing.assert_array_equal(times, [us(moment) for moment in moments])
    assert set(kinds.tolist()) == {0}


def test_damage_among_many_is_found() -> None:
    texts = [f"2026-03-01 {hour:02d}:{minute:02d}" for hour in range(24) for minute in range(0, 60, 10)]
    for place, bad in (
        (3, "2026-03-01 25:00"),
        (5, "2026-02-30 00:00"),
        (7, "2026-03-01x00:00"),
        (9, "202a-03-01 00:00"),
    ):
        texts[place] = bad
    kinds = parse_stamps(texts)[1]
    assert np.flatnonzero(kinds < 0).tolist() == [3, 5, 7, 9]
    assert parse_stamps(["2026-03-31 00:00"] * 70)[0][0] == us(datetime(2026, 3, 31))
    assert datetime.fromtimestamp(parse_stamps(["2026-03-31 00:00"])[0][0] / 1e6, UTC).day == 31
