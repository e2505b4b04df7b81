from pathlib import Path

import pytest

from edge_tsfm.errors import ConfigError
from edge_tsfm.research.study import config as study_config
from edge_tsfm.research.study.cells import final_cells, search_cells
from edge_tsfm.research.study.config import load_study, require_libraries

SMALL = 'targets = ["HR", "MAP"]\nseeds = [0, 1, 2]\nmethods = ["bitfit", {method = "fourierft", n_frequency = 66}]\n'


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SMALL + "steps = 3\n", "steps"),
        (SMALL + "[train]\nlearning_rate = 0.1\n", "learning_rate"),
        (SMALL + "[train]\nsteps = 'many'\n", "steps"),
        (SMALL + "[search]\nrates = [1]\n", "rates"),
        (SMALL + "[search]\nfactors = [1.0]\n", "two"),
        (SMALL + "[[nhits]]\nsteps = 3\n", "nhits"),
        ('targets = ["HR"]\nmethods = [{method = "bitfit", rnak = 2}]\n', "rnak"),
        ('targets = ["HR"]\nmethods = ["bitfti"]\n', "bitfti"),
        ('targets = ["HR"]\nmethods = ["bitfit", "bitfit"]\n', "twice"),
        ('targets = ["HR"]\nmethods = [{method = "bitfit", label = "../x"}]\n', "../x"),
        ('targets = ["HR"]\nmethods = []\n', "methods"),
        ('methods = ["bitfit"]\n', "targets"),
        (SMALL + 'baselines = ["prophet"]\n', "prophet"),
        ("targets = ", "study.toml"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_study(write(tmp_path, text), "ward.csv")


def test_data_are_given_or_named_beside_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="names no data"):
        load_study(write(tmp_path, SMALL))
    assert load_study(write(tmp_path, 'data = "ward.csv"\n' + SMALL)).data == str(tmp_path / "ward.csv")
    assert load_study(write(tmp_path, 'data = "ward.csv"\n' + SMALL), "other.csv").data == "other.csv"


def test_a_file_of_the_release_before_names_its_baselines_yardsticks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = load_study(write(tmp_path, SMALL + 'yardsticks = ["nhits"]\n'), "ward.csv")
    said = capsys.readouterr().err
    assert old == load_study(write(tmp_path, SMALL + 'baselines = ["nhits"]\n'), "ward.csv")
    assert said.endswith("study.toml: yardsticks is now called baselines; the old name works in this release only\n")
    with pytest.raises(ConfigError, match="yardsticks and baselines are one key"):
        load_study(write(tmp_path, SMALL + "yardsticks = []\nbaselines = []\n"), "ward.csv")


def test_a_missing_library_is_told_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = load_study(write(tmp_path, SMALL + 'baselines = ["nhits"]\n'), "ward.csv")
    monkeypatch.setattr(study_config, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="neuralforecast") as caught:
        require_libraries(study)
    assert "extra [study]" in str(caught.value.hint)


def test_every_method_gets_as_many_candidates_and_the_first_seed_comes_first(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, SMALL + 'baselines = ["nhits"]\n[search]\nsteps = 7\n'), "ward.csv")
    trials = search_cells(study)
    assert {cell.config.steps for cell in trials} == {7}
    assert not any(cell.scored for cell in trials)
    per_choice = [sum(one.choice == cell.choice for one in trials) for cell in trials]
    assert set(per_choice) == {3}
    rates = {("edge-bolt-micro", "MAP", "bitfit"): 3.0}
    cells = final_cells(study, rates)
    assert len({cell.folder for cell in (*trials, *cells)}) == len(trials) + len(cells)
    assert len(cells) == 2 * 2 + 2 * 3 * 3  # base and simple of each target; targets, seeds, methods and N-HiTS
    trained = [cell.config.seed for cell in cells if cell.kind in ("adapter", "nhits")]
    assert trained == sorted(trained)
    chosen = {cell.config.learning_rate_factor for cell in cells if cell.choice in rates}
    assert chosen == {3.0}
    assert {c.config.learning_rate_factor for c in cells if c.choice not in rates} == {1.0}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('[device]\nlatency = "false"', r"\[device\] latency: want true or false"),
        ('[search]\nfactors = ["x", 1.0]', r"\[search\] factors\[0\]: want a finite number"),
        ("[search]\nsteps = 0", r"\[search\] steps and batch_size: want at least 1"),
        ("[nhits]\nsteps = 3.7", r"\[nhits\] steps: want a whole number, got 3.7"),
        ('[[methods]]\nlabel = "persistence"\nmethod = "lora"', "names a row"),
    ],
)
def test_a_value_of_another_kind_or_a_label_that_is_taken_is_refused(line: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    methods = "" if "[[methods]]" in line else 'methods = ["lora"]\n'
    path.write_text(f'targets = ["HR"]\n{methods}{line}\n')
    with pytest.raises(ConfigError, match=says):
        load_study(path, "ward.csv")
