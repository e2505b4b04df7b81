"""Mappings that went wrong: a good one with a key dropped, added, or given another value, at any depth."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([2**31, 2**63, -(2**64), 10**400]),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(["", "\x00", "a\x00b", "../..", "/", "é" * 300, "1", "true", "nan", "0" * 64, "g" * 64]),
)
JUNK = st.recursive(
    PLAIN,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=5,
)


def places(value: Any) -> Iterator[tuple[Any, ...]]:
    """Give the path of every value inside ``value``."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield (key,)
        yield from ((key, *rest) for rest in places(inner))


@st.composite
def mutated(draw: st.DrawFn, good: dict[str, Any]) -> Any:
    """Spoil ``good`` in one or two places; the whole now and then."""
    value = copy.deepcopy(good)
    if draw(st.integers(0, 30)) == 0:
        return draw(JUNK)
    for _ in range(draw(st.integers(1, 2))):
        paths = list(places(value))
        if not paths:
            break
        path = draw(st.sampled_from(paths))
        inside = value
        for key in path[:-1]:
            inside = inside[key]
        match draw(st.sampled_from(["drop", "replace", "add", "misspell"])):
            case "drop":
                del inside[path[-1]]
            case "replace":
                inside[path[-1]] = draw(JUNK)
            case "add" if isinstance(inside, dict):
                inside[draw(st.text(max_size=8))] = draw(JUNK)
            case "misspell" if isinstance(inside, dict) and isinstance(path[-1], str):
                inside[path[-1][1:] or "x"] = inside.pop(path[-1])
    return value


def to_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def to_toml(value: Any) -> bytes:
    """Write a table's keys as inline values; what TOML cannot say (null) is left out."""
    if not isinstance(value, dict):
        return _toml(value).encode()
    return "".join(f"{_text(key)} = {_toml(item)}\n" for key, item in value.items() if item is not None).encode()


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(k)} = {_toml(v)}" for k, v in value.items() if v is not None) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value if item is not None) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return hex(value) if value >= 0 else str(value)
    if isinstance(value, float):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf") if math.isinf(value) else repr(value)
    return _text(str(value))


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
