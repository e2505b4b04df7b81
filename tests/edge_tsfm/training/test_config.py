from pathlib import Path
from typing import Any

import pytest

from edge_tsfm.data import DataOptions
from edge_tsfm.errors import ConfigError
from edge_tsfm.methods import Options
from edge_tsfm.training.config import TrainConfig, load_config


def test_the_command_line_beats_the_file_and_the_file_beats_defaults(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('data = "ward.csv"\nsteps = 10\nseed = 4\ntarget_modules = ["q", "v"]\n')
    config = load_config(file, {"steps": 20, "seed": None})
    assert (config.steps, config.seed, config.batch_size) == (20, 4, TrainConfig(data="x").batch_size)
    assert config.options == Options(target_modules=("q", "v"))
    assert config.data == str(tmp_path.resolve() / "ward.csv")


def test_a_configuration_survives_its_record() -> None:
    config = TrainConfig(data="x", target_modules=("patch",), n_frequency=7, learning_rate=0.1)
    assert TrainConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('data = "x"\nstep = 3', "unknown key 'step'"),
        ('data = "x"\nsteps = "3"', "steps: want a whole number, got '3'"),
        ('data = "x"\nsteps = 3.5', "steps: want a whole number, got 3.5"),
        ('data = "x"\nseed = true', "seed: want a whole number, got true"),
        ('data = "x"\ntarget_modules = "q"', "target_modules: want"),
        ('data = "x"\ntarget_modules = [1]', r"target_modules\[0\]: want text, got 1"),
        ('data = "x"\nsteps = 0', "at least 1"),
        ('data = "x"\nlearning_rate = -1.0', "positive"),
        ('data = "x"\nlearning_rate = nan', "learning_rate: want a finite number, got nan"),
        ('data = "x"\nentries_seed = 4294967296', "2\\^32"),
        ('data = "x"\nnorms = "some"', "all or attention"),
        ('data = "x"\nentries = "drawn"', "entries: want one of seeded"),
        ('data = "x"\nmethod = "bitfit"\nentries = "gradient"', "bitfit has none"),
        ("steps = 3", "no data"),
        ("steps =", "run.toml"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, match: str) -> None:
    file = tmp_path / "run.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=match):
        load_config(file, {})


@pytest.mark.parametrize("changes", [{"warmup_steps": -1}, {"rank": 0}, {"prediction_length": 0}])
def test_impossible_values_are_refused_however_they_come(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        TrainConfig(data="x", **changes)


def test_how_data_are_read_is_part_of_a_run(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        'data = "ward.csv"\ntarget = "map"\nduplicates = "last"\nwhere = ["site=B", "unit=MICU"]\nmax_gap = "2d"\n'
        'variable_column = "kanal"\nvalue_column = "wert"\nunit = "kPa"\ndecimal = ","\n'
    )
    config = load_config(file, {"interval": "1h"})
    assert TrainConfig.from_dict(config.to_dict()) == config
    reading = config.reading
    assert reading.where == ("site=B", "unit=MICU")
    assert (reading.interval, reading.duplicates, reading.variable_column) == ("1h", "last", "kanal")
    assert TrainConfig(data="ward.csv").reading == DataOptions()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('interval = "60"', "interval '60' has no unit"),
        ('max_gap = "2 months"', "months, quarters and years have no one length"),
        ('duplicates = "first"', "want one of mean, last, median, error"),
        ('where = "site=B"', "want a list of texts"),
        ('unit = "furlong"', "not a unit known here"),
    ],
)
def test_how_data_are_read_is_checked_before_they_are(tmp_path: Path, text: str, match: str) -> None:
    file = tmp_path / "run.toml"
    file.write_text(f'data = "ward.csv"\n{text}\n')
    with pytest.raises(ConfigError, match=match):
        load_config(file, {})
