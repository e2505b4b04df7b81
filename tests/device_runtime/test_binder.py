"""From a file's values to a dataclass: what fits, and in which words the rest is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest

from device_runtime.binder import bind, bind_value, check_keys
from device_runtime.documents import parse_json, parse_toml, read_json, read_toml
from device_runtime.errors import DeviceRuntimeError, FormatError, SizeError, StorageError
from device_runtime.files import about


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, kw_only=True)
class Stage:
    share: float
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.share > 1:
            raise ValueError(f"share {self.share}: want at most 1")


@dataclass(frozen=True, kw_only=True)
class Settings:
    name: str
    stages: tuple[Stage, ...]
    count: int = 1
    ready: bool = False
    mode: Literal["slow", "fast"] = "slow"
    colour: Colour = Colour.RED
    folder: Path | None = None
    key: bytes = b""
    pair: tuple[int, str] = (0, "")
    either: str | Stage = ""
    limits: Mapping[str, int] = field(default_factory=dict)
    rest: Any = None


GOOD: dict[str, Any] = {"name": "x", "stages": [{"share": 1, "groups": ["a"]}]}


def test_every_kind_of_annotation_is_filled() -> None:
    got = bind(
        Settings,
        {**GOOD, "count": 3, "ready": True, "mode": "fast", "colour": "red", "folder": "a/b", "key": "00fF",
         "pair": [1, "z"], "either": {"share": 0.5}, "limits": {"a": 1}, "rest": [None]},
        "f",
        folder=Path("/base"),
    )  # fmt: skip
    assert got.stages == (Stage(share=1.0, groups=("a",)),)
    assert isinstance(got.stages[0].share, float)
    assert (got.folder, got.key, got.pair, got.either) == (Path("/base/a/b"), b"\x00\xff", (1, "z"), Stage(share=0.5))
    assert (got.mode, got.colour, got.limits, got.rest) == ("fast", Colour.RED, {"a": 1}, [None])
    assert bind(Settings, GOOD, "f").folder is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"cuont": 2}, "f.toml: unknown key 'cuont'"),
        ({"name": 5}, "f.toml: name: want text, got 5"),
        ({"name": "a\0b"}, "f.toml: name: want text without a zero byte, got 'a\\x00b'"),
        ({"name": "\ud800"}, "f.toml: name: want text that is Unicode, got \"'\\\\ud800'\""),
        ({"count": True}, "f.toml: count: want a whole number, got true"),
        ({"count": 1.0}, "f.toml: count: want a whole number, got 1.0"),
        ({"count": 10**5000}, "f.toml: count: want a whole number, got a whole number of more than 64 bits"),
        ({"ready": 1}, "f.toml: ready: want true or false, got 1"),
        ({"mode": "quick"}, "f.toml: mode: want one of slow, fast, got 'quick'"),
        ({"colour": "blue"}, "f.toml: colour: want one of red, got 'blue'"),
        ({"folder": ""}, "f.toml: folder: want a path, got ''"),
        ({"key": "0g"}, "f.toml: key: want hexadecimal text, got '0g'"),
        ({"pair": [1]}, "f.toml: pair: want a list of 2, got a list of 1"),
        ({"either": 3}, "f.toml: either: want text or a table, got 3"),
        ({"limits": {"a": "b"}}, "f.toml: [limits] a: want a whole number, got 'b'"),
        ({"stages": {}}, "f.toml: stages: want a list of tables, got a table"),
        ({"stages": [{"share": "all"}]}, "f.toml: [stages.0] share: want a finite number, got 'all'"),
        ({"stages": [{"share": float("nan")}]}, "f.toml: [stages.0] share: want a finite number, got nan"),
        ({"stages": [{"share": True}]}, "f.toml: [stages.0] share: want a finite number, got true"),
        ({"stages": [{"share": 1}, {}]}, "f.toml: [stages.1] share is missing: want a finite number"),
        ({"stages": [{"share": 2}]}, "f.toml: [stages.0] share 2.0: want at most 1"),
        ({"stages": [{"share": 1, "groups": ["a", 2]}]}, "f.toml: [stages.0] groups[1]: want text, got 2"),
        ({"stages": [5]}, "f.toml: stages[0]: want a table, got 5"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(change: dict[str, Any], says: str) -> None:
    with pytest.raises(FormatError) as refused:
        bind(Settings, {**GOOD, **change}, "f.toml")
    assert refused.value.args[0] == says


def test_a_slip_of_the_pen_is_recognised() -> None:
    with pytest.raises(FormatError) as refused:
        bind(Settings, {**GOOD, "Cuont": 2}, "f")
    assert str(refused.value.hint).startswith("did you mean count? keys: name, stages, count")
    with pytest.raises(FormatError) as refused:
        check_keys({"stpes": 1}, ("steps",), "f", at=("train",))
    assert (refused.value.args[0], refused.value.hint) == (
        "f: [train] unknown key 'stpes'",
        "did you mean steps? keys: steps",
    )


def test_all_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(FormatError, match="name is missing: want text; also missing: stages"):
        bind(Settings, {}, "f")
    with pytest.raises(FormatError, match="count is missing"):
        bind(Settings, GOOD, "f", complete=True)
    assert bind(Settings, {**GOOD, "later": 1}, "f", ignore_unknown=True).name == "x"


def test_errors_are_of_the_readers_own_kind() -> None:
    with pytest.raises(StorageError, match="want a table, got a list of 0"):
        bind(Settings, [], "f", error=StorageError)
    with pytest.raises(StorageError, match=r"f: a\[1\]: want a whole number, got 'x'"):
        bind_value(Mapping[str, tuple[int, ...]], {"a": [1, "x"]}, "f", error=StorageError)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"a = ", "f: not TOML: Invalid value"), (b"\xff\xfea", "f: not TOML: byte 0xff at 0 is not UTF-8"),
        (b"a = " + b"[" * 100_000, "nested too deep"), (b"a = 1\na = 2", "f: not TOML"),
        (b"a = 1" + b"0" * 5000, "f: not TOML"),
    ],
)  # fmt: skip
def test_what_is_no_toml(data: bytes, says: str) -> None:
    with pytest.raises(FormatError, match=says):
        parse_toml(data, "f")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "f: not JSON: the file is empty"), (b'{"a": ', "f: not JSON: Expecting value"),
        (b"\xff", "byte 0xff at 0 is not UTF-8"), (b"[" * 100_000, "nested too deep"),
        (b'{"a": 1, "a": 2}', "key 'a' stands twice"), (b"1" * 5000, "f: not JSON"),
    ],
)  # fmt: skip
def test_what_is_no_json(data: bytes, says: str) -> None:
    with pytest.raises(FormatError, match=says):
        parse_json(data, "f")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"cannot read .*absent: No such file"):
        read_toml(tmp_path / "absent")
    with pytest.raises(StorageError, match="is not a regular file") as refused:
        read_json(tmp_path, unreadable=StorageError, hint="give a file")
    assert refused.value.hint == "give a file"
    (tmp_path / "huge").write_bytes(b"#" * 100)
    with pytest.raises(SizeError, match="more than 99 bytes"):
        read_toml(tmp_path / "huge", limit=99)
    (tmp_path / "marked").write_bytes(b"\xef\xbb\xbfa = 1")
    assert read_toml(tmp_path / "marked") == {"a": 1}


def test_an_error_that_does_not_name_its_file_is_given_the_name() -> None:
    with pytest.raises(FormatError) as refused, about("map.etsa"):
        raise FormatError("R2: not a blob", hint="copy it again")
    assert (str(refused.value), refused.value.hint) == ("[100] map.etsa: R2: not a blob", "copy it again")
    with pytest.raises(DeviceRuntimeError) as refused_once, about("map.etsa"):
        raise StorageError("cannot read map.etsa")
    assert refused_once.value.args[0] == "cannot read map.etsa"
