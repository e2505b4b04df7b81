"""Proving a base on an execution provider, on a machine that has it: no torch, the processor's sessions are the judge.

A bundle was compared with torch when it was exported, on ONNX Runtime's CPU. Here the same bundle on a provider is
compared with that, so what holds there carries over (docs/adr/0039).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import ForecastError, SelfTestError, SettingsError
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.choose_answer import CONTEXT_LENGTH, MARGIN, probe_size
from device_runtime.forecast.contexts import synthetic_contexts
from device_runtime.forecast.families import FAMILIES
from device_runtime.forecast.families.model import Model
from device_runtime.forecast.known_answer import check_seen, prove
from device_runtime.forecast.measured import (
    Progress,
    deviations,
    effect_kept,
    hear_tensors,
    long_and_short,
    one_by_one,
    perturbed,
    rounding,
)
from device_runtime.forecast.merge import check_base, merge
from device_runtime.forecast.placed import placed
from device_runtime.forecast.providers import CPU_PROVIDER, Chosen
from device_runtime.forecast.session import SessionSettings, chosen_by, nodes
from device_runtime.forecast.static import StaticBundle
from device_runtime.format.adapter import Adapter
from device_runtime.format.blob import blob_size, decode
from device_runtime.format.proofs import Proof

FloatArray = NDArray[np.float32]

PROBES = 64  # synthetic contexts of a known answer's length
SLIGHT = 0.02  # what a random adapter moves all tensors by, in sizes of their own numbers
LEAST_KEPT = 0.9  # of an adapter's effect
PPM = 1e6


@dataclass(frozen=True, kw_only=True)
class Sides:
    """One bundle on the processor, and on a provider."""

    bundle: Bundle  # with the static graph, where the provider takes no other
    settings: SessionSettings

    def reference(self, merged: Mapping[int, FloatArray]) -> Model:
        """Open it on the processor."""
        return FAMILIES[self.bundle.manifest.family](
            self.bundle, merged, SessionSettings(threads=self.settings.threads)
        )

    def device(self, merged: Mapping[int, FloatArray]) -> Model:
        """Open it on the provider."""
        return placed(self.bundle, self.settings)[1](self.bundle, merged, self.settings)

    @cached_property
    def alone(self) -> tuple[Model, Model]:
        """The frozen base, on both."""
        return self.reference({}), self.device({})

    @property
    def longest(self) -> int:
        """Steps of the longest context."""
        bundle = self.bundle
        return bundle.static.context_length if isinstance(bundle, StaticBundle) else bundle.manifest.context_length


def prove_provider(
    bundle: Bundle,
    settings: SessionSettings,
    *,
    adapter: bytes | None = None,
    max_deviation: float | None = None,
    progress: Progress = lambda *_: None,
) -> Proof:
    """Measure a base on the settings' provider, and return what `write_proof` puts beside the bundle.

    Without ``max_deviation`` forecasts may differ from the processor's as an order of summation makes them; with it by
    so much on average, in standard deviations of the context, and known answers get a tolerance of the provider's own.
    ``adapter``, a blob's bytes, is what the effect kept is measured of. Raises `SelfTestError` for what does not hold,
    `SettingsError` for the processor itself, and what opening raises.
    """
    proving = replace(settings, proving=True)
    chosen = chosen_by(bundle, proving)
    if chosen is None:
        raise SettingsError("the processor needs no proof: a bundle is compared with torch on it when it is exported")
    sides = Sides(bundle=placed(bundle, proving)[0], settings=proving)
    with sides.bundle.in_memory():
        mean, largest = _compare(sides, chosen, max_deviation, progress)
        tensors = sorted({index for name in sides.alone[1].sessions for index in _graph(sides, name)})
        weakest, margin = hear_tensors(sides.bundle, tensors, sides.reference, sides.device, sides.longest, progress)
        decoded, merged = _adapter(bundle, adapter)
        tolerance = 0.0 if max_deviation is None else _tolerance(sides, merged)
        kept = _check_effect(sides, merged)
        _check_answers(sides, decoded, merged, tolerance)
        counts: dict[str, int] = {}
        for session in sides.alone[1].sessions.values():
            for name, count in nodes(session).items():
                counts[name] = counts.get(name, 0) + count
    fixed = sides.bundle.static if isinstance(sides.bundle, StaticBundle) else None
    return Proof(
        provider=chosen.name,
        execution_provider=chosen.provider,
        version=chosen.version,
        library=chosen.library,
        onnxruntime=chosen.onnxruntime,
        options=chosen.options_digest,
        cpu_fallback=settings.cpu_fallback,
        graphs=tuple(sides.alone[1].sessions),
        shape="" if fixed is None else fixed.shape,
        static="" if fixed is None else fixed.digest.hex(),
        exact=max_deviation is None,
        max_deviation_ppm=round((max_deviation or 0.0) * PPM, 3),
        tolerance_ppm=round(tolerance * PPM, 3),
        mean_deviation_ppm=round(mean * PPM, 3),
        largest_deviation_ppm=round(largest * PPM, 3),
        tensors=len(tensors),
        weakest=weakest,
        weakest_margin=round(margin, 1),
        effect_kept=round(kept, 6),
        effect_of="" if adapter is None else hashlib.sha256(adapter[: blob_size(adapter)]).hexdigest(),
        nodes=sum(counts.values()),
        nodes_on_cpu=counts.get(CPU_PROVIDER, 0),
        device=chosen.device,
    )


def _graph(sides: Sides, name: str) -> tuple[int, ...]:
    """Return the tensors of a graph."""
    return sides.bundle.manifest.graphs[name].tensors


def _compare(sides: Sides, chosen: Chosen, max_deviation: float | None, progress: Progress) -> tuple[float, float]:
    """Return the mean and the largest deviation, alone and beside others. Raises `SelfTestError` beyond the allowed."""
    reference, device = sides.alone
    sizes = []
    for number, contexts in enumerate(batches := long_and_short(sides.longest)):
        progress("contexts", number, len(batches))
        wanted = one_by_one(reference, contexts)
        allowed = rounding(reference, contexts) if max_deviation is None else None
        for how, got in (("alone", one_by_one(device, contexts)), ("beside others", device.witness(contexts))):
            if not np.isfinite(got).all():
                raise ForecastError(f"{chosen.name}: forecasts of {contexts.shape[1]} steps, {how}, are not finite")
            size = np.abs(deviations(got, wanted, contexts))
            sizes.append(size.ravel())
            if allowed is not None and not (size.max(axis=(1, 2)) <= allowed).all():
                row = int(np.argmax(size.max(axis=(1, 2)) / allowed))
                raise SelfTestError(
                    f"{chosen.name}: forecasts of {contexts.shape[1]} steps, {how}, are {size[row].max():.2g} standard "
                    f"deviations off the processor's, rounding allows {allowed[row]:.2g}: that is not float32",
                    hint="set its precision with --provider-option, or accept less with --max-deviation",
                )
    size = np.concatenate(sizes)
    if max_deviation is not None and not size.mean() <= max_deviation:
        raise SelfTestError(
            f"{chosen.name}: forecasts are {size.mean():.2g} standard deviations off the processor's on average, "
            f"allowed {max_deviation:g}"
        )
    return float(size.mean()), float(size.max())


def _adapter(bundle: Bundle, adapter: bytes | None) -> tuple[Adapter | None, dict[int, FloatArray]]:
    """Return an adapter and its merged tensors, or those of a random one."""
    if adapter is None:
        tensors = range(len(bundle.manifest.tensors))
        return None, {index: perturbed(bundle.tensor(index), SLIGHT, seed=index) for index in tensors}
    decoded = decode(adapter[: blob_size(adapter)])
    check_base(bundle.manifest, decoded.base_digest)
    return decoded, dict(merge(bundle.manifest, bundle.tensor, decoded))


def _tolerance(sides: Sides, merged: Mapping[int, FloatArray]) -> float:
    """Return what a known answer may be off by on the provider, in standard deviations of its context."""
    contexts = synthetic_contexts(PROBES, CONTEXT_LENGTH)
    worst = 0.0
    for tensors in ({}, merged):
        reference, device = sides.alone if not tensors else (sides.reference(tensors), sides.device(tensors))
        size = probe_size(sides.bundle, reference)
        for context in contexts:
            off = np.abs(device.probe(context, size).astype(np.float64) - reference.probe(context, size)).max()
            worst = max(worst, float(off) / float(context.std()))
    return MARGIN * worst


def _check_effect(sides: Sides, merged: Mapping[int, FloatArray]) -> float:
    """Return the share of an adapter's effect that the provider keeps. Raises `SelfTestError` below `LEAST_KEPT`."""
    contexts = long_and_short(sides.longest)[-1]
    scaled = partial(deviations, b=np.nanmean(contexts, axis=1)[:, None, None], contexts=contexts)
    models = (*sides.alone, sides.reference(merged), sides.device(merged))
    base, own_base, tuned, own_tuned = (scaled(one_by_one(model, contexts)) for model in models)
    kept = effect_kept(base, tuned, own_base, own_tuned)
    if not kept >= LEAST_KEPT:
        raise SelfTestError(f"the provider keeps {kept:.1%} of the adapter's effect, want {LEAST_KEPT:.0%}")
    return kept


def _check_answers(sides: Sides, adapter: Adapter | None, merged: Mapping[int, FloatArray], tolerance: float) -> None:
    """Run the known-answer tests of the base, and of an adapter if there is one. Raises `SelfTestError`."""
    manifest, device = sides.bundle.manifest, sides.alone[1]
    prove(manifest, None, device.probe, beside=tolerance)
    if adapter is not None:
        prove(manifest, adapter, sides.device(merged).probe, beside=tolerance)
        if tolerance:
            check_seen(manifest, adapter, device.probe, beside=tolerance)
