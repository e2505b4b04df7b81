import copy

import pytest

from edge_tsfm.errors import ConfigError
from edge_tsfm.methods import METHODS, Options, attach, find_method
from edge_tsfm.methods.sites import DEFAULT, touched_tensors
from edge_tsfm.models import Base


@pytest.mark.parametrize("method", [name for name in METHODS if name != "full"])
def test_it_names_what_the_method_touches(loaded: Base, method: str) -> None:
    model = copy.deepcopy(loaded.model)
    options = Options(n_frequency=1, rank=1)
    try:
        touched = attach(model, find_method(method), options)
    except ConfigError:
        with pytest.raises(ConfigError):
            touched_tensors(loaded.model, [method])
        return
    assert touched_tensors(loaded.model, [method]) == sorted(touched)


def test_the_models_own_parameters_are_left_as_they_were(loaded: Base) -> None:
    before = [(name, parameter.requires_grad) for name, parameter in loaded.model.named_parameters()]
    touched_tensors(loaded.model, DEFAULT)
    assert [(name, parameter.requires_grad) for name, parameter in loaded.model.named_parameters()] == before


def test_presets_and_patterns_add_up(loaded: Base) -> None:
    if loaded.family != "chronos-bolt":
        pytest.skip("Chronos-Bolt's names")
    q_and_v = touched_tensors(loaded.model, ["fourierft/qv100"])
    assert all(".q." in name or ".v." in name for name in q_and_v)
    v = touched_tensors(loaded.model, ["*.v.weight"])
    assert set(v) < set(q_and_v)
    assert touched_tensors(loaded.model, ["fourierft/qv100", "*.v.weight"]) == q_and_v
    assert not [name for name in q_and_v if name.startswith("decoder") and ".SelfAttention.q" in name], "dead"


def test_what_selects_nothing_or_is_unknown_is_refused(loaded: Base) -> None:
    for wanted in ("nobody", "*.nobody", "bitfit/qv100", "fourierft/nobody"):
        with pytest.raises(ConfigError):
            touched_tensors(loaded.model, [wanted])
