"""Suggestions for a name that is not known."""

from __future__ import annotations

import os
from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

LONGEST = 80  # characters that are compared
MOST = 10_000  # names of a folder that are compared


def did_you_mean(said: str, known: Iterable[str]) -> str:
    """Return ``did you mean MAP? `` with the nearest of the ``known`` names, ignoring case; "" if none is near.

    It is the beginning of a hint; the caller adds the list of known names.
    """
    near = _nearest(said, known)
    return "" if near is None else f"did you mean {near}? "


def did_you_mean_path(path: str | Path) -> str:
    """Return ``did you mean data/ward.csv?`` for a path that does not exist; "" if nothing has a similar name.

    Compared is the first part of the path that is not there, with its folder's contents.
    """
    missing = Path(path)
    while not os.path.lexists(missing.parent) and missing.parent != missing:
        missing = missing.parent
    try:
        names = [one.name for one in islice(os.scandir(missing.parent), MOST)]
    except (OSError, ValueError):  # no folder, or not one to be listed; a name that no file can have
        return ""
    near = _nearest(missing.name, sorted(name for name in names if not name.startswith(".")))
    return "" if near is None else f"did you mean {missing.with_name(near)}?"


def _nearest(said: str, known: Iterable[str]) -> str | None:
    folded = {name.casefold(): name for name in reversed(list(known))}
    near = get_close_matches(said[:LONGEST].casefold(), folded, n=1)
    return folded[near[0]] if near else None
