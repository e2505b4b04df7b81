"""The known answer of a base alone: written at export, asked at every opening, refused where it is off."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_runtime.errors import FormatError, SelfTestError
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.choose_answer import LEVEL
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.format import canonical
from export.adjustable import adjustable
from export.base_answer import DIGITS, SPREAD, give_known_answer
from export.contexts import synthetic_contexts
from export.known_answer import ROUNDOFF, probes

BASES = Path(__file__).resolve().parents[1] / "dummy_bases"


@pytest.fixture
def answered(tmp_path: Path) -> Path:
    """The dummy bundle, with an answer."""
    folder = tmp_path / "bundle"
    shutil.copytree(BASES / "chronos-bolt-bundle", folder)
    give_known_answer(Bundle.open(folder))
    return folder


def change(folder: Path, **fields: Any) -> None:
    path = folder / "bundle.json"
    value = json.loads(path.read_bytes())
    value["known_answer"] = {**value["known_answer"], **fields}
    path.write_bytes(canonical.dumps(value))


def test_a_base_alone_is_proven_when_it_is_opened(answered: Path) -> None:
    forecaster = Forecaster.open(answered)
    off_by = forecaster.self_test()
    answer = forecaster.bundle.manifest.known_answer
    assert answer is not None
    assert off_by is not None
    # What was rounded away when it was written, and what rounding makes of this level on the very machine.
    assert off_by <= 0.5 * 10.0**-DIGITS + LEVEL * max(answer.context)
    # Narrow: a five hundredth of the context's spread. The digits take 0.005, and rounding up to a step 2.5 times that.
    assert answer.tolerance <= SPREAD / 500
    assert give_known_answer(Bundle.open(answered)).digest == forecaster.bundle.digest  # and it is the same every time


def test_a_base_that_answers_otherwise_is_not_used(answered: Path) -> None:
    answer = json.loads((answered / "bundle.json").read_bytes())["known_answer"]
    change(answered, expected=[value + 1.0 for value in answer["expected"]])
    with pytest.raises(SelfTestError, match=r"off by (1|0.99)"):
        Forecaster.open(answered)


def test_a_base_without_an_answer_is_opened_as_before() -> None:
    assert Forecaster.open(BASES / "chronos-bolt-bundle").self_test() is None


@pytest.mark.parametrize(
    "fields",
    [
        {"context": []}, {"expected": []}, {"context": [1.0] * 513}, {"expected": [1.0] * 1025}, {"tolerance": 0},
        {"tolerance": "x"}, {"tolerance": -1.0}, {"context": "x"}, {"expected": [True]}, {"context": [None]},
        {"expected": {"a": 1}},
    ],
)  # fmt: skip
def test_an_answer_of_another_form_is_refused(answered: Path, fields: dict[str, Any]) -> None:
    change(answered, **fields)
    with pytest.raises(FormatError, match=r"bundle\.json"):
        Bundle.open(answered)


def test_an_answer_that_any_base_would_give_is_refused(answered: Path) -> None:
    change(answered, tolerance=1000.0)
    with pytest.raises(SelfTestError, match="want at most"):
        Forecaster.open(answered)


def test_the_export_gives_every_bundle_its_answer(float32_bundle: Bundle) -> None:
    answer = float32_bundle.manifest.known_answer
    assert answer is not None
    assert np.isfinite(answer.expected).all()
    Forecaster.open(float32_bundle.path)


@pytest.mark.parametrize("family", ["chronos-bolt", "chronos-t5", "chronos-2"])
def test_one_session_answers_with_moved_vectors_as_a_session_of_theirs_does(
    family: str, exported: Callable[[str], Any], tmp_path: Path
) -> None:
    """The tolerance is measured in one session: it must hear what a draw moves, and forget the draw before."""
    _, bundle = exported(family)
    table = bundle.manifest.tensors
    draw = np.random.default_rng(0)
    vectors = {n: bundle.tensor(n) for n, entry in enumerate(table) if len(entry.shape) == 1}
    draws = [{n: (t * draw.uniform(0.9, 1.1, t.shape)).astype(np.float32) for n, t in vectors.items()} for _ in "ab"]
    context = synthetic_contexts(1, 16, level=80.0, spread=SPREAD, seed=3)
    with adjustable(bundle, [table[n].name for n in vectors], tmp_path) as one:
        got = [one.merged({table[n].name: t for n, t in moved.items()}).probe(context[0], 8) for moved in draws]
        still = one.merged({}).probe(context[0], 8)
    wanted = [probes(bundle, moved, context)[0, :8] for moved in draws]
    rounding = 64 * ROUNDOFF * np.abs(context).max()
    assert np.abs(still - probes(bundle, {}, context)[0, :8]).max() <= rounding
    for mine, its in zip(got, wanted, strict=True):
        assert np.abs(mine - its).max() <= rounding
        assert np.abs(mine - still).max() > 100 * rounding
