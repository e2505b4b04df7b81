import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import load_file

from device_runtime.format.delta import Fourier
from edge_tsfm.data import split_of
from edge_tsfm.data.split import split_digit
from edge_tsfm.errors import ConfigError, InUseError, TrainError
from edge_tsfm.runs.run import forecast, load_run
from edge_tsfm.runs.train import train
from edge_tsfm.training.config import TrainConfig
from tests.support.callbacks import Hears
from tests.support.rounding import ANY_ORDER

Make = Callable[..., TrainConfig]
DUMMY = Path(__file__).resolve().parents[2] / "dummy_bases" / "chronos-bolt"


class KilledError(Exception):
    """Stands for a power cut."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, ward: Path) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    config = TrainConfig(
        data=str(ward), target="HR", interval="1h", base=str(DUMMY), method="bitfit+fourierft", n_frequency=10,
        context_length=24, prediction_length=4, steps=120, batch_size=64, evaluate_every=20, learning_rate=0.03,
    )  # fmt: skip
    train(config, out)
    return out


def test_an_adapter_that_learns_is_accepted_on_patients_it_never_saw(finished: Path) -> None:
    record = json.loads((finished / "run.json").read_text())
    assert record["gate"]["accepted"], record["gate"]["reason"]
    assert not record["gate"]["forced"]
    assert record["training"]["best"] < record["training"]["base"]
    run = load_run(finished)
    gate, stopping = run.windows("gate"), run.windows("stopping")
    assert record["gate"]["patients"] == len(np.unique(gate.item_id)) >= 20
    assert not set(gate.item_id) & set(stopping.item_id)
    assert {split_of(name) for name in (*gate.item_id, *stopping.item_id)} == {"validation"}


def test_a_finished_run_is_not_trained_again(finished: Path) -> None:
    before = (finished / "tuned.safetensors").read_bytes()
    with pytest.raises(TrainError, match="finished"):
        train(load_run(finished).config, finished, resume=True)
    assert (finished / "tuned.safetensors").read_bytes() == before


def test_two_trainings_of_one_folder_never_mix(config: Make, tmp_path: Path) -> None:
    seen: list[str] = []

    def meanwhile(step: int, *_: Any) -> None:
        if not seen:
            with pytest.raises(InUseError, match="is being written by process") as caught:
                train(config(method="lora"), tmp_path / "run", resume=True)
            seen.append(str(caught.value))

    train(config(), tmp_path / "run", callbacks=[Hears(meanwhile)])
    assert seen
    run = load_run(tmp_path / "run")
    assert run.method == "bitfit"
    run.tuned_model()


@pytest.mark.parametrize("damage", ["other", "missing", "half"])
def test_a_run_opens_only_with_the_numbers_that_its_record_pins(finished: Path, tmp_path: Path, damage: str) -> None:
    shutil.copytree(finished, tmp_path / "run")
    numbers = tmp_path / "run" / "tuned.safetensors"
    good = numbers.read_bytes()
    if damage == "missing":
        numbers.unlink()
    else:
        numbers.write_bytes(good[: len(good) // 2] if damage == "half" else good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(TrainError, match=r"tuned\.safetensors (is missing|has SHA-256 .*), the run's record pins"):
        load_run(tmp_path / "run")


def test_a_run_without_digests_opens_and_says_so(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert load_run(finished).unpinned is None
    (tmp_path / "run" / "run.json").write_text(json.dumps({k: v for k, v in record.items() if k != "files"}))
    assert "older than its digests" in load_run(tmp_path / "run").unpinned
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(TrainError, match="config is missing"):
        load_run(tmp_path / "run")


def test_a_ward_that_cannot_be_judged_and_a_season_that_fits_nowhere_are_refused_first(
    finished: Path, ward: Path, tmp_path: Path
) -> None:
    config = load_run(finished).config
    table = pd.read_csv(ward)
    table[[split_digit(str(name)) != 8 for name in table["item_id"]]].to_csv(tmp_path / "few.csv", index=False)
    with pytest.raises(TrainError, match="gate"):
        train(replace(config, data=str(tmp_path / "few.csv")), tmp_path / "few")
    with pytest.raises(ConfigError, match="season"):
        train(replace(config, season="2d"), tmp_path / "season")


def test_a_run_folder_holds_what_its_record_says(finished: Path) -> None:
    record = json.loads((finished / "run.json").read_text())
    assert sorted(p.name for p in finished.iterdir()) == [
        "curves.csv", "curves.png", "peft", "run.json", "tuned.safetensors",
    ]  # fmt: skip
    numbers = load_file(finished / "tuned.safetensors")
    assert sum(n.numel() for n in numbers.values()) == record["parameters"]
    assert len((finished / "curves.csv").read_text().splitlines()) == 1 + 1 + 120 // 20
    assert (finished / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert record["data"]["fingerprint"]
    assert set(record["versions"]) >= {"torch", "peft", "chronos-forecasting", "edge-tsfm"}


def test_a_reloaded_run_forecasts_as_the_gate_saw_it(finished: Path) -> None:
    run = load_run(finished)
    gate = run.windows("gate")
    quantiles = forecast(run.tuned_model(), run.base["family"], gate.context, 4)
    seen = ~np.isnan(gate.target)
    miss = (gate.target[..., None] - quantiles)[seen]
    levels = np.array(run.quantile_levels())
    wql = 2 * np.maximum(levels * miss, (levels - 1) * miss).mean(-1).sum() / np.abs(gate.target[seen]).sum()
    # A miss is a small difference of large numbers, whose rounding counts that many times.
    cancelled = float(np.abs(gate.target[seen]).mean() / np.abs(miss).mean())
    assert wql == pytest.approx(run.gate["adapter"], rel=ANY_ORDER * cancelled)
    assert set(run.deltas()) == set(run.record["tensors"])


def test_the_same_seed_gives_the_same_adapter_and_another_one_another(config: Make, tmp_path: Path) -> None:
    numbers = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(config(method="lora", seed=seed), tmp_path / name)
        numbers.append((tmp_path / name / "tuned.safetensors").read_bytes())
    assert numbers[0] == numbers[1] != numbers[2]


@pytest.mark.parametrize(
    ("method", "options"),
    [("bitfit", {}), ("lora", {}), ("fourierft", {}), ("bitfit+fourierft", {"entries": "gradient-global"})],
)
def test_a_killed_run_goes_on_exactly(config: Make, tmp_path: Path, method: str, options: dict[str, str]) -> None:
    train(config(method=method, **options), tmp_path / "whole")

    def kill(step: int, *_: Any) -> None:
        if step == 17:
            raise KilledError

    with pytest.raises(KilledError):
        train(config(method=method, **options), tmp_path / "cut", callbacks=[Hears(kill)])
    assert not (tmp_path / "cut" / "run.json").exists()
    with pytest.raises(TrainError, match="has not finished"):
        load_run(tmp_path / "cut")
    steps: list[int] = []
    resumed = config(method=method, **options)
    train(resumed, tmp_path / "cut", resume=True, callbacks=[Hears(lambda step, *_: steps.append(step))])
    assert steps[0] == 11
    whole, cut = (tmp_path / name / "tuned.safetensors" for name in ("whole", "cut"))
    assert whole.read_bytes() == cut.read_bytes()
    assert (tmp_path / "whole" / "curves.csv").read_bytes() == (tmp_path / "cut" / "curves.csv").read_bytes()


@pytest.mark.parametrize("entries", ["gradient", "gradient-shared", "gradient-global"])
def test_chosen_entries_are_in_the_run_folder_and_needed(config: Make, tmp_path: Path, entries: str) -> None:
    run = train(config(method="fourierft", entries=entries, learning_rate=1.0), tmp_path / "run")
    chosen = load_numpy(tmp_path / "run" / "entries.safetensors")
    deltas = run.deltas()
    assert set(chosen) == set(deltas) == set(run.record["tensors"])
    assert sum(map(len, chosen.values())) == run.record["parameters"]
    for name, delta in deltas.items():
        assert isinstance(delta, Fourier)
        assert delta.seed is None
        assert delta.entries.tolist() == chosen[name].tolist()
    gate = run.windows("gate")
    again = forecast(load_run(tmp_path / "run").tuned_model(), run.base["family"], gate.context, 4)
    assert np.abs(again - forecast(run.base_model.model, run.base["family"], gate.context, 4)).max() > 1e-2
    (tmp_path / "run" / "entries.safetensors").write_bytes(b"{}")
    with pytest.raises(TrainError, match=r"entries\.safetensors has SHA-256"):
        load_run(tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text(json.dumps({k: v for k, v in run.record.items() if k != "files"}))
    with pytest.raises(TrainError, match="entries cannot be read"):  # a run of before
        load_run(tmp_path / "run").tuned_model()


def test_a_run_goes_on_with_the_entries_it_chose(config: Make, tmp_path: Path) -> None:
    """Not with those that it would choose now: other threads round a gradient otherwise."""
    chosen = config(method="fourierft", entries="gradient", learning_rate=1.0)

    def kill(step: int, *_: Any) -> None:
        if step == 12:
            raise KilledError

    with pytest.raises(KilledError):
        train(chosen, tmp_path / "run", callbacks=[Hears(kill)])
    before = (tmp_path / "run" / "entries.safetensors").read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edge_tsfm.runs.prepare.choose_for_run", lambda *_: pytest.fail("chosen again"))
        train(chosen, tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "entries.safetensors").read_bytes() == before


def test_a_checkpoint_of_another_run_is_refused(config: Make, tmp_path: Path) -> None:
    def kill(step: int, *_: Any) -> None:
        if step == 12:
            raise KilledError

    with pytest.raises(KilledError):
        train(config(), tmp_path / "run", callbacks=[Hears(kill)])
    with pytest.raises(TrainError, match="another configuration"):
        train(config(seed=3), tmp_path / "run", resume=True)


def test_a_folder_in_use_is_not_overwritten(config: Make, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("keep")
    with pytest.raises(TrainError, match="not empty"):
        train(config(), tmp_path / "run")


def test_numbers_that_never_help_end_as_the_base_and_are_refused(config: Make, tmp_path: Path) -> None:
    run = train(config(learning_rate=1e3, steps=20), tmp_path / "run")
    assert run.record["training"]["best_step"] == 0
    assert not run.gate["accepted"]
    assert "what the frozen base does" in run.gate["reason"]
    assert not run.gate["forced"]
    assert train(config(learning_rate=1e3, steps=20), tmp_path / "forced", force=True).gate["forced"]


def test_a_loss_that_is_not_finite_names_its_step(
    config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_tsfm.models.bolt import Bolt

    whole = Bolt.loss
    calls = iter(range(100))

    def broken(self: Bolt, *args: torch.Tensor) -> torch.Tensor:
        return whole(self, *args) * (float("nan") if next(calls) == 9 else 1)

    monkeypatch.setattr(Bolt, "loss", broken)
    with pytest.raises(TrainError, match="nan at step 9"):
        train(config(), tmp_path / "run")


def test_too_few_patients_are_refused(config: Make, tmp_path: Path, ward: Path) -> None:
    few = tmp_path / "few.csv"
    few.write_text("\n".join(ward.read_text().splitlines()[:37]))
    with pytest.raises(TrainError, match="validation windows"):
        train(config(data=str(few)), tmp_path / "run")


def test_a_gate_with_many_windows_judges_by_drawn_ones_and_says_so(config: Make, tmp_path: Path) -> None:
    run = train(config(gate_windows=100), tmp_path / "run")
    assert run.record["windows"]["gate"] > 100
    assert run.record["windows"]["gate_drawn"] == run.gate["windows"] == 100
    whole = train(config(), tmp_path / "whole")
    assert whole.record["windows"]["gate_drawn"] == whole.record["windows"]["gate"] == run.record["windows"]["gate"]


@pytest.mark.parametrize("method", ["bitfit", "lora", "fourierft"])
def test_a_chronos_t5_is_trained_judged_and_evaluated_alike(config: Make, tmp_path: Path, method: str) -> None:
    run = train(config(base=str(DUMMY.parent / "chronos-t5"), method=method, learning_rate=None), tmp_path / "run")
    record = run.record
    assert record["training"]["metric"] == "cross-entropy"
    assert record["training"]["best"] < record["training"]["base"]
    gate = run.windows("gate")
    quantiles = forecast(run.tuned_model(), "chronos-t5", gate.context, 4)
    again = np.concatenate(
        [forecast(run.tuned_model(), "chronos-t5", gate.context[part], 4) for part in (slice(0, 70), slice(70, None))]
    )
    # All but where a sampled token lies within rounding of an edge, and takes a quantile with it.
    assert np.isclose(again, quantiles, rtol=ANY_ORDER).mean() > 0.99
    seen = ~np.isnan(gate.target)
    miss = (gate.target[..., None] - quantiles)[seen]
    levels = np.array(run.quantile_levels())
    wql = 2 * np.maximum(levels * miss, (levels - 1) * miss).mean(-1).sum() / np.abs(gate.target[seen]).sum()
    assert wql == pytest.approx(run.gate["adapter"], rel=1e-4)


def test_a_small_base_trains_on_one_thread_and_leaves_the_number_as_it_was(
    config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before, seen = torch.get_num_threads(), set()
    torch.set_num_threads(3)
    try:
        train(config(), tmp_path / "run", callbacks=[Hears(lambda *_: seen.add(torch.get_num_threads()))])
        assert (seen, torch.get_num_threads()) == ({1}, 3)
    finally:
        torch.set_num_threads(before)
