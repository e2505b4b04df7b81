"""A decoded adapter: values only, valid by construction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_runtime.format.binding import Binding
from device_runtime.format.delta import Delta, Numbers


@dataclass(frozen=True, kw_only=True, eq=False)
class KnownAnswer:
    """A short context and what the merged model must say to it, so that a device can prove its merge.

    ``expected`` is the family's probe, flattened (FORMAT.md §7): for Chronos-Bolt the quantiles of the first steps.
    """

    context: NDArray[np.float32]  # [L], finite
    expected: NDArray[np.float32]  # [K], finite
    tolerance: float  # largest allowed absolute difference, in the target's unit


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """Offsets of each quantile at each step, in units of the width of the outermost band (FORMAT.md §7)."""

    offsets: Numbers  # [Q, steps]


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapter:
    """One adaptation of exactly one base."""

    base_digest: bytes  # SHA-256 of the bundle's manifest
    version: int  # monotonic; a device's floor compares it
    deltas: Mapping[int, Delta]  # index in the bundle's tensor table -> what is added
    known_answer: KnownAnswer | None = None
    calibration: Calibration | None = None
    binding: Binding | None = None  # what it was trained and judged for; None: an unbound blob of format 1
    metadata: Mapping[str, Any] = field(default_factory=dict)
    forced: bool = False  # accepted by hand though it did not beat its base

    def __post_init__(self) -> None:
        """Check sizes and freeze the maps."""
        if len(self.base_digest) != 32:
            raise ValueError(f"adapter: want a base digest of 32 bytes, got {len(self.base_digest)}")
        if not 0 <= self.version < 2**64:
            raise ValueError(f"adapter: want a version of 64 bits, got {self.version}")
        if not self.deltas:
            raise ValueError("adapter: want at least one delta")
        object.__setattr__(self, "deltas", MappingProxyType(dict(sorted(self.deltas.items()))))
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))

    @property
    def parameters(self) -> int:
        """How many tuned parameters the adapter carries."""
        return sum(delta.parameters for delta in self.deltas.values())
