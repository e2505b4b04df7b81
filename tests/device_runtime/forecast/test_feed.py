"""A live feed as bytes: no line stops the stream."""

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_runtime.errors import InputError
from device_runtime.forecast.feed import MAX_LINE, read_event, read_lines, read_lines_between


def test_a_sample_is_a_name_a_time_and_a_value_or_none() -> None:
    assert read_event(b"MAP,60000,71.5\r\n", 7)[:3] == ("MAP", 60_000, 71.5)
    assert read_event(" Blutdruck ä , -5 , .5e1 \n".encode(), 7)[:3] == ("Blutdruck ä", -5, 5.0)
    assert np.isnan(read_event(b"MAP,0,\n", 7)[2])
    assert read_event(b"\xef\xbb\xbfMAP,0,1\n", 1)[0] == "MAP"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"MAP,960000,\xb071\n", r"line 17: byte 12 is not UTF-8 text: MAP,960000,\\xb071"),
        (b"MAP,1_0,71\n", "want name,t_ms,value"),
        (b"MAP,10,7_1\n", "want name,t_ms,value"),
        ("MAP,10,٧١\n".encode(), "want name,t_ms,value"),  # digits, but not ours
        (b"MAP,10\n", "want name,t_ms,value"),
        (b"MAP,10.5,71\n", "want name,t_ms,value"),
        (b"MAP,99999999999999999999,71\n", "want name,t_ms,value"),
        (b"MAP,10,71\0\n", "want name,t_ms,value"),
        (b"x" * (MAX_LINE + 1), "more than 4,096 bytes"),
    ],
)
def test_a_line_that_is_no_sample_says_which_and_what(line: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_event(line, 17)


def test_a_feed_that_lost_its_line_ends_fills_no_memory_and_goes_on_at_the_next_line() -> None:
    lines = list(read_lines(io.BytesIO(b"a\n" + b"x" * (5 * MAX_LINE) + b"\nb\n" + b"y" * MAX_LINE + b"\nc")))
    assert [len(line) for line in lines] == [2, MAX_LINE + 1, 2, MAX_LINE + 1, 1]
    assert (lines[0], lines[2], lines[4]) == (b"a\n", b"b\n", b"c")


@given(st.lists(st.binary(max_size=30), max_size=20))
def test_any_bytes_are_samples_or_errors(lines: list[bytes]) -> None:
    for number, line in enumerate(read_lines(io.BytesIO(b"\n".join(lines))), start=1):
        try:
            name, t_ms, value = read_event(line, number)[:3]
        except InputError as error:
            assert f"line {number}: " in str(error)  # noqa: PT017 - either is right
        else:
            assert isinstance(name, str)
            assert isinstance(t_ms, int)
            assert isinstance(value, float)


def stream(bundle: Path, feed: bytes, *options: object, signal: str = "MAP") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "device_runtime.cli", "stream", bundle, "--signal", signal, *options]
    locale = {"LC_ALL": "C.UTF-8", "PATH": ""}
    return subprocess.run([str(one) for one in command], input=feed, capture_output=True, check=False, env=locale)


def test_a_bad_byte_is_an_error_line_and_the_stream_goes_on(dummy_bundle: Path) -> None:
    feed = b"".join(b"MAP,%d,%d\n" % (60_000 * k, 70 + k % 4) for k in range(20))
    bad = feed.replace(b"MAP,960000,70", b"MAP,960000,\xb070")
    assert bad != feed
    done = stream(dummy_bundle, bad, "--interval", "60s", "--prediction-length", 1)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == 20
    assert answers[16]["line"] == 17
    assert "not UTF-8 text" in answers[16]["message"]
    assert "quantiles" in answers[19]


def test_the_kept_case_of_a_bad_byte(dummy_bundle: Path, cases: Path) -> None:
    feed = (cases / "data" / "s1_badbyte_feed.txt").read_bytes()
    done = stream(dummy_bundle, feed, "--interval", "1min")
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(feed.splitlines())
    assert "quantiles" in answers[-1]


