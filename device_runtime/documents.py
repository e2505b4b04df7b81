"""TOML and JSON files as plain values, or one kind of error that names the file and what is wrong with it.

Everything that reads settings or records goes through here, and from here to `device_runtime.binder`, so that a
missing file, a folder, another encoding or half a file is reported in the same words everywhere.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from device_runtime.errors import DeviceRuntimeError, FormatError, SizeError, StorageError
from device_runtime.files import read_bounded

MAX_TOML = 1_048_576  # bytes: settings are written by hand
MAX_JSON = 16_777_216  # bytes


def read_toml(
    path: Path,
    *,
    limit: int = MAX_TOML,
    error: type[Exception] = FormatError,
    unreadable: type[Exception] | None = None,
    hint: str | None = None,
) -> dict[str, Any]:
    """Read a TOML file of at most ``limit`` bytes.

    Raises ``error`` for what is not TOML, and ``unreadable`` (``error`` when left out) for what is not there, is a
    folder or may not be read; ``hint`` goes with that one.
    """
    return parse_toml(_bytes(path, limit, error, unreadable, hint), str(path), error=error)


def read_json(
    path: Path,
    *,
    limit: int = MAX_JSON,
    error: type[Exception] = FormatError,
    unreadable: type[Exception] | None = None,
    hint: str | None = None,
) -> Any:
    """Read a JSON file of at most ``limit`` bytes; errors as `read_toml`."""
    return parse_json(_bytes(path, limit, error, unreadable, hint), str(path), error=error)


def parse_toml(data: bytes, where: str, *, error: type[Exception] = FormatError) -> dict[str, Any]:
    """Decode TOML, with or without a byte order mark. Raises ``error``."""
    text = _text(data, where, "TOML", error)
    try:
        return tomllib.loads(text)
    except RecursionError as problem:
        raise error(f"{where}: not TOML: nested too deep") from problem
    except ValueError as problem:  # TOMLDecodeError is one, and so is a number of too many digits
        raise error(f"{where}: not TOML: {problem}") from problem


def parse_json(data: bytes, where: str, *, error: type[Exception] = FormatError) -> Any:
    """Decode JSON; a key that stands twice in one object is refused. Raises ``error``."""
    text = _text(data, where, "JSON", error)
    if not text.strip():
        raise error(f"{where}: not JSON: the file is empty")
    try:
        return json.loads(text, object_pairs_hook=_once)
    except RecursionError as problem:
        raise error(f"{where}: not JSON: nested too deep") from problem
    except ValueError as problem:
        raise error(f"{where}: not JSON: {problem}") from problem


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object; refuse a repeated key, since it is unclear which value was meant."""
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)[:80]!r} stands twice")
    return value


def _text(data: bytes, where: str, what: str, error: type[Exception]) -> str:
    """Decode UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise error(
            f"{where}: not {what}: byte {data[problem.start]:#04x} at {problem.start} is not UTF-8"
        ) from problem


def _bytes(
    path: Path, limit: int, error: type[Exception], unreadable: type[Exception] | None, hint: str | None
) -> bytes:
    """Read a file in the caller's errors, which get the words without the code."""
    try:
        return read_bounded(path, limit)
    except StorageError as problem:
        raise _as(unreadable or error, problem, hint) from problem
    except SizeError as problem:
        raise (problem if issubclass(SizeError, error) else _as(error, problem, None)) from problem


def _as(kind: type[Exception], problem: DeviceRuntimeError, hint: str | None) -> Exception:
    """Make an error of the caller's kind; every project error takes a hint."""
    made = kind(str(problem.args[0]))
    made.hint = hint or problem.hint  # type: ignore[attr-defined]  # both families of errors have one
    return made
