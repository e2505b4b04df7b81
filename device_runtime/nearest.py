"""What a person may have meant by a name that nobody has."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST = 80  # characters that are compared


def did_you_mean(said: str, known: Iterable[str]) -> str:
    """Return ``did you mean MAP? `` for the nearest of ``known`` names, whatever its capitals; "" where none is near.

    It begins a hint; what there is follows.
    """
    folded = {name.casefold(): name for name in reversed(list(known))}
    near = get_close_matches(said[:LONGEST].casefold(), folded, n=1)
    return f"did you mean {folded[near[0]]}? " if near else ""
