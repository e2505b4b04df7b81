"""Printed output against real output: text to the letter, numbers within a tolerance, digests by position.

A digest that a page prints is another one in every run, so the first time it is seen it is bound to the one that stands
in its place, and commands that name it later are given that one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

HEX = r"(?<![\w.])(?=[0-9a-f]*[0-9])[0-9a-f]{8,64}(?!\w)(?=…?)"
STAMP = r"\d{8}T\d{6}|\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?"
TIME = r"\d[\d,]*(?:\.\d+)? (?:s|ms|s/|seconds|minutes)\b"
NUMBER = r"(?<![\w])[-+−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?"
TOKEN = re.compile(f"(?P<stamp>{STAMP})|(?P<hex>{HEX})|(?P<time>{TIME})|(?P<number>{NUMBER})|(?P<any>…)|(?P<gap>\\s+)")
SMALL = 1e-9


class DifferentError(AssertionError):
    """What a page prints is not what is printed."""


class Digests:
    """Which digest of the page is which of this run."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def bind(self, printed: str, real: str) -> bool:
        """Take ``real`` for ``printed``; false when another digest was taken for it before."""
        for one, other in self.known.items():
            size = min(len(one), len(printed), len(other), len(real))
            if one[:size] == printed[:size] and other[:size] != real[:size]:
                return False
        self.known.setdefault(printed, real)
        return True

    def put(self, command: str) -> str:
        """Write a command with this run's digests."""
        return re.sub(HEX, lambda match: self._of(match[0]), command)

    def _of(self, printed: str) -> str:
        for one, real in self.known.items():
            if one.startswith(printed) or printed.startswith(one):
                return real[: len(printed)]
        return printed


def compare(printed: Sequence[str], real: Sequence[str], digests: Digests, *, tolerance: float) -> None:
    """Raise `DifferentError` at the first line that differs."""
    wanted = [line.rstrip() for line in printed if line.strip()]
    got = [line.rstrip() for line in real if line.strip()]
    at = 0
    for number, line in enumerate(wanted):
        if line.strip() in ("…", "..."):
            rest = wanted[number + 1 :]
            if not rest:
                return
            while at < len(got) and not _matches(rest[0], got[at]):
                at += 1
            continue
        if at >= len(got):
            raise DifferentError(f"the page prints more: {line!r}")
        _compare_line(line, got[at], digests, tolerance)
        at += 1
    if at < len(got):
        raise DifferentError(f"the page does not print: {got[at]!r}")


def _matches(printed: str, real: str) -> bool:
    return re.fullmatch(_pattern(printed), real.strip()) is not None


def _pattern(line: str) -> str:
    """Return a line as a pattern: text as it is, a group for every token."""
    parts, at = [], 0
    kinds = {"stamp": STAMP, "hex": r"[0-9a-f]{8,64}", "time": TIME, "number": NUMBER, "any": ".*", "gap": r"\s+"}
    line = line.strip()
    for token in TOKEN.finditer(line):
        parts.append(re.escape(line[at : token.start()]))
        kind = str(token.lastgroup)
        parts.append(kinds[kind] if kind == "gap" else f"({kinds[kind]})")
        at = token.end()
    return "".join(parts) + re.escape(line[at:])


def _compare_line(printed: str, real: str, digests: Digests, tolerance: float) -> None:
    match = re.fullmatch(_pattern(printed), real.strip())
    if match is None:
        raise DifferentError(f"printed: {printed!r}\nreal:    {real!r}")
    tokens = [token for token in TOKEN.finditer(printed.strip()) if token.lastgroup != "gap"]
    for token, got in zip(tokens, match.groups(), strict=True):
        if token.lastgroup == "hex":
            if not digests.bind(token[0], got):
                raise DifferentError(f"{token[0]} was another digest before, now it is {got}\nprinted: {printed!r}")
        elif token.lastgroup == "number":
            wanted, value = _value(token[0]), _value(got)
            places = len(token[0].partition(".")[2])
            if abs(wanted - value) > max(tolerance * abs(wanted), 10.0**-places if places else 0, SMALL):
                raise DifferentError(
                    f"{token[0]} is {got}, more than {tolerance:.0%} off\nprinted: {printed!r}\nreal:    {real!r}"
                )


def _value(text: str) -> float:
    return float(text.replace(",", "").replace("−", "-"))
