"""Names of the release before this one: they still work, and standard error says the new name once."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any


@cache
def say_renamed(old: str, new: str, where: str = "") -> None:
    """Print on standard error what ``old`` is called now; once in a process for each place."""
    place = f"{where}: " if where else ""
    if sys.stderr is not None:  # a service may have none
        sys.stderr.write(f"{place}{old} is now called {new}; the old name works in this release only\n")


def renamed_key(value: dict[str, Any], old: str, new: str, where: str, *, error: type[Exception]) -> dict[str, Any]:
    """Return a file's table with the key ``old`` under its ``new`` name. Raises ``error`` where both are there."""
    if old not in value:
        return value
    if new in value:
        raise error(f"{where}: {old} and {new} are one key, under its old and its new name: keep {new}")
    say_renamed(old, new, where)
    return {new if key == old else key: one for key, one in value.items()}
