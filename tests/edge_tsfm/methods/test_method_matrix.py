"""What every method promises, method by method."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from edge_tsfm.errors import ConfigError, TrainError
from edge_tsfm.methods import METHODS, Options, attach, find_method
from edge_tsfm.models import FAMILIES
from edge_tsfm.models.parts import find_parts
from edge_tsfm.training.peft_form import save_peft_form

BOLT = FAMILIES["chronos-bolt"]
# The dummy's smallest site has 16 rows or columns of 8: few numbers on each.
OPTIONS = Options(n_frequency=9, rank=2)
NAMES = (
    "bitfit",
    "norms",
    "fourierft",
    "vera",
    "lora",
    "bitfit+fourierft",
    "bitfit+norms",
    "norms+lora",
    "bitfit+norms+vera",
)
Windows = tuple[torch.Tensor, torch.Tensor]


def quantiles(model: Any, windows: Windows) -> torch.Tensor:
    with torch.no_grad():
        return BOLT.quantiles(model, windows[0], 6)


def merged(base: Any, method: str, tuned: Any, dtype: str) -> Any:
    """The base plus the method's deltas, as a device merges them."""
    model = copy.deepcopy(base)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, delta in find_method(method).deltas(tuned, OPTIONS, dtype).items():
            parameters[name].add_(torch.from_numpy(delta.dense()).reshape(parameters[name].shape).float())
    return model


@pytest.mark.parametrize("name", [*NAMES, "full"])
def test_it_starts_as_the_base(bolt: Any, windows: Windows, name: str) -> None:
    before = quantiles(bolt, windows)
    attach(bolt, find_method(name), OPTIONS)
    assert torch.equal(quantiles(bolt, windows), before)


@pytest.mark.parametrize("name", NAMES)
def test_merged_forecasts_as_tuned(bolt: Any, windows: Windows, tune: Callable[..., None], name: str) -> None:
    base, before = copy.deepcopy(bolt), quantiles(bolt, windows)
    touched = attach(bolt, find_method(name), OPTIONS)
    tune(bolt)
    after = quantiles(bolt, windows)
    effect = (after - before).abs().max()
    assert effect > 1e-3
    assert set(find_method(name).deltas(bolt, OPTIONS, "int16")) == set(touched)
    # int16 numbers: one part in 32,767 of the largest on each tensor.
    assert (quantiles(merged(base, name, bolt, "int16"), windows) - after).abs().max() < 1e-3 * effect + 1e-4
    assert (quantiles(merged(base, name, bolt, "int8"), windows) - after).abs().max() < 0.1 * effect


@pytest.mark.parametrize("name", NAMES)
def test_only_what_is_named_moves(bolt: Any, tune: Callable[..., None], name: str) -> None:
    base = copy.deepcopy(bolt)
    touched = set(attach(bolt, find_method(name), OPTIONS))
    tune(bolt)
    model = merged(base, name, bolt, "int16")
    moved = {n for (n, p), q in zip(base.named_parameters(), model.parameters(), strict=True) if not torch.equal(p, q)}
    assert moved == touched


@pytest.mark.parametrize("name", NAMES)
def test_plain_peft_opens_the_checkpoint_and_forecasts_the_same(
    bolt: Any, windows: Windows, tune: Callable[..., None], name: str, tmp_path: Path
) -> None:
    base, before = copy.deepcopy(bolt), quantiles(bolt, windows)
    attach(bolt, find_method(name), OPTIONS)
    tune(bolt, steps=10)
    parameters = dict(base.named_parameters())
    deltas = find_method(name).deltas(bolt, OPTIONS, "int16")
    changes = {n: torch.from_numpy(d.dense()).reshape(parameters[n].shape) for n, d in deltas.items()}
    save_peft_form(base, changes, tmp_path / "peft", base_name="dummy")
    opened = PeftModel.from_pretrained(copy.deepcopy(base), str(tmp_path / "peft")).eval()
    wanted = quantiles(merged(base, name, bolt, "int16"), windows)
    assert (wanted - before).abs().max() > 1e-2
    with torch.no_grad():
        got = opened(context=windows[0]).quantile_preds[:, :, :6].transpose(1, 2)
    assert (got - wanted).abs().max() < 1e-4
    assert torch.allclose(quantiles(opened.merge_and_unload(), windows), wanted, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_dead_tensors_are_never_selected(bolt: Any, name: str) -> None:
    dead = set(find_parts(bolt, BOLT).dead)
    assert dead
    assert not dead & set(attach(bolt, find_method(name), OPTIONS))


@pytest.mark.parametrize("name", [*NAMES, "full"])
def test_only_its_own_numbers_learn(bolt: Any, windows: Windows, name: str) -> None:
    attach(bolt, find_method(name), OPTIONS)
    BOLT.loss(bolt, *windows).backward()
    for n, parameter in bolt.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, n


def test_full_is_a_yardstick_and_says_so(bolt: Any) -> None:
    method = find_method("full")
    attach(bolt, method, OPTIONS)
    assert not method.exportable
    with pytest.raises(TrainError, match="cannot be exported"):
        method.deltas(bolt, OPTIONS, "int16")


@pytest.mark.parametrize("name", ["lorra", "bitfit+bitfit", "full+lora", ""])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        find_method(name)


def test_two_methods_never_tune_one_tensor(bolt: Any) -> None:
    with pytest.raises(ConfigError, match="tuned twice"):
        attach(bolt, find_method("fourierft+lora"), OPTIONS)


def test_methods_that_wrap_different_layers_combine(bolt: Any, windows: Windows, tune: Callable[..., None]) -> None:
    base, before = copy.deepcopy(bolt), quantiles(bolt, windows)
    fourier, lora = METHODS["fourierft"], METHODS["lora"]
    parts = find_parts(bolt, BOLT)
    fourier.attach(bolt, parts, Options(roles=("patch",), n_frequency=5))
    lora.attach(bolt, parts, Options(roles=("v",)))
    assert torch.equal(quantiles(bolt, windows), before)
    for n, p in bolt.named_parameters():
        p.requires_grad_("lora_" in n or "fourierft_" in n)
    tune(bolt)
    after = quantiles(bolt, windows)
    model = copy.deepcopy(base)
    parameters = dict(model.named_parameters())
    deltas = fourier.deltas(bolt, OPTIONS, "int16") | lora.deltas(bolt, OPTIONS, "int16")
    assert set(deltas) == {*parts.linear["patch"], *parts.linear["v"]}
    with torch.no_grad():
        for n, delta in deltas.items():
            parameters[n].add_(torch.from_numpy(delta.dense()).float())
    assert (quantiles(model, windows) - after).abs().max() < 1e-3 * (after - before).abs().max() + 1e-4
