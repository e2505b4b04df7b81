"""The known-answer test of a trained adapter: chosen by the device's own code, with hints for the exporter's errors."""

from __future__ import annotations

from collections.abc import Mapping

from device_runtime.errors import SelfTestError
from device_runtime.forecast import choose_answer as answers
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.choose_answer import CONTEXT_LENGTH, NUDGE, ROUNDOFF, FloatArray, probes, tolerances
from device_runtime.forecast.known_answer import SEEN
from device_runtime.format.adapter import KnownAnswer
from export.errors import ExportError

__all__ = ["CONTEXT_LENGTH", "NUDGE", "ROUNDOFF", "SEEN", "choose_known_answer", "probes", "tolerances"]


def choose_known_answer(
    bundle: Bundle, merged: Mapping[int, FloatArray], *, level: float, spread: float, seed: int = 0
) -> tuple[KnownAnswer, float]:
    """Choose as `device_runtime.forecast.choose_answer.choose_known_answer`.

    Raises `ExportError` when no candidate tells the adapter from its base.
    """
    try:
        return answers.choose_known_answer(bundle, merged, level=level, spread=spread, seed=seed)
    except SelfTestError as error:
        raise ExportError(
            str(error.args[0]),
            hint="train longer, or check that the run learnt anything"
            + (", or export for a float32 bundle" if bundle.manifest.precision == "int8" else ""),
        ) from error
