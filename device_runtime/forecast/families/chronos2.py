"""Chronos-2 on the device: series alone, series in groups, and covariates, in one run of the graph for all steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import FormatError, InputError
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.families.patches import patch_size, probe_steps, whole_patches
from device_runtime.forecast.groups import Grouped
from device_runtime.forecast.session import Session, SessionSettings, open_session, run

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

INPUTS = {"context", "future", "together", "group_ids"}
WITNESS_PATCHES = 2
RUN_SERIES = 64  # of groups in one run: scores between series grow with their square


class Chronos2Model:
    """A merged Chronos-2, ready to forecast."""

    def __init__(self, bundle: Bundle, merged: Mapping[int, FloatArray], settings: SessionSettings) -> None:
        manifest = bundle.manifest
        self.patch_size = patch_size(manifest)
        self.context_length = manifest.context_length
        self.prediction_length = manifest.prediction_length
        self.level_count = len(manifest.quantile_levels)
        self.sessions: dict[str, Session] = {"forecast": open_session(bundle, "forecast", merged, settings)}
        inputs = {one.name for one in self.sessions["forecast"].get_inputs()}
        if inputs != INPUTS:
            raise FormatError(f"graph forecast takes {sorted(inputs)}, want {sorted(INPUTS)}", hint="export it again")

    def predict(self, context: FloatArray, prediction_length: int) -> FloatArray:
        """Forecast each of ``context`` ``[B, L]`` (NaN for missing) alone: ``[B, H, Q]`` at the base's levels.

        Raises `InputError` beyond the base's own prediction length.
        """
        nothing = np.empty((len(context), 0), dtype=np.float32)
        return self._run(context, nothing, np.arange(len(context)), prediction_length)

    def predict_groups(self, rows: Grouped, prediction_length: int) -> FloatArray:
        """Forecast every row in its group, targets and covariates: ``[R, H, Q]``. Raises as `predict`."""
        out = np.empty((len(rows.groups), prediction_length, self.level_count), dtype=np.float32)
        for chosen in _runs(rows.groups):
            out[chosen] = self._run(rows.context[chosen], rows.future[chosen], rows.groups[chosen], prediction_length)
        return out

    def witness(self, context: FloatArray) -> FloatArray:
        """Return what the weights decide, in the context's unit: the first patches ``[B, 2 H, Q]``.

        H steps of every context in the company of a covariate, then H steps of it alone.
        """
        steps = min(WITNESS_PATCHES * self.patch_size, self.prediction_length)
        return np.concatenate([self._in_company(context, steps), self.predict(context, steps)], axis=1)

    def probe(self, context: FloatArray, size: int) -> FloatArray:
        """Return the known-answer probe of ``context`` ``[L]``: the first ``size`` of quantiles step by step.

        In the company of a covariate, so that the tensors between series take part too.
        """
        steps = probe_steps(size, self.level_count, self.prediction_length)
        return self._in_company(context[None, :], steps).reshape(-1)[:size]

    def _in_company(self, context: FloatArray, steps: int) -> FloatArray:
        """Forecast contexts ``[B, L]`` beside `company`: ``[B, steps, Q]``."""
        context = context[:, -self.context_length :]
        return self.predict_groups(company(context, self._whole(steps)), steps)[: len(context)]

    def _whole(self, steps: int) -> int:
        """Round steps up to whole patches."""
        return -(-steps // self.patch_size) * self.patch_size

    def _run(self, context: FloatArray, future: FloatArray, groups: IntArray, steps: int) -> FloatArray:
        """Run the graph once: ``[B, L]``, known futures ``[B, F]``, groups ``[B]`` to ``[B, steps, Q]``."""
        if steps > self.prediction_length:
            raise InputError(
                f"prediction_length {steps}: this Chronos-2 reaches at most {self.prediction_length} steps"
            )
        known = np.full((len(context), self._whole(steps)), np.nan, dtype=np.float32)
        known[:, : future.shape[1]] = future
        _, group, count = np.unique(groups, return_inverse=True, return_counts=True)
        together = np.flatnonzero(count[group] > 1)
        feed: dict[str, NDArray[np.generic]] = {
            "context": whole_patches(context[:, -self.context_length :], self.patch_size),
            "future": known,
            "together": together.astype(np.int64),
            "group_ids": group[together].astype(np.int64),
        }
        return run(self.sessions["forecast"], "quantiles", feed)[..., :steps].transpose(0, 2, 1)


def company(context: FloatArray, steps: int) -> Grouped:
    """Give each of ``context`` ``[B, L]`` a covariate made of itself (FORMAT.md §7): what proofs forecast from.

    The covariate is the context backwards; its known values go on with the context from its first value, repeated.
    Rows are the contexts, then their covariates.
    """
    count, length = context.shape
    future = np.full((2 * count, steps), np.nan, dtype=np.float32)
    future[count:] = context[:, np.arange(steps) % length]
    return Grouped(
        context=np.concatenate([context, context[:, ::-1]]),
        future=future,
        groups=np.tile(np.arange(count), 2),
        targets=count,
    )


def _runs(groups: IntArray) -> Iterator[IntArray]:
    """Divide rows into runs of whole groups, at most `RUN_SERIES` rows where a group is not larger itself."""
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    held: list[IntArray] = []
    for rows in members:
        if held and sum(map(len, held)) + len(rows) > RUN_SERIES:
            yield np.concatenate(held)
            held = []
        held.append(rows)
    yield np.concatenate(held)
