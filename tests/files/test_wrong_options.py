"""Every option that takes a number refuses what no number is, in words."""

import math

import click
import pytest

from device_runtime import cli as device
from device_runtime.cli.options import FiniteRange
from edge_tsfm import cli as workstation
from tests.files.test_wrong_paths import walk

COMMANDS = [
    (" ".join((program, *words)), command)
    for program, module in (("edge-tsfm", workstation), ("edge-tsfm-device", device))
    for words, command in walk(module.cli, [])
]
NUMBERS = [
    pytest.param(parameter, id=f"{name} {parameter.opts[0]}")
    for name, command in COMMANDS
    for parameter in command.params
    if isinstance(parameter.type, click.types.FloatParamType)
]


@pytest.mark.parametrize("parameter", NUMBERS)
@pytest.mark.parametrize("value", ["nan", "-nan", "inf", "-inf", "1e400", "one", ""])
def test_an_option_wants_a_finite_number(parameter: click.Option, value: str) -> None:
    with pytest.raises(click.BadParameter) as refused:
        parameter.type.convert(value, parameter, None)
    assert refused.value.message


def test_no_number_of_an_option_is_unbounded_in_kind() -> None:
    assert len(NUMBERS) >= 4
    assert all(isinstance(case.values[0].type, FiniteRange) for case in NUMBERS)
    assert not math.isfinite(click.FloatRange(min=1).convert("nan", None, None))  # why


def test_every_whole_number_of_an_option_has_a_least_one() -> None:
    """What numpy, torch and time say of a seed or a count below zero is of their inside."""
    found = 0
    for name, command in COMMANDS:
        for parameter in command.params:
            if isinstance(parameter.type, click.types.IntParamType):
                found += 1
                assert isinstance(parameter.type, click.IntRange), (name, parameter.name)
                assert parameter.type.min is not None, (name, parameter.name)
                assert parameter.type.min >= 0, (name, parameter.name)
    assert found > 30
