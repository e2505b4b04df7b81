"""From a mapping that was read from a file to a frozen dataclass, by the dataclass's own annotations.

`bind` is the only way from a file's values to a dataclass. A value that does not fit raises an error that says where
(the file, then the table and key), what was expected and what was found. Supported annotations: int, float, bool, str,
bytes (hexadecimal text), Path, Literal, Enum, tuple, Mapping with text keys, another dataclass, unions of them with or
without None, and Any. An integer is accepted as a float; true and false are not numbers; NaN and infinity are refused.
"""

from __future__ import annotations

import math
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from device_runtime.errors import DeviceRuntimeError, FormatError
from device_runtime.nearest import did_you_mean

T = TypeVar("T")
Key = tuple[str | int, ...]  # from the top of the file: names of tables and keys, numbers of list entries
WHOLE = 2**63  # whole numbers of files fit 64 bits everywhere
SHOWN = 80  # characters of a value in a message


def bind(
    cls: type[T],
    value: object,
    where: str,
    *,
    error: type[Exception] = FormatError,
    ignore_unknown: bool = False,
    complete: bool = False,
    folder: Path | None = None,
    at: Key = (),
) -> T:
    """Fill the dataclass ``cls`` from ``value``.

    ``where`` names the file in messages and ``at`` the table in it. ``ignore_unknown`` lets keys pass that ``cls``
    does not have (a record that newer releases add to), ``complete`` wants every field also where it has a default,
    and a relative `Path` begins at ``folder``. Raises ``error`` for everything that does not fit, also for what
    ``cls.__post_init__`` refuses with `ValueError` or an error of ``error``'s family.
    """
    return _Binder(where, error, ignore_unknown, complete, folder).table(cls, value, at)


def check_keys(
    value: Mapping[str, Any], known: Iterable[str], where: str, *, error: type[Exception] = FormatError, at: Key = ()
) -> None:
    """Refuse a key that is not ``known``, with the one that may have been meant. Raises ``error``."""
    _Binder(where, error).refuse_unknown(value, tuple(known), at)


def bind_value(
    kind: Any, value: object, where: str, *, error: type[Exception] = FormatError, ignore_unknown: bool = False
) -> Any:
    """Return ``value`` as the annotation ``kind`` requires: for files that hold a list, or names not known in advance.

    Raises ``error``.
    """
    return _Binder(where, error, ignore_unknown).value(kind, value, ())


@cache
def _annotations(cls: Any) -> Mapping[str, Any]:
    """Return the types of a dataclass's fields."""
    return get_type_hints(cls)


@dataclass(frozen=True)
class _Binder:
    """One file's binding: where it is from and how strict to be."""

    where: str
    error: type[Exception]
    ignore_unknown: bool = False
    complete: bool = False
    folder: Path | None = None

    def table(self, cls: type[T], value: object, at: Key) -> T:
        """Fill a dataclass."""
        if not isinstance(value, dict):
            raise self.wrong(at, "a table", value)
        known: dict[str, Field[Any]] = {field.name: field for field in fields(cls) if field.init}  # type: ignore[arg-type]
        kinds = _annotations(cls)  # type: ignore[arg-type]  # a class is hashable
        if not self.ignore_unknown:
            self.refuse_unknown(value, tuple(known), at)
        wanted = {
            name: field
            for name, field in known.items()
            if self.complete or (field.default is MISSING and field.default_factory is MISSING)
        }
        if missing := [name for name in wanted if name not in value]:
            what = f"{missing[0]} is missing: want {_say(kinds[missing[0]])}"
            more = f"; also missing: {', '.join(missing[1:])}" if missing[1:] else ""
            raise self.problem(at, what + more, table=True, hint=f"keys: {', '.join(known)}")
        bound = {name: self.value(kinds[name], value[name], (*at, name)) for name in known if name in value}
        try:
            return cls(**bound)
        except ValueError as problem:
            raise self.problem(at, str(problem), table=True) from problem
        except (DeviceRuntimeError, _family(self.error)) as problem:
            hint = getattr(problem, "hint", None)
            raise self.problem(at, str(problem.args[0]), table=True, hint=hint) from problem

    def refuse_unknown(self, value: Mapping[str, Any], known: tuple[str, ...], at: Key) -> None:
        """Refuse keys that are not known."""
        unknown = [name for name in value if name not in known]
        if unknown:
            meant = did_you_mean(str(unknown[0]), known)
            listed = ", ".join(repr(str(name)[:SHOWN]) for name in unknown[:5])
            what = f"unknown key{'s' if len(unknown) > 1 else ''} {listed}"
            raise self.problem(at, what, table=True, hint=f"{meant}keys: {', '.join(known)}")

    def value(self, kind: Any, value: object, at: Key) -> Any:
        """Return ``value`` as an annotation wants it."""
        origin = get_origin(kind)
        if kind is Any or kind is object:
            return value
        if origin is Union or origin is types.UnionType:
            return self.one_of(kind, value, at)
        if not _fits(kind, value):
            raise self.wrong(at, _say(kind), value)
        if is_dataclass(kind):
            return self.table(kind, value, at)  # type: ignore[arg-type]  # a class: annotations name no instances
        if origin is tuple:
            return self.items(kind, value, at)
        if _is_mapping(origin):
            assert isinstance(value, dict)
            return {self.text(name, at): self.value(get_args(kind)[1], one, (*at, name)) for name, one in value.items()}
        return self.plain(kind, value, at)

    def plain(self, kind: Any, value: Any, at: Key) -> Any:
        """Return a value that has no parts."""
        if get_origin(kind) is Literal:
            return value
        if issubclass(kind, Enum):
            return kind(value)
        if kind is float:
            return float(value)
        if kind is str:
            return self.text(value, at)
        if kind is bytes:
            return bytes.fromhex(value)
        if kind is Path:
            path = Path(self.text(value, at))
            return self.folder / path if self.folder is not None else path
        return value

    def text(self, value: str, at: Key) -> str:
        """Refuse text that no file name, log line or terminal takes."""
        try:
            value.encode()
        except UnicodeEncodeError as problem:
            raise self.wrong(at, "text that is Unicode", ascii(value)) from problem
        if "\0" in value:
            raise self.wrong(at, "text without a zero byte", value)
        return value

    def items(self, kind: Any, value: Any, at: Key) -> tuple[Any, ...]:
        """Return a list's entries as a tuple."""
        wanted = get_args(kind)
        if len(wanted) == 2 and wanted[1] is Ellipsis:
            wanted = (wanted[0],) * len(value)
        if len(wanted) != len(value):
            raise self.wrong(at, f"a list of {len(wanted)}", value)
        return tuple(self.value(one, item, (*at, i)) for i, (one, item) in enumerate(zip(wanted, value, strict=True)))

    def one_of(self, kind: Any, value: object, at: Key) -> Any:
        """Return a union's member: the first whose outside fits, so that its inside is what a message speaks of."""
        for member in get_args(kind):
            if member is type(None) and value is None:
                return None
            if member is not type(None) and _fits(member, value):
                return self.value(member, value, at)
        raise self.wrong(at, _say(kind), value)

    def wrong(self, at: Key, wanted: str, got: object) -> Exception:
        """Describe what was wanted and what is there."""
        return self.problem(at, f"want {wanted}, got {_show(got)}")

    def problem(self, at: Key, what: str, *, table: bool = False, hint: str | None = None) -> Exception:
        """Make the error, its place in front: a value's, or that of a whole ``table``."""
        made = self.error(f"{self._place(at, table=table)}{what}")
        made.hint = hint  # type: ignore[attr-defined]  # both families of errors have one
        return made

    def _place(self, at: Key, *, table: bool) -> str:
        """Name the file, the table and the key: ``file: [stage.0] permille: ``."""
        path = [str(part)[:SHOWN] for part in at]
        if not table and len(at) > 1 and isinstance(at[-1], int):
            path = [*path[:-2], f"{path[-2]}[{at[-1]}]"]
        tables, key = (path, "") if table else (path[:-1], path[-1] if path else "")
        file = f"{self.where}: " if self.where else ""
        return file + (f"[{'.'.join(tables)}] " if tables else "") + (f"{key}: " if key else "")


