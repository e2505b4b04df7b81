"""Entries chosen from the gradient's spectrum: the definition, its choices, and what they cost in a blob."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from device_runtime.format.adapter import Adapter
from device_runtime.format.blob import decode, encode
from device_runtime.format.delta import COSINE_BITS, Fourier, Numbers
from edge_tsfm.errors import ConfigError, TrainError
from edge_tsfm.methods import Options, attach, find_method
from edge_tsfm.methods.entries import choose_entries, energy, weight_gradients
from edge_tsfm.methods.fourierft import fourier_sites
from edge_tsfm.models import Family
from edge_tsfm.models.parts import find_parts

Windows = tuple[torch.Tensor, torch.Tensor]

# How far a wave of norm 1 lies from that of exact cosines: a number of it is the sum of two products of two cosines,
# each off by half a step of the format's table; its norm is the root of half its size at least. Once more, for the norm
# is that of the rounded wave.
OFF = 2 * 4 * 2**0.5 * 2.0 ** -(COSINE_BITS + 1)


def gradient(rows: int, columns: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(rows, columns))


def wave(rows: int, columns: int, entry: int) -> NDArray[np.float64]:
    """The unit norm cosine that an entry's coefficient adds."""
    one = Fourier(
        rows=rows, columns=columns, coefficients=Numbers.of(np.ones(1)), scaling=1.0,
        explicit=np.array([entry], dtype=np.uint32),
    ).dense()  # fmt: skip
    return one / np.linalg.norm(one)


@pytest.mark.parametrize("shape", [(6, 4), (5, 7), (8, 8), (1, 6)])
def test_energy_is_what_the_gradient_has_along_the_deltas_own_wave(shape: tuple[int, int]) -> None:
    g = gradient(*shape)
    got = energy(g).reshape(-1)
    for entry in range(g.size):
        if got[entry] >= 0:
            along = abs(float((g * wave(*shape, entry)).sum()))
            assert abs(float(got[entry]) ** 0.5 - along) <= OFF * np.linalg.norm(g)


@pytest.mark.parametrize("shape", [(6, 4), (5, 7), (8, 8), (1, 6)])
def test_of_two_conjugates_one_is_left_and_no_wave_is_lost(shape: tuple[int, int]) -> None:
    g = gradient(*shape)
    kept = [entry for entry in range(g.size) if energy(g).reshape(-1)[entry] >= 0]
    waves = np.stack([wave(*shape, entry).reshape(-1) for entry in kept])
    np.testing.assert_allclose(waves @ waves.T, np.eye(len(kept)), atol=2 * OFF)
    u, v = np.indices(shape)
    conjugates = (-u % shape[0]) * shape[1] + (-v % shape[1])
    assert {min(entry, int(conjugates.flat[entry])) for entry in range(g.size)} == set(kept)


def test_a_gradient_made_of_waves_gives_those_waves_back() -> None:
    g = 3 * wave(8, 6, 7) - 2 * wave(8, 6, 20) + 0.5 * wave(8, 6, 0)
    assert choose_entries({"w": g}, 2, "gradient")["w"].tolist() == [7, 20]
    assert choose_entries({"w": g}, 3, "gradient")["w"].tolist() == [0, 7, 20]


def test_each_choice_keeps_its_promise() -> None:
    g = {"a": gradient(8, 6, 1), "b": 3 * gradient(8, 6, 2), "c": gradient(6, 8, 3), "silent": np.zeros((6, 8))}
    own = choose_entries(g, 5, "gradient")
    shared = choose_entries(g, 5, "gradient-shared")
    among_all = choose_entries(g, 5, "gradient-global")
    assert {name: len(found) for name, found in own.items()} == dict.fromkeys(g, 5)
    assert own["a"].tolist() == np.sort(np.argsort(-energy(g["a"]).reshape(-1))[:5]).tolist()
    assert shared["a"].tolist() == shared["b"].tolist() != shared["c"].tolist()
    together = energy(g["a"]) + energy(g["b"])
    assert shared["a"].tolist() == np.sort(np.argsort(-together.reshape(-1))[:5]).tolist()
    assert sum(map(len, among_all.values())) == 5 * len(g)
    assert "silent" not in among_all
    assert len(among_all["b"]) > len(among_all["a"])
    weakest = min(float(energy(g[name]).reshape(-1)[found].min()) for name, found in among_all.items())
    left = [energy(g[name]).reshape(-1)[np.setdiff1d(np.arange(48), found)] for name, found in among_all.items()]
    assert weakest >= max(float(one.max()) for one in left)
    for choice in (own, shared, among_all):
        assert all((np.diff(found.astype(int)) > 0).all() for found in choice.values())


