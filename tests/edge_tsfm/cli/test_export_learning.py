"""What a monitor may learn, on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge_tsfm.cli import cli
from tests.support.biased import BASES

DUMMY = str(BASES / "chronos-bolt")


@pytest.fixture
def invoke() -> Callable[..., Result]:
    return lambda *words: CliRunner().invoke(cli, [str(word) for word in words])


def test_the_words_are_shown_and_others_refused(invoke: Callable[..., Result], tmp_path: Path) -> None:
    assert "[biases|output-biases|fourierft/PRESET]" in invoke("export", "learning", "--help").output
    for word in ("fourier", "fourierft-qv100", "lora"):
        result = invoke("export", "learning", tmp_path, "--learnable", word)
        assert result.exit_code == 2
        assert f"{word!r}: want biases, output-biases or fourierft/PRESET" in result.output


@pytest.mark.parametrize(
    ("learnable", "message"),
    [
        ("fourierft/qv10", "no preset 'qv10'"),
        ("fourierft/qv100", "n_frequency 100 is more than half of the 64 parameters"),
    ],
)
def test_a_preset_that_does_not_fit_is_refused_before_anything_slow(
    invoke: Callable[..., Result], tmp_path: Path, learnable: str, message: str
) -> None:
    result = invoke("export", "base", "--base", DUMMY, "--out", tmp_path / "bundle", "--learnable", learnable)
    assert result.exit_code != 0
    assert message in str(result.exception)
    assert not (tmp_path / "bundle").exists()


def test_coefficients_are_for_float32(invoke: Callable[..., Result], tmp_path: Path) -> None:
    words = ("--base", DUMMY, "--out", tmp_path / "bundle", "--learnable", "fourierft", "--precision", "int8")
    result = invoke("export", "base", *words)
    assert result.exit_code == 2
    assert "--learnable fourierft is for --precision float32" in result.output
