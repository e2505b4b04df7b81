"""`export_adapter`: tuned parameters to a blob bound to one bundle, compared with torch before it is returned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.forecast.merge import merge
from device_runtime.format.adapter import Adapter, Calibration
from device_runtime.format.binding import Binding
from device_runtime.format.blob import decode, encode
from device_runtime.format.delta import Delta
from export.deviation import allowed_deviation, effect_kept, mean_deviation, require_kept
from export.errors import ExportError
from export.families import torch_witness
from export.float64 import in_float64
from export.known_answer import choose_known_answer
from export.parity import check_forecasts, difference, replaced, runtime_witness
from export.threads import threads_for

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class AdapterExport:
    """A blob and what was measured on the way. Differences are in units of the contexts' scale."""

    blob: bytes
    parameters: int
    tensors: int
    parity: float  # the runtime against torch in float64, both with the blob's merged tensors, on held-out windows
    parity_float32: float  # torch in float32 against the same
    rounding: float  # the run's own tuned model against the runtime: what rounding the numbers costs
    effect: float  # the adapter against its base
    effect_kept: float  # share of its effect in torch, float32, that the bundle's precision keeps
    windows: int
    binding: Binding  # what it is for
    known_answer_margin: float  # the adapter's effect on its known-answer test, in tolerances


def export_adapter(
    *,
    bundle: Bundle,
    base: nn.Module,
    tuned: nn.Module,
    deltas: Mapping[str, Delta],
    contexts: FloatArray,
    binding: Binding,
    version: int,
    metadata: Mapping[str, Any],
    forced: bool = False,
) -> AdapterExport:
    """Encode ``deltas`` (torch parameter name → delta) for ``bundle`` and prove the result.

    ``base`` and ``tuned`` are the torch models before and after training; ``contexts`` ``[N, L]`` are windows that
    were not trained on; ``binding`` says which signal, unit, interval and lengths the numbers were trained for.
    Raises `ExportError` when a tensor is not in the bundle, or when the runtime with the merged
    tensors does not forecast as torch does with the same tensors, or a quantised one keeps too little of the effect.
    """
    _require_tensors(bundle, deltas)
    adapter = Adapter(
        base_digest=bundle.digest,
        version=version,
        deltas={bundle.index_of(name): delta for name, delta in deltas.items()},
        binding=binding,
        metadata=metadata,
        forced=forced,
    )
    merged = merge(bundle.manifest, bundle.tensor, adapter)
    frozen = runtime_witness(bundle, {}, contexts)
    runtime = runtime_witness(bundle, merged, contexts)
    answers = _torch_answers(bundle, base, tuned, merged, contexts)
    parity, parity_float32 = _check_parity(bundle, runtime, answers.float64, answers.merged, contexts)
    kept = effect_kept(answers.frozen, answers.merged, frozen, runtime, contexts)
    require_kept(bundle, kept)
    level, spread = float(np.nanmean(contexts)), float(np.nanmedian(np.nanstd(contexts, axis=1)))
    answer, margin = choose_known_answer(bundle, merged, level=round(level, 1), spread=max(round(spread, 1), 0.1))
    blob = encode(replace(adapter, known_answer=answer))
    if encode(decode(blob)) != blob:
        raise AssertionError("the blob is not canonical")
    Forecaster.open(bundle, blob)  # as a device would, known-answer test included
    return AdapterExport(
        blob=blob,
        parameters=adapter.parameters,
        tensors=len(adapter.deltas),
        parity=parity,
        parity_float32=parity_float32,
        rounding=difference(answers.tuned, runtime, contexts),
        effect=difference(runtime, frozen, contexts),
        effect_kept=kept,
        windows=len(contexts),
        binding=binding,
        known_answer_margin=margin,
    )


def _require_tensors(bundle: Bundle, deltas: Mapping[str, Delta]) -> None:
    """Refuse deltas of tensors that the bundle does not have. Raises `ExportError`."""
    unknown = [name for name in deltas if name not in {entry.name for entry in bundle.manifest.tensors}]
    if unknown:
        raise ExportError(
            f"the bundle has no tunable tensor {unknown[0]!r}"
            + (f" and {len(unknown) - 1} others" if unknown[1:] else ""),
            hint=_why_missing(bundle, unknown[0]),
        )


@dataclass(frozen=True, kw_only=True)
class _Answers:
    """What torch forecasts from the same contexts: ``[N, H, K]`` each."""

    frozen: FloatArray
    tuned: FloatArray  # the run's own model
    merged: FloatArray  # the base with the blob's merged tensors
    float64: FloatArray  # the same, computed in float64


def _torch_answers(
    bundle: Bundle, base: nn.Module, tuned: nn.Module, merged: Mapping[int, FloatArray], contexts: FloatArray
) -> _Answers:
    """Ask torch all that the runtime is compared with; ``base`` has its own tensors again afterwards."""
    family = bundle.manifest.family
    by_name = {bundle.manifest.tensors[index].name: array for index, array in merged.items()}
    with threads_for(base):
        frozen, own = torch_witness(family, base, contexts), torch_witness(family, tuned, contexts)
        with replaced(base, by_name):
            float32 = torch_witness(family, base, contexts)
            with in_float64():
                float64 = torch_witness(family, base, contexts)
    return _Answers(frozen=frozen, tuned=own, merged=float32, float64=float64)


def with_calibration(bundle: Bundle, blob: bytes, calibration: Calibration) -> bytes:
    """Add ``calibration`` to a blob, fitted on what the runtime forecasts with it; opened as a device would.

    The known-answer test stays as it is: it proves the merge, before any calibration (FORMAT.md §7).
    """
    calibrated = encode(replace(decode(blob), calibration=calibration))
    Forecaster.open(bundle, calibrated)
    return calibrated


def _check_parity(
    bundle: Bundle, runtime: FloatArray, float64: FloatArray, float32: FloatArray, contexts: FloatArray
) -> tuple[float, float]:
    """Return the errors of the merged runtime and of torch in float32 against torch in float64.

    Refuse a runtime that errs more than rounding does; with int8 or float16, more than the bundle allows on average.
    """
    allowed = allowed_deviation(bundle)
    if allowed is None:
        return check_forecasts("merged, the runtime", runtime, float64, float32, contexts)
    mean = mean_deviation(runtime, float64, contexts)
    if not mean <= allowed:
        raise ExportError(
            f"parity: merged, the runtime ({bundle.manifest.precision}) deviates from torch by {mean:.3g} of the scale "
            f"on average, the bundle allows {allowed}",
            hint="export the adapter for a float32 bundle, or a bundle with more tensors in --keep",
        )
    return difference(runtime, float64, contexts), difference(float32, float64, contexts)


def _why_missing(bundle: Bundle, name: str) -> str:
    """Return why a tensor may not be in a bundle's table."""
    if name.endswith(".bias"):
        return "a bundle has the biases that a run adds only if it was written so: export base --added-biases"
    if bundle.manifest.precision == "float32":
        return "the tensor is dead in this family, or the bundle is of another base"
    return f"its frozen weights are {bundle.manifest.precision}: export the base again with --keep and the run's method"
