"""The command's options are the configuration's: none that it does not have, no other default."""

import re
from dataclasses import fields

import click
import pytest

from edge_tsfm.cli.train import command
from edge_tsfm.options import Options
from edge_tsfm.training.config import TrainConfig

OF_THE_COMMAND = {"out", "targets", "config_file", "resume", "force", "log_to", "group_by", "ray", "quiet", "as_json"}
OPTIONS = [one for one in command.params if isinstance(one, click.Option) and one.name not in OF_THE_COMMAND]
GIVEN = command.make_context("train", ["--out", "runs/x"]).params
FIELDS = {one.name: one for one in fields(TrainConfig)}


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_an_option_is_a_field_with_its_default(option: click.Option) -> None:
    default = FIELDS[option.name].default
    said = re.search(r"\[default: ([^\]]+)\]", option.help or "")
    if default not in (None, ()):
        assert said is not None, f"{option.name} does not say that its default is {default}"
        assert said[1] == str(default)
    assert GIVEN[option.name] in (None, ()), "what is not given must not hide what a file says"


def test_every_option_of_a_method_with_a_help_text_is_there() -> None:
    named = {option.name for option in OPTIONS}
    assert {one.name for one in fields(Options) if one.metadata["help"]} <= named
    assert len(named) > 20


def test_a_run_and_its_method_agree_on_every_default() -> None:
    assert TrainConfig(data="x").options == Options()
