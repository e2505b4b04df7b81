"""Windows to train and score on: a context and the target that follows it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from device_runtime.series.signals import SIGNALS
from edge_tsfm.data.series import Series
from edge_tsfm.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Windows:
    """N windows; NaN in ``context`` is missing or before the series, NaN in ``target`` is not scored.

    What rises and falls together is drawn together by a bootstrap: `drawn` names each window's. It is the item
    (``unit`` says what an item is called), unless the windows are of one stretch of time cut into ``block``s.
    """

    context: NDArray[np.float32]  # [N, L]
    target: NDArray[np.float32]  # [N, H]
    item_id: NDArray[np.str_]  # [N]
    cutoff: NDArray[np.int64]  # [N], the place in its series of the first target value
    series: NDArray[np.int64]  # [N], which of the given series
    unit: str = "patient"  # patient, item or block
    block: NDArray[np.str_] | None = None  # [N]

    def __len__(self) -> int:
        return len(self.context)

    def draw(self, most: int, seed: int) -> "Windows":
        """Return ``most`` of the windows, in their order, drawn by the seed alone; all where there are no more."""
        if len(self) <= most:
            return self
        return self.keep(np.sort(np.random.default_rng(seed).permutation(len(self))[:most]))

    @property
    def drawn(self) -> NDArray[np.str_]:
        """What a bootstrap draws each window with, ``[N]``."""
        return self.item_id if self.block is None else self.block

    def keep(self, wanted: NDArray[np.bool_] | NDArray[np.int64]) -> "Windows":
        """Return the windows where ``wanted`` ``[N]`` is true, or those at such places."""
        return replace(
            self,
            context=self.context[wanted],
            target=self.target[wanted],
            item_id=self.item_id[wanted],
            cutoff=self.cutoff[wanted],
            series=self.series[wanted],
            block=None if self.block is None else self.block[wanted],
        )


def make_windows(
    series: Iterable[Series],
    *,
    context_length: int,
    prediction_length: int,
    stride: int,
    min_observed: int = 12,
) -> Windows:
    """Cut series into windows, in their order, then by time.

    Cutoffs are ``min_observed``, then every ``stride`` places, while ``prediction_length`` places follow;
    ``stride=prediction_length`` gives targets that do not overlap. A window is kept when its context holds at
    least ``min_observed`` observed values and its target at least one. Contexts are padded with NaN on the
    left. Raises `ConfigError` for a length, stride or minimum that no window could meet.
    """
    if min(context_length, prediction_length, stride, min_observed) < 1:
        raise ConfigError(
            f"context_length {context_length}, prediction_length {prediction_length}, stride {stride} and "
            f"min_observed {min_observed} must each be at least 1"
        )
    if min_observed > context_length:
        raise ConfigError(f"min_observed {min_observed} is more than context_length {context_length}")
    kept = list(series)
    lengths = np.array([len(one) for one in kept], dtype=np.int64)  # [S]
    counts = np.maximum((lengths - prediction_length - min_observed) // stride + 1, 0)  # [S]
    owner = np.repeat(np.arange(len(kept)), counts)  # [N]
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    cutoff = min_observed + stride * within  # [N]

    # One flat array with L places of NaN before each series: no window reaches into another patient.
    flat = np.full(int(lengths.sum()) + context_length * (len(kept) + 1), np.nan, dtype=np.float32)
    starts = np.cumsum(lengths + context_length) - lengths  # [S], first value of each series
    for one, at in zip(kept, starts, strict=True):
        flat[at : at + len(one)] = one.target
    place = starts[owner] + cutoff  # [N], first target value
    observed = np.concatenate([[0], np.cumsum(~np.isnan(flat), dtype=np.int64)])
    in_context = observed[place] - observed[place - context_length]
    in_target = observed[place + prediction_length] - observed[place]
    keep = (in_context >= min_observed) & (in_target > 0)
    owner, cutoff, place = owner[keep], cutoff[keep], place[keep]

    width = context_length + prediction_length
    if len(place):
        both = sliding_window_view(flat, width)[place - context_length]  # [N, L + H]
    else:
        both = np.empty((0, width), dtype=np.float32)
    names = np.array([one.item_id for one in kept], dtype=np.str_)
    return Windows(
        context=np.ascontiguousarray(both[:, :context_length]),
        target=np.ascontiguousarray(both[:, context_length:]),
        item_id=names[owner] if kept else np.empty(0, dtype=np.str_),
        cutoff=cutoff,
        series=owner,
        unit="patient" if all(one.signal in SIGNALS for one in kept) else "item",
    )
