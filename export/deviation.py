"""How far a bundle of another precision forecasts from its float32 original, and how much of an adapter it keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_runtime.adapter import Adapter
from device_runtime.bundle import Bundle
from device_runtime.delta import Delta
from device_runtime.merge import merge
from export.contexts import synthetic_contexts
from export.errors import ExportError
from export.parity import STRENGTHS, TOLERANCE, deviations, perturbed, runtime_witness
from export.record import read_manifest

FloatArray = NDArray[np.float32]
Progress = Callable[[str, int, int], None]

MISSED = 0.5  # of a perturbation's move; measured: 0.37 and less for every tensor of edge-t5-tiny in int8


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """How far forecasts lie from float32's, over all steps and quantiles, in units of the contexts' scale.

    ``mean`` also bounds how much the mean absolute error or the quantile loss can grow, whatever the truth.
    """

    mean: float
    largest: float
    contexts: int


def allowed_deviation(bundle: Bundle) -> float | None:
    """Return the mean deviation from float32 that a bundle was written under; None for a float32 bundle."""
    stated = read_manifest(bundle).get("max_deviation")
    return None if stated is None else float(stated)


def mean_deviation(a: FloatArray, b: FloatArray, context: FloatArray) -> float:
    """Return the mean size of `deviations`."""
    return float(np.abs(deviations(a, b, context)).mean())


def effect_kept(
    base: FloatArray, tuned: FloatArray, stored_base: FloatArray, stored_tuned: FloatArray, context: FloatArray
) -> float:
    """Return the share of an adapter's effect that another precision keeps: 1 - squared change / squared effect.

    All forecasts ``[B, H, Q]``, in units of their context's scale. NaN for an adapter without any effect.
    """
    effect = deviations(tuned, base, context)
    change = deviations(stored_tuned, stored_base, context) - effect
    with np.errstate(invalid="ignore"):
        return 1.0 - float(np.square(change).sum() / np.square(effect).sum())


def long_and_short(bundle: Bundle) -> list[FloatArray]:
    """Return contexts of several lengths, with gaps."""
    full = bundle.manifest.context_length
    return [synthetic_contexts(16, length, missing=0.1, seed=length) for length in sorted({16, min(48, full), full})]


def measure(source: Bundle, stored: Bundle, batches: Sequence[FloatArray], allowed: float, what: str) -> Deviation:
    """Compare two bundles, each context alone and all together: activations are quantised over a whole batch."""
    sizes = []
    for batch in batches:
        reference = runtime_witness(source, {}, batch)
        both = [runtime_witness(stored, {}, batch, at_once=at_once) for at_once in (1, None)]
        sizes += [np.abs(deviations(forecasts, reference, batch)).ravel() for forecasts in both]
    size = np.concatenate(sizes)
    found = Deviation(mean=float(size.mean()), largest=float(size.max()), contexts=sum(map(len, batches)))
    if not found.mean <= allowed:
        raise ExportError(
            f"on {what} forecasts deviate from float32 by {found.mean:.3g} of the scale on average, allowed {allowed}",
            hint="keep more tensors float32 with --keep, or use --precision float16",
        )
    return found


def check_tensors(source: Bundle, stored: Bundle, progress: Progress) -> None:
    """Perturb every adapted tensor in turn: at one strength at least, the new bundle must make most of the old's move.

    Each move is taken from the bundle's own unperturbed forecasts, so that what int8 does to them anyway cancels out. A
    tensor that is not wired misses the whole move at every strength, one wired elsewhere more. Weak perturbations drown
    in int8's steps, and strong ones tip attention over a little earlier or later there: hence several strengths.
    Raises `ExportError` naming the first tensor that does not follow.
    """
    context = synthetic_contexts(2, min(64, source.manifest.context_length), missing=0.1, seed=2)
    before, own = runtime_witness(source, {}, context), runtime_witness(stored, {}, context)
    total = len(stored.manifest.tensors)
    for index, entry in enumerate(stored.manifest.tensors):
        progress("perturb", index, total)
        least = np.inf
        for strength in STRENGTHS:
            moved = perturbed(stored.tensor(index), strength, seed=index)
            wanted = runtime_witness(source, {source.index_of(entry.name): moved}, context) - before
            got = runtime_witness(stored, {index: moved}, context) - own
            move = mean_deviation(wanted, np.zeros_like(wanted), context)
            if move > TOLERANCE:
                least = min(least, mean_deviation(got, wanted, context) / move)
            if least <= MISSED:
                break
        else:
            if least == np.inf:
                raise ExportError(
                    f"{entry.name}: perturbing it moves no forecast of the float32 bundle: nothing proves it wired",
                    hint="leave it out of --keep: what adapters do to it alone changes nothing",
                )
            raise ExportError(
                f"{entry.name}: perturbed, the {stored.manifest.precision} bundle's forecasts miss "
                f"{least:.0%} of float32's move, allowed {MISSED:.0%}"
            )
    progress("perturb", total, total)


def adapter_kept(source: Bundle, stored: Bundle, deltas: Mapping[str, Delta], contexts: FloatArray | None) -> float:
    """Merge an adapter into both bundles and compare its effect, context by context as a device does."""
    context = contexts if contexts is not None else np.concatenate(long_and_short(source)[-1:])
    forecasts = []
    for bundle in (source, stored):
        adapter = Adapter(
            base_digest=bundle.digest,
            version=0,
            deltas={bundle.index_of(name): delta for name, delta in deltas.items()},
            metadata={},
        )
        merged = merge(bundle.manifest, bundle.tensor, adapter)
        forecasts += [runtime_witness(bundle, tensors, context, at_once=1) for tensors in ({}, merged)]
    return effect_kept(forecasts[0], forecasts[1], forecasts[2], forecasts[3], context)
