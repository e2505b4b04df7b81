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
from export.parity import deviations, perturbed, runtime_witness
from export.record import read_manifest

FloatArray = NDArray[np.float32]
Progress = Callable[[str, int, int], None]

# Of a strong perturbation's effect: it widens the activations, and with them the steps of int8, and sharpens
# Chronos-T5's attention, whose scores are not scaled. A tensor that does not follow at all is off by the whole effect.
LAG = 0.25


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


def check_tensors(source: Bundle, stored: Bundle, allowed: float, progress: Progress) -> None:
    """Perturb every adapted tensor in turn: the new bundle must follow the old one's move."""
    context = synthetic_contexts(2, min(64, source.manifest.context_length), missing=0.1, seed=2)
    reference = runtime_witness(source, {}, context)
    total = len(stored.manifest.tensors)
    for index, entry in enumerate(stored.manifest.tensors):
        progress("perturb", index, total)
        # Hard enough that a tensor which does not follow would be seen beside the deviation that is allowed. Attention
        # may tip over near one strength, a little earlier or later in int8: whoever follows at another does follow.
        for strength in (1.0, 10.0, 100.0, 1000.0):
            moved = perturbed(stored.tensor(index), strength, seed=index)
            expected = runtime_witness(source, {source.index_of(entry.name): moved}, context)
            effect = mean_deviation(expected, reference, context)
            if effect <= 10 * allowed and strength < 1000.0:
                continue
            error = mean_deviation(runtime_witness(stored, {index: moved}, context), expected, context)
            if error <= allowed + LAG * effect:
                break
        else:
            raise ExportError(
                f"{entry.name}: perturbed, forecasts deviate from float32 by {error:.3g} of the scale "
                f"(effect {effect:.3g}, allowed {allowed})"
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
