"""Damaged and random files: both readers read the same, or both refuse in words; never a traceback."""

import os
import random
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.edge_tsfm.data.test_dialects import dialects, ward
from tests.support.both_readers import same_on_both
from tests.support.dialects import write

# More examples for a long run: EDGE_TSFM_FUZZ=20000
EXAMPLES = int(os.environ.get("EDGE_TSFM_FUZZ", "60"))
cells = st.sampled_from(
    [
        "p1",
        "",
        " ",
        "1",
        "2",
        "70",
        "70.5",
        "70,5",
        "1.051",
        "0",
        "-1",
        "inf",
        "1e400",
        "1e-400",
        "2026-01-01 00:00",
        "NA",
        "2026-13-01",
        "0001-01-01",
        "9999-12-31",
        "2026-01-01T01:00Z",
        "202603010000",
        "1772323200000",
        "46082.5",
        "220045",
        "bpm",
        "?F",
        '"',
        '""',
        '"a',
        "é",
        "True",
        "NaT",
        "\x1c",
        "12:00",
        "24:00",
        "99999999999999999999",
        "1.0",
        "٣",
        "#N/A",
        "20260301",
        "1_000",
        "0x10",
        "2026-03-01T12:00:00+99:00",
        "٢٠٢٦-٠٣-٠١",
        "kPa",
        "-",
    ]
)
heads = st.lists(
    st.sampled_from(
        [
            "patient",
            "id",
            "time",
            "timestamp",
            "date",
            "hour",
            "HR",
            "hr",
            "MAP (kPa)",
            "value",
            "unit",
            "variable",
            "itemid",
            "subject_id",
            "charttime",
            "valuenum",
            "error",
            "status",
            "year",
            "month",
            "day",
            "label",
            "ICULOS",
            "O2Sat",
            "",
            "observationoffset",
            "patientunitstayid",
            "stay_id",
            "x",
        ]
    ),
    min_size=1,
    max_size=6,
)
options = st.fixed_dictionaries(
    {},
    optional={
        "interval": st.sampled_from(["1h", "1min", "250ms", "5", "1M", ""]),
        "duplicates": st.sampled_from(["mean", "last", "median", "error"]),
        "unit": st.sampled_from(["kPa", "degF", "bpm"]),
        "where": st.sampled_from([("hour=1",), ("patient=p1", "HR=70"), ("=",)]),
        "id_column": st.sampled_from(["patient", "HR", "nobody"]),
        "timestamp_column": st.sampled_from(["time", "hour", "HR"]),
        "variable_column": st.sampled_from(["variable", "label"]),
        "value_column": st.sampled_from(["value", "HR"]),
        "decimal": st.sampled_from([".", ","]),
        "max_gap": st.sampled_from(["1h", "2d"]),
    },
)
targets = st.sampled_from([None, "HR", "MAP", "value", "x"])


def both(data: bytes, target: str | None, given_options: dict[str, object], name: str = "ward.csv") -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        same_on_both(path, target, **given_options)


@settings(max_examples=EXAMPLES, deadline=None)
@given(heads, st.data(), st.sampled_from(",;\t|"), targets, options)
def test_any_table_is_read_alike_or_refused_by_both(
    head: list[str], data: st.DataObject, delimiter: str, target: str | None, given_options: dict[str, object]
) -> None:
    width = len(head)
    rows = data.draw(st.lists(st.lists(cells, min_size=width, max_size=width), max_size=8))
    text = "\n".join(delimiter.join(row) for row in [head, *rows])
    both(text.encode(), target, given_options)


@settings(max_examples=EXAMPLES, deadline=None)
@given(dialects, st.integers(0, 99), st.integers(0, 2**32), targets, options)
def test_any_damage_is_read_alike_or_refused_by_both(
    how: object, seed: int, damage: int, target: str | None, given_options: dict[str, object]
) -> None:
    items, starts = ward(seed, 2)
    data = bytearray(write(items, starts, how, random.Random(seed)))  # type: ignore[arg-type]
    draw = random.Random(damage)
    for _ in range(draw.choice([1, 1, 2, 8])):
        at = draw.randrange(len(data))
        kind = draw.randrange(4)
        if kind == 0:
            data[at] = draw.randrange(256)
        elif kind == 1:
            del data[at : at + draw.randrange(1, 40)]
        elif kind == 2:
            data[at:at] = draw.choice([b'"', b",", b";", b"\n\n", b"\r", b"\0", b" ", b"-", b".", b"\xff", b"NA"])
        else:
            del data[at:]
        if not data:
            break
    both(bytes(data), target, given_options)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.binary(max_size=300), targets, options)
def test_any_bytes_are_refused_by_both(data: bytes, target: str | None, given_options: dict[str, object]) -> None:
    both(data, target, given_options)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.text(max_size=200), targets, options)
def test_any_text_is_read_alike_or_refused_by_both(
    text: str, target: str | None, given_options: dict[str, object]
) -> None:
    both(text.encode("utf-8", "surrogatepass"), target, given_options)
