"""Chronos-T5's tokenizer in numpy: values divided by their mean absolute value, in uniform bins with a token each.

Equal to ``MeanScaleUniformBins`` of chronos-forecasting 2.3 token for token, except for a value within rounding of a
bin's edge; tests compare the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import FormatError
from device_runtime.format.parameters import flag, number, whole

FloatArray = NDArray[np.float32]
FAR = 1e20  # the outermost boundaries
MAX_TOKENS = 65_536


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """Bins between ``low_limit`` and ``high_limit`` in units of the context's mean absolute value."""

    low_limit: float
    high_limit: float
    n_tokens: int
    n_special_tokens: int
    pad_token_id: int
    eos_token_id: int
    use_eos_token: bool

    @classmethod
    def parse(cls, parameters: Mapping[str, Any]) -> Tokenizer:
        """Read a manifest's ``parameters``. Raises `FormatError` where one is missing or out of range."""
        tokens = whole(parameters, "n_tokens", least=1, most=MAX_TOKENS)
        made = cls(
            low_limit=number(parameters, "low_limit"),
            high_limit=number(parameters, "high_limit"),
            n_tokens=tokens,
            n_special_tokens=whole(parameters, "n_special_tokens", least=0, most=tokens),
            pad_token_id=whole(parameters, "pad_token_id", least=0, most=tokens - 1),
            eos_token_id=whole(parameters, "eos_token_id", least=0, most=tokens - 1),
            use_eos_token=flag(parameters, "use_eos_token"),
        )
        if not made.low_limit < made.high_limit or made.n_tokens < made.n_special_tokens + 3:
            raise FormatError("bundle.json: parameters: want low_limit < high_limit and at least two bins")
        return made

    @property
    def centres(self) -> FloatArray:
        """What each bin stands for, in units of the scale: ``[n_tokens - n_special_tokens - 1]``.

        Rounded once to float32. torch's ``linspace`` accumulates rounding that depends on the processor's vector width,
        so its bins may lie a few units in the last place away, and differently on each machine.
        """
        count = self.n_tokens - self.n_special_tokens - 1
        return np.linspace(self.low_limit, self.high_limit, count, dtype=np.float64).astype(np.float32)

    @property
    def boundaries(self) -> FloatArray:
        """Lower edge of every bin, and the last one's upper: ``[len(centres) + 1]``."""
        centres = self.centres
        between = (centres[1:] + centres[:-1]) / np.float32(2)
        return np.concatenate([[np.float32(-FAR)], between, [np.float32(FAR)]]).astype(np.float32)

    @property
    def values(self) -> FloatArray:
        """What each token stands for, special ones (as chronos has it) for the lowest bin: ``[n_tokens]``."""
        centres = self.centres
        return centres[np.clip(np.arange(self.n_tokens) - self.n_special_tokens - 1, 0, len(centres) - 1)]

    def encode(self, context: FloatArray) -> tuple[NDArray[np.int64], FloatArray, FloatArray]:
        """Turn contexts ``[B, L]``, NaN for missing, into tokens ``[B, C]``, a mask ``[B, C]`` and scales ``[B]``.

        C is L, and one more where the base wants an end token. A context without observations, or of zeros, has
        scale 1.
        """
        observed = ~np.isnan(context)
        size = np.where(observed, np.abs(context), np.float32(0)).astype(np.float64).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            scale = (size / observed.sum(axis=1)).astype(np.float32)
        scale = np.where(scale > 0, scale, np.float32(1)).astype(np.float32)
        scaled = np.where(observed, context, np.float32(0)) / scale[:, None]
        tokens = np.searchsorted(self.boundaries, scaled, side="right") + self.n_special_tokens
        tokens = np.clip(tokens, 0, self.n_tokens - 1)
        tokens = np.where(observed, tokens, self.pad_token_id).astype(np.int64)
        mask = observed.astype(np.float32)
        if self.use_eos_token:
            end = np.full((len(context), 1), self.eos_token_id, dtype=np.int64)
            tokens = np.concatenate([tokens, end], axis=1)
            mask = np.concatenate([mask, np.ones((len(context), 1), dtype=np.float32)], axis=1)
        return tokens, mask, scale