@pytest.mark.parametrize(
    ("interval", "message"),
    [("60000", "say 60000ms or 60000s"), ("1M", "no one length"), ("1us", "whole milliseconds")],
)
def test_an_interval_has_a_unit(dummy_bundle: Path, interval: str, message: str) -> None:
    done = stream(dummy_bundle, b"MAP,0,70\n", "--interval", interval)
    assert done.returncode == 1
    assert message in done.stderr.decode()


def test_an_interval_of_an_hour_is_an_hour(dummy_bundle: Path) -> None:
    feed = b"".join(b"MAP,%d,%d\n" % (1_800_000 * k, 70 + k) for k in range(6))  # two an hour
    done = stream(dummy_bundle, feed, "--interval", "1h", "--min-observed", 1, "--prediction-length", 1)
    assert [json.loads(line)["t_ms"] for line in done.stdout.splitlines()] == [0, 3_600_000, 7_200_000]


def test_streamed_quantiles_read_back_as_the_float32_that_were_forecast(dummy_bundle: Path) -> None:
    from device_runtime.forecast.forecaster import Forecaster

    values = [7e-05 * (1 + 0.01 * k) for k in range(12)]
    feed = "".join(f"MAP,{60_000 * k},{value!r}\n" for k, value in enumerate(values)).encode()
    # Far from a pressure, so that the digits count: the range says that they are plausible.
    done = stream(dummy_bundle, feed, "--prediction-length", 3, "--min-observed", 12, signal="MAP:0:1")
    got = np.array(json.loads(done.stdout.splitlines()[-1])["quantiles"], dtype=np.float32)
    context = np.array([np.nan] * 36 + values, dtype=np.float32)
    np.testing.assert_array_equal(got, Forecaster.open(dummy_bundle).forecast(context, 3).quantiles)
    assert (got > 0).all()


def test_more_steps_than_the_base_reads_are_refused(dummy_bundle: Path) -> None:
    done = stream(dummy_bundle, b"MAP,0,70\n", "--context-length", 65)
    assert done.returncode == 1
    assert b"--context-length 65: base dummy-bolt reads at most 64 steps" in done.stderr


def test_a_line_says_whose_it_is_or_that_a_stay_is_over() -> None:
    assert read_event(b"MAP,1000,71.5,bed 3/case 9\n", 2) == ("MAP", 1_000, 71.5, "bed 3/case 9", False)
    ended = read_event(b"MAP,2000,END\n", 2)
    assert (ended.name, ended.t_ms, ended.item, ended.ends) == ("MAP", 2_000, None, True)
    for line in (
        b"MAP,2000,ended",
        b"MAP,1,2,",
        b"MAP,x,end",
        b"MAP,1,2,a,b",
        b"MAP,1,end,7",
        b"MAP,1,2," + b"x" * 129,
    ):
        with pytest.raises(InputError, match="line 4: want name,t_ms,value"):
            read_event(line, 4)


def test_lines_come_alike_while_something_else_is_done_between() -> None:
    data = b"a\n" + b"x" * (5 * MAX_LINE) + b"\nb\n\n" + b"y" * MAX_LINE + b"\nc"
    wanted = list(read_lines(io.BytesIO(data)))
    idle: list[bool] = []

    def note(waits: Callable[[], bool]) -> bool:
        idle.append(waits())
        return False

    for size in (1_000, 65_536):
        reader, writer = os.pipe()

        def write(size: int = size, writer: int = writer) -> None:
            for at in range(0, len(data), size):
                os.write(writer, data[at : at + size])
            os.close(writer)

        thread = threading.Thread(target=write)
        with os.fdopen(reader, "rb") as feed:
            thread.start()
            got = list(read_lines_between(feed, note))
        thread.join()
        assert got == wanted
        assert idle[-1] is False  # behind the last line, too
    assert list(read_lines_between(io.BytesIO(data), lambda waits: False)) == wanted
