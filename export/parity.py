"""Check a bundle against the torch model: same forecasts with the base's weights, and with every tensor redrawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.families import FAMILIES
from device_runtime.forecast.session import SessionSettings
from export.aside import set_aside
from export.contexts import synthetic_contexts
from export.errors import ExportError
from export.families import find_family, torch_witness
from export.float64 import allowed_error, in_float64
from export.folder import StoredTensors
from export.survey import Place, survey
from export.wiring import check_wiring

FloatArray = NDArray[np.float32]
Progress = Callable[[str, int, int], None]

# Of a context's scale, however much torch itself errs: a requirement on the model, not a bound on rounding. A base
# whose forecasts rounding moves by more cannot be told from one with an adapter, which moves them by some hundredths,
# and its known answer is refused from a fiftieth on. Bases err by 2e-6 to 4e-6: a third would refuse none of them,
# three times as much would leave a good part of a small adapter's effect to rounding.
LARGEST = 1e-3
# Of the level. Forecasts are small numbers added to their context's level, which rounds by up to `known_answer.LEVEL`
# (2^-20) of it: a context that varies by less than 2^-20 / LARGEST, a thousandth, would be refused for the rounding of
# its level alone. This is five times that, so a level takes a fifth of `LARGEST` at most; a third would take more than
# half of it, three times as much would hide a factor of three in contexts that vary by less than 1.5 %.
LEAST_SCALE = 5e-3


@dataclass(frozen=True, kw_only=True)
class BaseParity:
    """How the runtime and torch in float32 differ from torch in float64.

    With the base's numbers: the largest difference, in units of the contexts' scale. With every tunable tensor drawn
    anew: the root mean square, relative to that of the response.
    """

    base: float
    float32: float  # torch's own
    redrawn: float
    redrawn_float32: float  # torch's own
    weakest: str  # the tensor that moves the response least when it alone is drawn again
    weakest_effect: float


def runtime_witness(
    bundle: Bundle, merged: Mapping[int, FloatArray], context: FloatArray, *, at_once: int | None = None
) -> FloatArray:
    """Return `torch_witness` by the device runtime, ``at_once`` contexts in a run (default: all)."""
    model = FAMILIES[bundle.manifest.family](bundle, merged, SessionSettings())
    step = at_once or len(context)
    parts = (context[start : start + step] for start in range(0, len(context), step))
    return np.concatenate([model.witness(part) for part in parts])


def deviations(a: NDArray[Any], b: NDArray[Any], context: FloatArray) -> NDArray[np.float64]:
    """Return the differences of two forecasts ``[B, H, Q]``, in units of each context's scale.

    A context that hardly varies has hardly a scale, but float32 rounds its level all the same: the unit is at least
    `LEAST_SCALE` of the level.
    """
    scale = np.maximum(np.nanstd(context, axis=1), LEAST_SCALE * np.abs(np.nanmean(context, axis=1)))
    unit = np.maximum(scale, 1e-5)[:, None, None]
    return np.asarray((a.astype(np.float64) - b) / unit)


def difference(a: NDArray[Any], b: NDArray[Any], context: FloatArray) -> float:
    """Return the largest of `deviations`, in size."""
    return float(np.abs(deviations(a, b, context)).max())


def check_contexts(context_length: int) -> list[FloatArray]:
    """Return batches of contexts of several lengths, with gaps, with left padding and without."""
    # A single value; whole patches and not; more than the base takes, as its own longest.
    batches = [
        synthetic_contexts(3 if length < 100 else 2, length, missing=0.2, seed=length)
        for length in (1, 16, 49, context_length + 7)
    ]
    padded = synthetic_contexts(3, 64, seed=1)
    padded[0, :40] = np.nan  # whole patches of padding beside a full row
    return [*batches, padded]


def check_base(
    model: nn.Module, bundle: Bundle, progress: Progress = lambda *_: None, *, places: Sequence[Place] | None = None
) -> BaseParity:
    """Compare torch and the runtime: with the base's own weights, then with every tunable tensor redrawn at random.

    ``places`` is a `survey` of the bundle's tensors, made here when not given. Raises `ExportError`.
    """
    family = bundle.manifest.family
    progress("prove", 1, 3)
    stored = StoredTensors(bundle.path, bundle.manifest.tensors)
    for name, numbers in stored.items():  # from now on the model takes its numbers back from there
        if not np.array_equal(numbers, model.get_parameter(name).detach().float().cpu().numpy(), equal_nan=True):
            raise ExportError(f"{name}: the bundle has other values than the model")
    answers = _torch_answers(model, bundle)
    if places is None:
        places = survey(model, find_family(family).response, stored, longest=bundle.manifest.context_length)
    with set_aside(model, stored):
        base, float32 = _compare_base(bundle, answers)
    progress("prove", 2, 3)
    wiring = check_wiring(model, bundle, places)
    progress("prove", 3, 3)
    return BaseParity(
        base=base,
        float32=float32,
        redrawn=wiring.error,
        redrawn_float32=wiring.float32,
        weakest=wiring.weakest,
        weakest_effect=wiring.weakest_move,
    )


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """What torch forecasts from a batch of contexts ``[B, L]``: ``[B, H, Q]``."""

    context: FloatArray
    float64: NDArray[Any]
    float32: FloatArray


def _torch_answers(model: nn.Module, bundle: Bundle) -> list[_Answer]:
    """Compute all of torch's results for the comparison with the base's own weights, before a session takes memory."""
    family = bundle.manifest.family
    answers = []
    for context in check_contexts(bundle.manifest.context_length):
        with in_float64():
            float64 = torch_witness(family, model, context)
        answers.append(_Answer(context=context, float64=float64, float32=torch_witness(family, model, context)))
    return answers


def _compare_base(bundle: Bundle, answers: Sequence[_Answer]) -> tuple[float, float]:
    """Return the largest errors of the runtime and of torch in float32, both against torch in float64."""
    runtime = FAMILIES[bundle.manifest.family](bundle, {}, SessionSettings(from_disk=True))
    worst = float32 = 0.0
    for one in answers:
        forecasts = runtime.witness(one.context)
        error, own = check_forecasts("the exported base", forecasts, one.float64, one.float32, one.context)
        worst, float32 = max(worst, error), max(float32, own)
    return worst, float32


def check_forecasts(
    what: str, runtime: FloatArray, float64: NDArray[Any], float32: FloatArray, context: FloatArray
) -> tuple[float, float]:
    """Return the largest errors of the runtime and of torch in float32, both against torch in float64.

    Forecasts are ``[B, H, Q]``, errors in units of the contexts' scale. Raises `ExportError` where the runtime errs by
    more than `allowed_error` of torch's own error, or by more than `LARGEST`.
    """
    error, own = difference(runtime, float64, context), difference(float32, float64, context)
    value = difference(float64, np.zeros_like(float64), context)
    allowed = min(allowed_error(own, value), LARGEST)
    if not error <= allowed:
        raise ExportError(
            f"parity: {what} differs from torch by {error:.3g} of the scale, allowed {allowed:.3g} "
            f"(torch's own rounding: {own:.3g})",
            hint="rounding to float32 alone moves these forecasts by more than a device allows"
            if own > LARGEST / 2
            else None,
        )
    return error, own


@contextmanager
def replaced(model: nn.Module, tensors: Mapping[str, FloatArray]) -> Iterator[None]:
    """Replace tensors of a torch model for the duration of a ``with``."""
    parameters = dict(model.named_parameters())
    kept = {name: parameters[name].detach().clone() for name in tensors}
    try:
        with torch.no_grad():
            for name, value in tensors.items():
                parameters[name].copy_(torch.from_numpy(np.ascontiguousarray(value)))
        yield
    finally:
        with torch.no_grad():
            for name, original in kept.items():
                parameters[name].copy_(original)
