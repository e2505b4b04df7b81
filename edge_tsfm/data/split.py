"""The fixed split: by patient, never by window, the same on every machine and in every release."""

from functools import lru_cache
from hashlib import sha256
from typing import Literal

SplitName = Literal["train", "validation", "test"]
_PARTS: tuple[SplitName, ...] = ("train",) * 7 + ("validation",) * 2 + ("test",)


@lru_cache(maxsize=1 << 17)
def split_digit(item_id: str) -> int:
    """Return ``int(sha256(item_id).hexdigest(), 16) % 10``: what the split is made of."""
    return int(sha256(item_id.encode()).hexdigest(), 16) % 10


def split_of(item_id: str) -> SplitName:
    """Say where a patient belongs: digits 0-6 train, 7-8 validation, 9 test."""
    return _PARTS[split_digit(item_id)]