def _family(error: type[Exception]) -> type[Exception]:
    """Return the base of a family of errors: the last class before `Exception` itself."""
    return [one for one in error.__mro__ if issubclass(one, Exception) and one is not Exception][-1]


def _is_mapping(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _fits(kind: Any, value: object) -> bool:
    """Return whether a value's outside is what an annotation wants; its inside is bound later."""
    origin = get_origin(kind)
    if kind is Any:
        return True
    if origin is Union or origin is types.UnionType:
        return any(_fits(member, value) for member in get_args(kind))
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in get_args(kind))
    if kind is type(None):
        return value is None
    if is_dataclass(kind) or _is_mapping(origin):
        return isinstance(value, dict)
    if origin is tuple:
        return isinstance(value, list | tuple)
    return isinstance(kind, type) and _fits_plain(kind, value)


def _fits_plain(kind: type, value: object) -> bool:
    """Return whether a value without parts is of a kind."""
    if issubclass(kind, Enum):
        return any(type(value) is type(one.value) and value == one.value for one in kind)
    if kind is bool:
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if kind is int:
        return isinstance(value, int) and -WHOLE <= value < WHOLE
    if kind is float:
        return -WHOLE <= value < WHOLE if isinstance(value, int) else isinstance(value, float) and math.isfinite(value)
    if kind is bytes:
        return isinstance(value, str) and _is_hexadecimal(value)
    if kind is Path:
        return isinstance(value, str) and bool(value)
    return kind is str and isinstance(value, str)


def _is_hexadecimal(text: str) -> bool:
    return len(text) % 2 == 0 and set(text) <= set("0123456789abcdefABCDEF")


NAMES: Mapping[type, str] = types.MappingProxyType(
    {
        int: "a whole number",
        float: "a finite number",
        bool: "true or false",
        str: "text",
        bytes: "hexadecimal text",
        Path: "a path",
        type(None): "nothing",
    }
)
PLURALS: Mapping[type, str] = types.MappingProxyType(
    {int: "whole numbers", float: "finite numbers", str: "texts", bytes: "hexadecimal texts", Path: "paths"}
)


def _say(kind: Any) -> str:
    """Say in words what an annotation wants."""
    origin, members = get_origin(kind), get_args(kind)
    if origin is Union or origin is types.UnionType:
        return " or ".join(dict.fromkeys(_say(member) for member in members if member is not type(None)))
    if origin is Literal:
        return ("one of " if len(members) > 1 else "") + ", ".join(str(member) for member in members)
    if origin is tuple:
        return f"a list of {PLURALS.get(members[0], 'tables' if is_dataclass(members[0]) else 'values')}"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"one of {', '.join(str(one.value) for one in kind)}"
    return NAMES.get(kind, "a table")


def _show(value: object) -> str:
    """Show a value, short, whatever it is."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):  # Python refuses to print thousands of digits
        return str(value) if -WHOLE <= value < WHOLE else "a whole number of more than 64 bits"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
