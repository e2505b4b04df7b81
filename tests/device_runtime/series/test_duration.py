import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_runtime.errors import InputError
from device_runtime.series.duration import parse_duration, say_duration

SECOND = 1_000_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1h", 3600),
        ("1H", 3600),
        (" 5 min ", 300),
        ("5 minutes", 300),
        ("30s", 30),
        ("250ms", 0.25),
        ("10us", 1e-5),
        ("10µs", 1e-5),
        ("1d", 86400),
        ("2 weeks", 14 * 86400),
        ("0.5h", 1800),
        ("1h30min", 5400),
        ("1 h 30 min", 5400),
    ],
)
def test_spans_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == round(seconds * SECOND)


@pytest.mark.parametrize(
    ("text", "first", "second"),
    [("1", "1h", "1min"), ("5", "5s", "5min"), ("60000", "60000ms", "60000s"), ("3600", "3600ms", "3600s")],
)
def test_a_bare_number_is_refused_with_its_two_likely_meanings(text: str, first: str, second: str) -> None:
    with pytest.raises(InputError, match="has no unit") as caught:
        parse_duration(text)
    assert caught.value.hint == f"say {first} or {second}"
    assert parse_duration(first) != parse_duration(second)


@pytest.mark.parametrize("text", ["1m", "1M", "1MS", "1mo", "3 months", "1q", "1Y", "2 years"])
def test_months_and_years_are_refused_in_those_words(text: str) -> None:
    with pytest.raises(InputError, match="months, quarters and years have no one length"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a span"),
        ("often", "not a span"),
        ("h", "not a span"),
        ("1 fortnight", "not a span"),
        ("1h 5", "not a span"),
        ("1h, 5min", "not a span"),
        ("01:00:00", "not a span"),
        ("0h", "not longer than nothing"),
        ("-1h", "not longer than nothing"),
        ("0.1us", "not a whole number of microseconds"),
        ("99999999999999999d", "too long"),
        ("nan", "not a span"),
    ],
)
def test_what_is_no_span_is_refused(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        parse_duration(text)


def test_the_message_names_the_option() -> None:
    with pytest.raises(InputError, match="max_gap '48' has no unit"):
        parse_duration("48", what="max_gap")


@given(st.integers(1, 2**62))
def test_what_is_said_reads_back(span: int) -> None:
    assert parse_duration(say_duration(span)) == span


@given(st.text(max_size=20))
def test_any_text_is_a_span_or_refused(text: str) -> None:
    try:
        span = parse_duration(text)
    except InputError as error:
        span = len(error.hint or "")
    assert span > 0
