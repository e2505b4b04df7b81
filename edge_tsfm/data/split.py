"""The fixed split: by patient, never by window, the same on every machine and in every release."""

from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from types import MappingProxyType
from typing import Literal

SplitName = Literal["train", "validation", "test"]
_PARTS: tuple[SplitName, ...] = ("train",) * 7 + ("validation",) * 2 + ("test",)
# What a run does with which digits. Of the two validation digits one stops training early, the other is the gate's.
Part = Literal["train", "stopping", "gate", "validation", "test", "all"]
DIGITS: Mapping[Part, frozenset[int]] = MappingProxyType(
    {
        "train": frozenset(range(7)),
        "stopping": frozenset({7}),
        "gate": frozenset({8}),
        "validation": frozenset({7, 8}),
        "test": frozenset({9}),
        "all": frozenset(range(10)),  # for data of which nothing was trained on
    }
)


@lru_cache(maxsize=1 << 17)
def split_digit(item_id: str) -> int:
    """Return ``int(sha256(item_id).hexdigest(), 16) % 10``: what the split is made of."""
    return int(sha256(item_id.encode()).hexdigest(), 16) % 10


def split_of(item_id: str) -> SplitName:
    """Return where a patient belongs: digits 0-6 train, 7-8 validation, 9 test."""
    return _PARTS[split_digit(item_id)]
