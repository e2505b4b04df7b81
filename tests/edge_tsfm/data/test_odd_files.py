"""Files of which one part is odd: what is needed is read, the rest named; or an error that names it. No traceback."""

import datetime as dt
import decimal
import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edge_tsfm.data import read_dataset
from edge_tsfm.errors import DataError

HOURS = [dt.datetime(2026, 3, 1, hour) for hour in range(6)]
PLAIN = {"item_id": ["a"] * 6, "timestamp": HOURS, "HR": [80.0, 81, 82, 83, 84, 85]}


def parquet(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table({**PLAIN, **columns}), path)
    return path


ODD = {
    "list": [[1, 2]] * 6,
    "structure": [{"a": 1}] * 6,
    "map": pa.array([[("a", 1)]] * 6, pa.map_(pa.string(), pa.int64())),
    "bytes": [b"\xff"] * 6,
    "span": [dt.timedelta(hours=1)] * 6,
    "time": [dt.time(1)] * 6,
    "nothing": [None] * 6,
    "truth": [True] * 6,
    "": ["x"] * 6,
    "True": [1] * 6,
    "category": pd.Categorical(["f"] * 6),
    "decimal": [decimal.Decimal("1.50")] * 6,
    "date": [dt.date(1950, 1, 1)] * 6,
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_column_beside_the_needed_ones_stops_nothing(tmp_path: Path, name: str) -> None:
    data = read_dataset(parquet(tmp_path / "t.parquet", **{name: ODD[name]}), target="HR")
    np.testing.assert_array_equal(data.series[0].target, PLAIN["HR"])
    left_out = name in ("list", "structure", "map")
    assert (
        any(f"left out, neither numbers nor text nor times: {name} (" in note for note in data.report.notes) == left_out
    )


def test_all_odd_columns_at_once(tmp_path: Path) -> None:
    data = read_dataset(parquet(tmp_path / "t.parquet", **ODD), target="HR")
    assert data.report.values == 6


def test_the_kept_case_of_a_list_column(cases: Path) -> None:
    data = read_dataset(cases / "data" / "g3_list_attr.parquet", target="MAP")
    assert data.report.values


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("item_id", pd.Categorical(["a"] * 6)),
        ("HR", [decimal.Decimal(str(value)) for value in PLAIN["HR"]]),
        ("HR", pa.array(PLAIN["HR"], pa.float16())),
        ("HR", pa.array([int(value) for value in PLAIN["HR"]], pa.uint8())),
        ("HR", pa.array(PLAIN["HR"]).dictionary_encode()),
        ("timestamp", [dt.date(2026, 3, day) for day in range(1, 7)]),
    ],
    ids=["category id", "decimal", "float16", "uint8", "dictionary", "date"],
)
def test_an_odd_type_of_a_needed_column_is_read(tmp_path: Path, column: str, values: object) -> None:
    data = read_dataset(parquet(tmp_path / "t.parquet", **{column: values}), target="HR")
    assert data.item_ids == ("a",)
    np.testing.assert_array_equal(data.series[0].target, PLAIN["HR"])


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.table([*PLAIN.values(), PLAIN["HR"]], names=[*PLAIN, "HR"])
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DataError, match="two columns called 'HR'"):
        read_dataset(tmp_path / "t.parquet", target="HR")


@pytest.mark.parametrize("index", [["item_id"], ["item_id", "timestamp"], [None], ["HR "]])
def test_an_index_is_columns(tmp_path: Path, index: list[str | None]) -> None:
    frame = pd.DataFrame(PLAIN)
    if index == [None]:
        frame.index = pd.Index(range(100, 106))
    elif index == ["HR "]:
        frame.index = pd.Index([3, 1, 4, 1, 5, 9], name="HR ")  # as a column, but for a blank
    else:
        frame = frame.set_index(index)
    frame.to_parquet(tmp_path / "t.parquet")
    if index == ["HR "]:
        with pytest.raises(DataError, match="two columns called 'HR'"):
            read_dataset(tmp_path / "t.parquet", target="HR")
        return
    np.testing.assert_array_equal(read_dataset(tmp_path / "t.parquet", target="HR").series[0].target, PLAIN["HR"])


TEXT = "item_id,timestamp,HR\n" + "".join(f"a,2026-03-01 {hour:02d}:00:00,{80 + hour}\n" for hour in range(6))


def damaged(path: Path, kind: str) -> None:
    packed = gzip.compress(TEXT.encode() * 50)
    middle = len(packed) // 2
    path.write_bytes(
        {
            "cut": packed[:middle],
            "bit": packed[:middle] + bytes([packed[middle] ^ 0xFF]) + packed[middle + 1 :],
            "head": b"\x1f\x8b" + b"\0" * 40,
            "empty": b"",
            "tail": packed + b"garbage",
        }[kind]
    )


@pytest.mark.parametrize("kind", ["cut", "bit", "head", "empty", "tail"])
@pytest.mark.parametrize("target", ["HR", None])
def test_damaged_gzip_is_an_error_that_names_the_file(tmp_path: Path, kind: str, target: str | None) -> None:
    damaged(tmp_path / "t.csv.gz", kind)
    with pytest.raises(DataError, match=r"t\.csv\.gz"):
        read_dataset(tmp_path / "t.csv.gz", target=target)


def test_gzip_is_known_by_its_first_bytes_not_by_the_name(tmp_path: Path) -> None:
    (tmp_path / "t.csv.gz").write_text(TEXT)
    (tmp_path / "t.csv").write_bytes(gzip.compress(TEXT.encode()))
    for name in ("t.csv.gz", "t.csv"):
        assert read_dataset(tmp_path / name, target="HR").report.values == 6


@pytest.mark.parametrize("cut", [0, 3, 100, -1, -20])
def test_half_a_parquet_file_is_an_error_that_names_it(tmp_path: Path, cut: int) -> None:
    path = parquet(tmp_path / "t.parquet")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"t\.parquet cannot be read as Parquet"):
        read_dataset(path, target="HR")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_other_encodings_and_line_ends_never_end_in_a_traceback(tmp_path: Path, encoding: str, end: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(TEXT.replace("a,", "Müller,").replace("\n", end).encode(encoding))
    try:
        data = read_dataset(path, target="HR")
    except DataError as error:
        assert "t.csv" in str(error)  # noqa: PT017 - either is right; which is docs/guides/data.md's
    else:
        assert (data.item_ids, data.report.values) == (("Müller",), 6)


def test_a_file_that_cannot_be_read_is_named_by_every_command(tmp_path: Path) -> None:
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    for verb in (["inspect"], ["train", "--out", str(tmp_path / "run")]):
        done = subprocess.run(
            [sys.executable, "-m", "edge_tsfm.cli", verb[0], str(tmp_path / "loop.csv"), "--target", "HR", *verb[1:]],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode in (1, 2)
        assert "Traceback" not in done.stderr
        assert "loop.csv" in done.stderr
