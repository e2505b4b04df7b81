"""Suggestions for a name that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST = 80  # characters that are compared


def did_you_mean(said: str, known: Iterable[str]) -> str:
    """Return ``did you mean MAP? `` with the nearest of the ``known`` names, ignoring case; "" if none is near.

    It is the beginning of a hint; the caller adds the list of known names.
    """
    folded = {name.casefold(): name for name in reversed(list(known))}
    near = get_close_matches(said[:LONGEST].casefold(), folded, n=1)
    return f"did you mean {folded[near[0]]}? " if near else ""
