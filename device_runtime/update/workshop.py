"""The protocol by which adaptation uses the model.

`device_runtime.own.OwnAdapters` implements it with ONNX Runtime; a test may do without.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from device_runtime.adapt.envelope import Envelope
from device_runtime.adapt.learner import Learner
from device_runtime.adapt.rules import AdaptRules

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class Made:
    """A blob of what was learnt, proven on this monitor."""

    blob: bytes
    version: int  # of the parent adapter; 0 on the base
    shift: NDArray[np.float32]  # [n], as the blob carries it, rounded
    steps: int  # that it forecasts at most


class Workshop(Protocol[T_co]):
    """Opens what learns on a monitor's base, and makes, proves and opens the blobs of what it learnt."""

    @property
    def base(self) -> str:
        """The base's digest, hex."""

    @property
    def learning(self) -> str:
        """SHA-256 of the bundle's learning.json, hex. Raises `StorageError` where there is none."""

    def learner(self, parent: bytes | None, rules: AdaptRules, tensors: tuple[str, ...] | None) -> Learner:
        """Open what learns by ``rules`` on the signed file ``parent``, None: on the base alone.

        ``tensors`` are those that may move, None: all that the learning graphs move.
        """

    def make(self, parent: bytes | None, shift: NDArray[np.float32], *, generation: int, envelope: Envelope) -> Made:
        """Make a blob of a ``shift`` ``[n]`` on ``parent``, with a known answer, and prove it.

        Raises `SelfTestError`, and `SettingsError` where it goes further than the envelope allows.
        """

    def shift(self, own: bytes, parent: bytes | None, envelope: Envelope) -> NDArray[np.float32]:
        """Return the shift ``[n]`` that a blob which was learnt here carries."""

    def open_own(self, own: bytes, parent: bytes | None, envelope: Envelope) -> T_co:
        """Check that a blob that was learnt here keeps to the envelope, and open it.

        Raises `SettingsError` where it does not, and what opening an adapter raises.
        """
