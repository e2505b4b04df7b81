"""The known answer's tolerance: measured from rounding, narrow enough to see the adapter, wide enough for others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from device_runtime.forecast import choose_answer as known_answer
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.known_answer import widest_tolerance
from export.contexts import synthetic_contexts
from export.errors import ExportError
from export.known_answer import SEEN, choose_known_answer, tolerances

NAME = "encoder.block.0.layer.0.SelfAttention.v.weight"


@pytest.fixture(scope="module")
def merged(float32_bundle: Bundle) -> dict[int, np.ndarray]:
    index = float32_bundle.index_of(NAME)
    tensor = float32_bundle.tensor(index)
    return {index: (tensor + np.random.default_rng(0).normal(size=tensor.shape)).astype(np.float32)}


class Jumpy:
    """A model that lands a step away from its answer, as int8 does, when its context moves at all."""

    def __init__(self, own: Any, near: np.ndarray) -> None:
        self.own, self.near = own, near

    def probe(self, context: np.ndarray, size: int) -> np.ndarray:
        moved = np.abs(context - self.near).max() < 0.05 and (context != self.near).any()
        return self.own.probe(context, size) + np.float32(0.5 if moved else 0)


def test_it_tells_the_adapter_and_a_share_of_it_missing(
    float32_bundle: Bundle, merged: Mapping[int, np.ndarray]
) -> None:
    answer, margin = choose_known_answer(float32_bundle, merged, level=80.0, spread=10.0)
    assert margin > SEEN
    assert answer.tolerance <= widest_tolerance(answer.context)
    ((index, tensor),) = merged.items()
    base = float32_bundle.tensor(index)
    weaker = known_answer._model(float32_bundle, {index: (base + 0.9 * (tensor - base)).astype(np.float32)})
    off = np.abs(weaker.probe(answer.context, len(answer.expected)) - answer.expected).max()
    assert off > answer.tolerance, "nine tenths of the adapter would pass"


def test_it_grows_with_what_rounding_does_to_the_forecast(
    float32_bundle: Bundle, merged: Mapping[int, np.ndarray]
) -> None:
    """The same shape of context ten times as high above zero: float32 has a digit less for it."""
    low = synthetic_contexts(4, 16, level=80.0, spread=1.0)
    allowed = []
    for contexts in (low, (low + 720).astype(np.float32)):
        model = known_answer._model(float32_bundle, merged)
        expected = np.stack([model.probe(one, 18) for one in contexts])
        allowed.append(tolerances(float32_bundle, merged, contexts, expected))
    assert (allowed[0] >= 16 * 2.0**-24 * np.abs(low).max(axis=1)).all()
    assert (allowed[1] > 3 * allowed[0]).all()


def test_a_context_whose_answer_hangs_on_a_tie_is_not_chosen(
    float32_bundle: Bundle, merged: Mapping[int, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = choose_known_answer(float32_bundle, merged, level=80.0, spread=10.0)
    model = known_answer._model
    monkeypatch.setattr(known_answer, "_model", lambda *of: Jumpy(model(*of), first.context))
    second, margin = choose_known_answer(float32_bundle, merged, level=80.0, spread=10.0)
    assert (second.context != first.context).any()
    assert margin > SEEN


def test_an_adapter_that_rounding_hides_is_refused(float32_bundle: Bundle, merged: Mapping[int, np.ndarray]) -> None:
    ((index, tensor),) = merged.items()
    base = float32_bundle.tensor(index)
    hardly = {index: (base + 1e-6 * (tensor - base)).astype(np.float32)}
    with pytest.raises(ExportError, match="on another processor it could not be distinguished from its base"):
        choose_known_answer(float32_bundle, hardly, level=80.0, spread=10.0)
