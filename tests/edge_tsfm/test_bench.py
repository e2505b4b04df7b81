"""What bench times, and what it refuses before it begins."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from device_runtime.session import SessionSettings
from edge_tsfm.bench import Case, cases, check_timed, forecast_timing, in_turn
from edge_tsfm.cli.bench import command
from edge_tsfm.errors import ConfigError

BASES = Path(__file__).resolve().parents[1] / "dummy_bases"


def test_both_are_called_as_often_and_in_turn() -> None:
    calls: list[str] = []
    in_turn(lambda: calls.append("a"), lambda: calls.append("b"), 4, block=2)
    assert "".join(calls) == "aaabbbaaabbb"  # the first of each block is not counted


@pytest.mark.parametrize(("name", "expected"), [("chronos-bolt", 2), ("chronos-t5", 2)])
def test_a_forecast_of_each_family_is_timed_beside_its_pipeline(exported, name: str, expected: int) -> None:
    base, bundle = exported(name)
    timed = cases(bundle)
    assert len(timed) == expected
    assert all(case.context_length <= bundle.manifest.context_length for case in timed)
    case = Case(context_length=16, prediction_length=4)
    timing = forecast_timing(base, bundle, case, SessionSettings(threads=1), runs=1)
    assert timing.torch_ms > 0
    assert timing.ratio == timing.torch_ms / timing.runtime_ms


def test_families_that_are_not_timed_or_profiled_are_refused() -> None:
    check_timed("chronos-t5", profiled=False)
    with pytest.raises(ConfigError, match="chronos-2 is not timed"):
        check_timed("chronos-2", profiled=False)
    with pytest.raises(ConfigError, match="not one run of one graph"):
        check_timed("chronos-t5", profiled=True)


def test_a_shape_of_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    config = json.loads((BASES / "chronos-t5" / "config.json").read_text()) | {"architectures": ["T5EncoderModel"]}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    result = CliRunner().invoke(command, ["--config", str(path)])
    assert isinstance(result.exception, ConfigError)
    assert "T5EncoderModel" in str(result.exception)
