"""Batches of contexts of similar length, so that padding in front of a series is not computed."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def by_length(context: Tensor, at_once: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Split contexts ``[B, L]`` into groups of at most ``at_once`` of about the same length, the longest first.

    Yields the rows ``[b]`` of each group and their contexts ``[b, C]``, without the columns before the group's first
    observed value (at least one column stays). A model that masks missing values and knows places by their distance
    alone, as Chronos-T5 does, gives what it gives for the whole, up to rounding.
    """
    observed = torch.isfinite(context)
    places = torch.arange(context.shape[1], device=context.device)
    first = torch.where(observed, places, context.shape[1] - 1).amin(dim=1)  # [B]
    for rows in torch.argsort(first, stable=True).split(at_once):  # type: ignore[no-untyped-call]  # as torch ships it
        yield rows, context[rows, int(first[rows[0]]) :]
