"""Targets and covariates as rows of groups: what a base that mixes series (Chronos-2) forecasts from.

The names are chronos-forecasting's: ``past_covariates`` are measured beside the target, ``future_covariates`` are those
of them that are also known ahead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from device_runtime.errors import InputError

FloatArray = NDArray[np.float32]

MAX_GROUP = 256  # series of a group, covariates included
NUMBERS = (
    "covariates are numbers, missing ones NaN; categories (text, true or false) are not encoded here: make numbers of "
    "them first"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Grouped:
    """R series in groups: first the targets, then covariates."""

    context: FloatArray  # [R, L], NaN for missing
    future: FloatArray  # [R, H], NaN where nothing is known ahead
    groups: NDArray[np.int64]  # [R]; rows of one number are forecast together
    targets: int  # rows that are


def arrange(
    context: FloatArray,
    steps: int,
    groups: Sequence[int] | ArrayLike | None,
    past_covariates: Mapping[str, ArrayLike] | None,
    future_covariates: Mapping[str, ArrayLike] | None,
) -> Grouped:
    """Put targets ``[B, L]`` and covariates into rows.

    ``groups`` ``[B]``: targets of one number are forecast together; without it each is a group of its own. A
    covariate belongs to a group: ``[N, L]`` (known ahead: ``[N, steps]``) for N groups in the order of their first
    target, or ``[L]`` where there is one. Raises `InputError` for other shapes, values that are no numbers, a known
    covariate without its past, and a group of more than `MAX_GROUP`.
    """
    ids = _group_ids(groups, len(context))
    _, first, number = np.unique(ids, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))  # of group numbers: by their first target
    own = order[number]  # [B]
    count = len(first)
    past, ahead = past_covariates or {}, future_covariates or {}
    without = sorted(set(ahead) - set(past))
    if without:
        raise InputError(
            f"future_covariates: {without[0]!r} is not among past_covariates",
            hint="a future covariate also needs its past, by which it is scaled",
        )
    largest = int(np.bincount(own).max()) + len(past)
    if largest > MAX_GROUP:
        raise InputError(f"a group of {largest} series, covariates included: want at most {MAX_GROUP}")
    rows = [context, *(_covariate("past", name, past[name], count, context.shape[1]) for name in past)]
    unknown = np.full((count, steps), np.nan, dtype=np.float32)
    known = [_covariate("future", name, ahead[name], count, steps) if name in ahead else unknown for name in past]
    nothing = np.full((len(context), steps), np.nan, dtype=np.float32)
    return Grouped(
        context=np.concatenate(rows),
        future=np.concatenate([nothing, *known]),
        groups=np.concatenate([own, np.tile(np.arange(count), len(past))]),
        targets=len(context),
    )


def _group_ids(groups: Sequence[int] | ArrayLike | None, batch: int) -> NDArray[np.int64]:
    """Check groups and return them as ``[B]``; without any, each series is one."""
    if groups is None:
        return np.arange(batch)
    try:
        ids = np.asarray(groups)
    except ValueError as error:
        raise InputError(f"groups: want a whole number for each series: {error}") from error
    if ids.dtype.kind not in "iu" or ids.shape != (batch,):
        got = f"{ids.dtype} {list(ids.shape)}"
        raise InputError(f"groups: want a whole number for each of the {batch} series, got {got}")
    return ids.astype(np.int64)


def _covariate(when: str, name: str, values: ArrayLike, count: int, length: int) -> FloatArray:
    """Check one covariate and return it as float32 ``[N, length]``."""
    where = f"{when}_covariates: {name}"
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error
    if array.dtype.kind not in "iuf":
        raise InputError(f"{where}: want numbers, got {array.dtype}", hint=NUMBERS)
    if array.shape != (count, length) and (count, *array.shape) != (1, length):
        alone = f"[{length}] or " if count == 1 else ""
        raise InputError(f"{where}: want shape {alone}[{count}, {length}], got {list(array.shape)}")
    if np.isinf(array).any():
        raise InputError(f"{where}: has infinite values; missing values are NaN")
    return array.reshape(count, length).astype(np.float32)
