"""Weights out of memory while sessions are open, and a large model's tensors merged part by part."""

import copy
import gc
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from device_runtime.forecast.bundle import Bundle  # noqa: E402
from export import wiring  # noqa: E402
from export.aside import set_aside  # noqa: E402
from export.errors import ExportError  # noqa: E402
from export.families import find_family  # noqa: E402
from export.folder import StoredTensors, rewritten  # noqa: E402
from export.survey import SEEN, Place, survey  # noqa: E402
from export.wiring import check_wiring, merges  # noqa: E402


@pytest.fixture(scope="module")
def stored(float32_bundle: Bundle) -> StoredTensors:
    return StoredTensors(float32_bundle.path, float32_bundle.manifest.tensors)


def places_of(model: Any, bundle: Bundle, stored: StoredTensors) -> list[Place]:
    return survey(model, find_family(bundle.manifest.family).response, stored, longest=bundle.manifest.context_length)


def test_set_aside_weights_are_freed_and_come_back_to_the_bit(dummy: Any, stored: StoredTensors) -> None:
    model = copy.deepcopy(dummy.model)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    memory = [weakref.ref(model.get_parameter(name).untyped_storage()) for name in stored]
    with set_aside(model, stored):
        gc.collect()
        assert all(one() is None for one in memory)
        for name in stored:
            assert model.get_parameter(name).shape == before[name].shape
            assert model.get_parameter(name).untyped_storage().nbytes() == 4
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


def test_they_come_back_after_an_error_and_keep_type_and_identity(dummy: Any, stored: StoredTensors) -> None:
    model = copy.deepcopy(dummy.model).bfloat16()
    parameters = dict(model.named_parameters())
    before = {name: parameter.float() for name, parameter in parameters.items()}
    numbers = {name: before[name].detach().numpy() for name in stored}
    with pytest.raises(RuntimeError, match="in between"), set_aside(model, numbers):
        raise RuntimeError("in between")
    for name, parameter in model.named_parameters():
        assert parameter is parameters[name]
        assert parameter.dtype == torch.bfloat16
        assert torch.equal(parameter.float(), before[name])


def test_a_rewritten_bundle_holds_other_numbers_and_is_gone_afterwards(float32_bundle: Bundle) -> None:
    manifest = float32_bundle.manifest
    there = set(float32_bundle.path.parent.iterdir())
    with rewritten(
        float32_bundle, manifest.tensors[::2], lambda name: 2 * float32_bundle.tensor(float32_bundle.index_of(name))
    ) as other:
        numbers = StoredTensors(other.path, manifest.tensors)
        for index, entry in enumerate(manifest.tensors):
            twice = 2 if index % 2 == 0 else 1
            np.testing.assert_array_equal(numbers[entry.name], twice * float32_bundle.tensor(index), err_msg=entry.name)
    assert set(float32_bundle.path.parent.iterdir()) == there


def place(seed: int, moves: Mapping[str, float]) -> Place:
    return Place(seed=seed, context=np.zeros((1, 1), np.float32), response=np.zeros(1), float32=1e-7, moves=moves)


def test_every_tensor_of_a_large_model_is_merged_once_where_it_is_heard() -> None:
    sizes = {f"t{n}": 2**22 * (1 + n % 3) for n in range(40)}
    moves = [dict.fromkeys(sizes, 1.0), dict.fromkeys(sizes, 1.0)]
    moves[0]["t3"] = moves[1]["t7"] = 1e-9
    places = [place(seed, one) for seed, one in enumerate(moves)]
    parts = merges(places, sizes)
    assert len(parts) == wiring.PARTS
    assert sorted(name for _, names in parts for name in names) == sorted(sizes)
    assert all(where.moves[name] > SEEN * where.allowed for where, names in parts for name in names)
    total = sum(sizes.values())
    assert all(sum(sizes[name] for name in names) < 1.1 * total / wiring.PARTS for _, names in parts)
    assert {where.seed for where, _ in parts} == {0, 1}


def test_a_small_model_is_merged_whole_at_every_place() -> None:
    places = [place(seed, {"a": 1.0, "b": 1.0}) for seed in range(2)]
    assert merges(places, {"a": 5, "b": 6}) == [(one, ["a", "b"]) for one in places]


def test_in_parts_a_tensor_that_the_session_ignores_is_caught(
    dummy: Any, float32_bundle: Bundle, stored: StoredTensors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every part in turn one of those merged in it, which the file beside has at the base's numbers."""
    monkeypatch.setattr(wiring, "LARGE", 1)
    places = places_of(dummy.model, float32_bundle, stored)
    check_wiring(dummy.model, float32_bundle, places)
    parts = merges(places, {entry.name: entry.size for entry in float32_bundle.manifest.tensors})
    respond = wiring.runtime_response
    for _, names in parts:
        ignored = names[len(names) // 2]

        def ignoring(bundle: Bundle, drawn: Mapping[str, Any], context: Any, ignored: str = ignored) -> Any:
            return respond(bundle, {name: one for name, one in drawn.items() if name != ignored}, context)

        monkeypatch.setattr(wiring, "runtime_response", ignoring)
        with pytest.raises(ExportError, match=f"it ignores {ignored}"):
            check_wiring(dummy.model, float32_bundle, places)


def test_in_parts_merging_nothing_is_caught(
    dummy: Any, float32_bundle: Bundle, stored: StoredTensors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "LARGE", 1)
    places: Sequence[Place] = places_of(dummy.model, float32_bundle, stored)
    respond = wiring.runtime_response
    monkeypatch.setattr(wiring, "runtime_response", lambda bundle, _, context: respond(bundle, {}, context))
    with pytest.raises(ExportError, match="the runtime differs from torch"):
        check_wiring(dummy.model, float32_bundle, places)