def test_the_gradient_is_the_sum_over_batches_and_of_the_base(model: Any, family: Family, windows: Windows) -> None:
    name = find_parts(model, family).linear["v"][0]
    before = copy.deepcopy(model.state_dict())
    once = weight_gradients(copy.deepcopy(model), family, [name], [windows])[name]
    twice = weight_gradients(model, family, [name], [windows, windows])[name]
    np.testing.assert_allclose(twice, 2 * once)
    assert np.abs(once).max() > 0
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_chosen_entries_lower_the_loss_more_than_seeded_ones(
    model: Any, family: Family, windows: Windows, tune: Callable[..., None]
) -> None:
    """One small step along each: the first-order promise of the choice."""
    options = {"seeded": Options(n_frequency=9), "gradient": Options(n_frequency=9, entries="gradient")}
    start = float(family.loss(model, *windows).detach())
    fallen = {}
    for name, one in options.items():
        tuned = copy.deepcopy(model)
        names, count = fourier_sites(tuned, find_parts(tuned, family), one)
        chosen = None
        if name == "gradient":
            chosen = choose_entries(weight_gradients(copy.deepcopy(model), family, names, [windows]), count, name)
        attach(tuned, find_method("fourierft", chosen), one)
        tune(tuned, steps=1, learning_rate=1e-4)
        fallen[name] = start - float(family.loss(tuned, *windows).detach())
    assert fallen["gradient"] > 1.5 * fallen["seeded"]


def test_shared_entries_travel_once_for_a_shape() -> None:
    draw = np.random.default_rng(0)
    g = {index: gradient(64, 64, index) for index in range(8)}
    sizes = {}
    for choice in ("gradient", "gradient-shared"):
        found = choose_entries({str(index): one for index, one in g.items()}, 50, choice)
        deltas = {
            index: Fourier(
                rows=64, columns=64, coefficients=Numbers.of(draw.normal(size=50)), scaling=150.0,
                explicit=found[str(index)],
            )
            for index in g
        }  # fmt: skip
        blob = encode(Adapter(base_digest=bytes(32), version=1, deltas=deltas))
        assert all((decode(blob).deltas[i].entries == found[str(i)]).all() for i in g)
        sizes[choice] = len(blob)
    # Seven sets of 50 entries, each of a byte at least, and seven lines of the table are saved.
    assert sizes["gradient"] - sizes["gradient-shared"] >= 7 * (50 + 32)


def test_what_cannot_be_is_refused(model: Any, family: Family, windows: Windows) -> None:
    options = Options(n_frequency=9, entries="gradient")
    names, count = fourier_sites(model, find_parts(model, family), options)
    chosen = dict(choose_entries(weight_gradients(copy.deepcopy(model), family, names, [windows]), count, "gradient"))
    with pytest.raises(ConfigError, match="not among the sites"):
        attach(copy.deepcopy(model), find_method("fourierft", chosen | {"other.weight": chosen[names[0]]}), options)
    dict(model.named_parameters())[names[0]].data[0] = float("nan")
    with pytest.raises(TrainError, match="not finite"):
        weight_gradients(model, family, names, [windows])


def test_more_sets_than_a_blob_has_records_are_refused(
    model: Any, family: Family, windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(n_frequency=9, entries="gradient")
    names, count = fourier_sites(model, find_parts(model, family), options)
    gradients = weight_gradients(copy.deepcopy(model), family, names, [windows])
    monkeypatch.setattr("edge_tsfm.methods.fourierft.MAX_RECORDS", 17)  # one for entries
    with pytest.raises(ConfigError, match="room for 1") as caught:
        attach(copy.deepcopy(model), find_method("fourierft", choose_entries(gradients, count, "gradient")), options)
    assert "gradient-shared" in str(caught.value.hint)
