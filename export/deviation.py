"""How far a bundle of another precision forecasts from its float32 original, and how much of an adapter it keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.merge import merge
from device_runtime.format.adapter import Adapter
from device_runtime.format.delta import Delta
from export.adjustable import Adjustable, adjustable
from export.contexts import synthetic_contexts
from export.errors import ExportError
from export.float64 import ULPS
from export.known_answer import NUDGE, ROUNDOFF
from export.manifest import read_manifest
from export.parity import deviations, runtime_witness
from export.survey import SEEN

FloatArray = NDArray[np.float32]
Tensors = Mapping[str, FloatArray]
Progress = Callable[[str, int, int], None]

# Of perturbations, in sizes of the tensor's own numbers: a trained base may hardly use a part.
STRENGTHS = tuple(10.0**power for power in range(6))
ELSEWHERE = 0.3  # the same, of all tensors at once
# The next two are powers of a test, not bounds on rounding; int8's steps are what they must tell apart.
# A tensor's own move, in differences between two sessions of one bundle. A session that ignores the tensor differs by
# all of that move but what other differences cancel: they would have to cancel three quarters of it. At 1.3 a quarter
# would do; at 12 right bundles are perturbed a strength or two harder, and refused where `STRENGTHS` end.
AUDIBLE = 4.0
# The share of a perturbation's move that may be missing. A tensor that is not wired misses all of it, one wired
# elsewhere more; a right one missed 0.37 and less, for every tensor of edge-t5-tiny in int8. At 0.17 that base would be
# refused, from 1 on nothing.
MISSED = 0.5

# Of an adapter's effect, where its own tensors are quantised: a requirement, not a bound on rounding. Trained adapters
# kept 99.8 % and more. At 0.7 a third of an adapter's work would pass as done; at 0.97 one whose effect is no larger
# than what integers do to forecasts anyway would be refused, though it may help all the same.
LEAST_KEPT = 0.9


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


def require_kept(bundle: Bundle, kept: float) -> None:
    """Raise `ExportError` where ``bundle`` quantises adapted tensors and too little of an adapter's effect is left."""
    if any(entry.quantised for entry in bundle.manifest.tensors) and kept < LEAST_KEPT:
        raise ExportError(
            f"{bundle.manifest.precision} keeps {kept:.1%} of the adapter's effect, want at least {LEAST_KEPT:.0%}",
            hint="--precision int8 leaves the tensors that an adapter changes in float32",
        )


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


def check_tensors(source: Bundle, stored: Bundle, progress: Progress) -> list[str]:
    """Prove every adapted tensor of ``stored`` wired, and name those that no forecast hears: nothing proves them.

    In two steps, of a number of sessions that does not grow with the tensors. First one by one, in a session that takes
    them as inputs: at one strength at least, the new bundle must make most of the old one's move, each taken from the
    bundle's own unperturbed forecasts, so that what int8 does to them anyway cancels out. A tensor that is not wired
    misses the whole move at every strength, one wired elsewhere more. Weak perturbations drown in int8's steps, and
    strong ones tip attention over a little earlier or later there: hence several strengths. Where the base's own
    numbers leave a tensor unheard, it is moved where all others have moved as well. Then all at once, as on a device
    (`_check_merged`). Raises `ExportError` naming the first tensor that does not follow.
    """
    context = synthetic_contexts(2, min(64, source.manifest.context_length), missing=0.1, seed=2)
    tensors = {entry.name: stored.tensor(index) for index, entry in enumerate(stored.manifest.tensors)}
    elsewhere = {
        name: perturbed(tensor, ELSEWHERE, seed=number) for number, (name, tensor) in enumerate(tensors.items())
    }
    silent = []
    room = stored.path.parent
    with adjustable(source, tensors, room) as old, adjustable(stored, tensors, room) as new:
        places: list[tuple[Tensors, FloatArray, FloatArray, float]] = [
            (place, old.witness(place, context), new.witness(place, context), _rounding(old, place, tensors, context))
            for place in ({}, elsewhere)
        ]
        for number, (name, tensor) in enumerate(tensors.items()):
            progress("perturb", number, len(tensors))
            for place, before, own, rounding in places:
                least = np.inf
                for strength in STRENGTHS:
                    moved = {**place, name: perturbed(place.get(name, tensor), strength, seed=number)}
                    wanted, got = old.witness(moved, context) - before, new.witness(moved, context) - own
                    move = mean_deviation(wanted, np.zeros_like(wanted), context)
                    if move > SEEN * rounding:
                        least = min(least, mean_deviation(got, wanted, context) / move)
                    if least <= MISSED:
                        break
                if least < np.inf:  # heard here
                    break
            if least == np.inf:
                silent.append(name)
            elif least > MISSED:
                raise ExportError(
                    f"{name}: perturbed, the {stored.manifest.precision} bundle's forecasts miss "
                    f"{least:.0%} of float32's move, allowed {MISSED:.0%}"
                )
        progress("perturb", len(tensors), len(tensors))
        if not silent:
            _check_merged(stored, new, tensors, context)
    return silent


def _rounding(graph: Adjustable, place: Tensors, tensors: Tensors, context: FloatArray) -> float:
    """Return the mean deviation that rounding may cause at ``place``: what moving every tensor by `NUDGE` does."""
    draw = np.random.default_rng(0)
    here = {name: place.get(name, tensor) for name, tensor in tensors.items()}
    nudged = {
        name: np.asarray(tensor * (1 + NUDGE * draw.uniform(-1, 1, tensor.shape)), dtype=np.float32)
        for name, tensor in here.items()
    }
    before = graph.witness(place, context)
    level = mean_deviation(before, np.zeros_like(before), context)
    return mean_deviation(graph.witness(nudged, context), before, context) + ULPS * ROUNDOFF * level


def _check_merged(stored: Bundle, graph: Adjustable, tensors: Tensors, context: FloatArray) -> None:
    """Compare the device's own session, all tensors merged, with the graph that took them as inputs.

    A session that ignores one tensor, as constant folding would, differs by that tensor's move: so every one must move
    forecasts by more than the two differ, and is perturbed harder until it does.
    """
    strength = dict.fromkeys(tensors, ELSEWHERE)
    for _ in STRENGTHS:
        moved = {
            name: perturbed(tensor, strength[name], seed=number)
            for number, (name, tensor) in enumerate(tensors.items())
        }
        together = graph.witness(moved, context)
        merged = {stored.index_of(name): array for name, array in moved.items()}
        session = runtime_witness(stored, merged, context)
        without = {name: graph.witness({**moved, name: tensor}, context) for name, tensor in tensors.items()}
        apart = mean_deviation(session, together, context)
        weak = [
            name for name, other in without.items() if not mean_deviation(other, together, context) > AUDIBLE * apart
        ]
        if not weak:
            return
        for name in weak:
            strength[name] *= 10
    likely = min(without, key=lambda name: mean_deviation(session, without[name], context))
    raise ExportError(
        f"{likely}: nothing proves it merged: on a device, all adapted tensors perturbed, the "
        f"{stored.manifest.precision} bundle's forecasts lie {apart:.3g} of the scale from its graph's"
    )


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


def perturbed(tensor: FloatArray, strength: float, seed: int) -> FloatArray:
    """Add noise ``strength`` times the tensor's own numbers (or 0.1 where it is all zero, as added biases are)."""
    size = strength * (float(np.sqrt(np.mean(np.square(tensor, dtype=np.float64)))) or 0.1)
    noise = np.random.default_rng(seed).normal(size=tensor.shape) * size
    return np.asarray((tensor + noise).astype(np.float32))
