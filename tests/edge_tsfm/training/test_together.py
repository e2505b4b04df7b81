"""Adapters trained in one pass: each is what it would have become alone."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edge_tsfm.data.windows import Windows
from edge_tsfm.errors import ConfigError
from edge_tsfm.methods import METHODS, attach, find_method, learning_rates
from edge_tsfm.models import FAMILIES, load_base
from edge_tsfm.progress import Work
from edge_tsfm.runs.run import forecast
from edge_tsfm.training.config import TrainConfig
from edge_tsfm.training.course import Course, put
from edge_tsfm.training.loop import fit
from edge_tsfm.training.together import check_together, fit_together
from tests.support.callbacks import Remembers

Make = Callable[..., TrainConfig]
DUMMIES = Path(__file__).resolve().parents[2] / "dummy_bases"
SAME = 1e-5  # of the forecasts' spread: what the order of sums may change in a short training
METHODS_TOGETHER = (*(name for name, one in METHODS.items() if one.exportable), "bitfit+norms", "bitfit+fourierft")
NAMES = ("icu", "theatre", "recovery")


def windows(seed: int, count: int) -> Windows:
    draw = np.random.default_rng(seed)
    waves = np.sin(np.arange(28) / draw.uniform(3, 9, (count, 1)) + draw.uniform(0, 6, (count, 1)))
    values = (80 + 10 * waves + draw.normal(0, 2, waves.shape)).astype(np.float32)
    values[draw.random(values.shape) < 0.1] = np.nan
    places = np.zeros(count, dtype=np.int64)
    return Windows(
        context=values[:, :24].copy(), target=values[:, 24:].copy(), item_id=np.array(["p"] * count),
        cutoff=places, series=places,
    )  # fmt: skip


class Trial:
    """One base with a method, and groups of different sizes."""

    def __init__(self, config: TrainConfig) -> None:
        base = load_base(config.base)
        self.config, self.family = config, FAMILIES[base.family]
        self.model = copy.deepcopy(base.model)
        method = find_method(config.method)
        torch.manual_seed(0)
        attach(self.model, method, config.options)
        self.rates = learning_rates(self.model, method, config.learning_rate)
        self.data = {name: (windows(n, 40 + 9 * n), windows(50 + n, 20 + n)) for n, name in enumerate(NAMES)}
        self.heard = {name: Remembers() for name in NAMES}

    def course(self, name: str, config: TrainConfig | None = None, checkpoint: Path | None = None) -> Course:
        own = {
            key: nn.Parameter(one.detach().clone()) for key, one in self.model.named_parameters() if key in self.rates
        }
        return Course.begin(
            own, *self.data[name], config or self.config, rates=self.rates, checkpoint=checkpoint,
            report=self.heard[name].on_step,
        )  # fmt: skip

    def forecast(self, parameters: dict[str, torch.Tensor] | None = None) -> Any:
        model = copy.deepcopy(self.model)
        if parameters is not None:
            put({name: one for name, one in model.named_parameters() if name in self.rates}, parameters)
        return forecast(model, self.family.name, windows(99, 30).context, 4)


@pytest.fixture
def trial(config: Make) -> Callable[..., Trial]:
    def make(**changes: Any) -> Trial:
        small: dict[str, Any] = {"steps": 12, "evaluate_every": 4, "batch_size": 8, "n_frequency": 9, "rank": 2}
        return Trial(config(**small | changes))

    return make


@pytest.mark.parametrize("family", ["chronos-bolt", "chronos-2"])
@pytest.mark.parametrize("method", METHODS_TOGETHER)
def test_an_adapter_is_the_same_alone_and_in_company(family: str, method: str, trial: Callable[..., Trial]) -> None:
    one = trial(base=str(DUMMIES / family), method=method)
    courses = {name: one.course(name) for name in NAMES}
    assert fit_together(one.model, one.family, courses, workers=2, at_once=2) == {}
    frozen = one.forecast()
    for name in NAMES:
        alone = fit(copy.deepcopy(one.model), one.family, *one.data[name], one.config, rates=one.rates)
        ours, allowed = courses[name].result, SAME * float(frozen.std())
        np.testing.assert_allclose(
            [line[1:] for line in ours.curve], [line[1:] for line in alone.curve], rtol=SAME, equal_nan=True
        )
        assert (ours.best_step, ours.stopped_early) == (alone.best_step, alone.stopped_early)
        forecasts = one.forecast(alone.best)
        np.testing.assert_allclose(one.forecast(ours.best), forecasts, rtol=0, atol=allowed)
        np.testing.assert_allclose(one.forecast(dict(courses[name].trainable)), forecasts, rtol=0, atol=allowed)
        assert alone.best_step == 0 or np.abs(forecasts - frozen).max() > 100 * allowed, "nothing was learnt"


def test_each_stops_by_its_own_validation_and_the_rest_go_on(trial: Callable[..., Trial]) -> None:
    one = trial(steps=40, patience=2, learning_rate=0.01)
    train, held_out = one.data["icu"]
    one.data["icu"] = (replace(train, target=train.target + 60), held_out)  # what it learns makes its validation worse
    courses = {name: one.course(name) for name in NAMES}
    work = Work()
    fit_together(one.model, one.family, courses, workers=1, work=work)
    assert courses["icu"].result.stopped_early
    assert courses["icu"].step < courses["theatre"].step
    assert work.left == 0
    for name in NAMES:
        alone = fit(copy.deepcopy(one.model), one.family, *one.data[name], one.config, rates=one.rates)
        assert [line[0] for line in courses[name].result.curve] == [line[0] for line in alone.curve]
        steps = [step for step, _ in one.heard[name].steps]
        assert steps == list(range(courses[name].step + 1)), "a callback hears of each step once, in order"


def test_one_whose_loss_is_not_finite_fails_alone(trial: Callable[..., Trial]) -> None:
    one = trial()
    courses = {name: one.course(name) for name in NAMES}
    with torch.no_grad():
        next(iter(courses["theatre"].trainable.values())).fill_(torch.nan)
    failed = fit_together(one.model, one.family, courses, workers=1)
    assert {name: str(error) for name, error in failed.items()} == {"theatre": "the training loss is nan at step 0"}
    alone = fit(copy.deepcopy(one.model), one.family, *one.data["icu"], one.config, rates=one.rates)
    assert math.isclose(courses["icu"].result.best_score, alone.best_score, rel_tol=SAME)


def test_a_checkpoint_is_that_of_a_run_alone_and_company_need_not_be_at_one_step(
    trial: Callable[..., Trial], tmp_path: Path
) -> None:
    one = trial()
    whole = {name: one.course(name) for name in NAMES}
    fit_together(one.model, one.family, whole, workers=1)

    class StoppedError(Exception):
        pass

    def stop(step: int, *_: Any) -> None:
        if step == 8:
            raise StoppedError

    with pytest.raises(StoppedError):  # alone, after a checkpoint at step 8
        fit(
            copy.deepcopy(one.model), one.family, *one.data["icu"], one.config, rates=one.rates,
            checkpoint=tmp_path / "icu.pt", report=stop,
        )  # fmt: skip
    courses = {name: one.course(name, checkpoint=tmp_path / f"{name}.pt") for name in NAMES}
    assert [one.step for one in courses.values()] == [8, 0, 0]
    fit_together(one.model, one.family, courses, workers=1)
    for name in NAMES:
        assert math.isclose(courses[name].result.best_score, whole[name].result.best_score, rel_tol=SAME)
        assert courses[name].result.best_step == whole[name].result.best_step


@pytest.mark.parametrize(
    ("base", "changes", "said"),
    [
        ("chronos-t5", {}, "chronos-t5"),
        ("chronos-bolt", {"method": "full"}, "full"),
        ("chronos-bolt", {"method": "fourierft", "entries": "gradient"}, "entries gradient"),
    ],
)
def test_what_cannot_be_trained_in_one_pass_is_refused(
    base: str, changes: dict[str, str], said: str, config: Make
) -> None:
    asked = config(**changes)
    with pytest.raises(ConfigError, match=said) as caught:
        check_together(FAMILIES[base], find_method(asked.method), asked.options)
    assert "--where" in str(caught.value.hint)
