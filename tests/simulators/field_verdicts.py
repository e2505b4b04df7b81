"""How often trials, roll-outs and the drift flag are wrong, and how soon they are right.

``python -m tests.simulators.field_verdicts`` prints the tables of docs/reference/field-quality.md.
Units of paired losses are drawn like those of hospital A's MAP, blocks of two horizons (6 h) with an adapter of 2,400
numbers: the logarithm of the ratio of losses has a standard deviation of 0.078 and heavy tails (Student's t, 5 degrees
of freedom), losses a coefficient of variation of 0.57, and no stay-level effect shows; ``--stay-effect`` adds one. The
verdicts are the device's and the controller's own code, looked at after every unit.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import TypeVar

import numpy as np

from device_runtime.quality.evidence import Drift, Trial, Verdict, difference
from edge_tsfm.deploy.controller import Action, Stage, decide
from edge_tsfm.deploy.field_figures import figure_over

SPREAD = 0.078  # of the logarithm of a unit's ratio
LOSS_SPREAD = math.sqrt(math.log(1 + 0.57**2))
STEPS = 12  # scored steps beside the base in a unit: two forecasts of 6 steps
STAY = 3  # units
WORSE = (0.0, 1.0, 2.0, 3.0, 5.0, 10.0)  # percent
STAGES = ((0.0, 20, False), (2.0, 5, False), (2.0, 20, False), (2.0, 5, True))  # limit, monitors, trials judged too
CHANGE = 200  # unit at which losses change, of a drift
Pair = tuple[float, float]
T = TypeVar("T")


def units(percent: float, rng: np.random.Generator, count: int, stay_effect: float) -> list[Pair]:
    """Draw ``count`` units of an adapter whose losses are ``percent`` higher than the base's."""
    noise = rng.standard_t(5, count) / math.sqrt(5 / 3)  # of variance 1
    stays = np.repeat(rng.normal(size=-(-count // STAY)), STAY)[:count]
    # Half of it on each side, or "equal" would be a worse mean of losses.
    half = np.exp((SPREAD * noise + stay_effect * stays) / 2)
    both = np.exp(LOSS_SPREAD * rng.normal(size=count))
    return list(zip((both * half * (1 + percent / 100)).tolist(), (both / half).tolist(), strict=True))


def trial(percent: float, limit: float, rng: np.random.Generator, most: int, stay_effect: float) -> tuple[Verdict, int]:
    """Run one monitor's trial; return its verdict and the scored steps that it took."""
    judged = Trial.at(1 + limit / 100)
    total = [0.0, 0.0]
    for number, (own, other) in enumerate(units(percent, rng, most, stay_effect), start=1):
        judged.add(own, other)
        total = [total[0] + own, total[1] + other]
        over = total[0] / total[1] > judged.ratio
        if judged.verdict is not Verdict.OPEN and over == (judged.verdict is Verdict.WORSE):
            return judged.verdict, number * STEPS
    return Verdict.OPEN, most * STEPS


def rollout(
    percent: float, monitors: int, rng: np.random.Generator, most: int, stay: float, *, judged: bool, limit: float = 2.0
) -> tuple[str, int]:
    """Run one stage on some monitors, looked at after every unit of each.

    Where ``judged``, each judges its own trial, else it confirms at once. Returns what the controller did, and
    after how many scored steps over all monitors.
    """
    stage = Stage(permille=1000, min_reports=monitors, soak_hours=0.0, max_wql_vs_base_percent=limit)
    feeds = [units(percent, rng, most, stay) for _ in range(monitors)]
    trials = [Trial.at(1 + limit / 100) for _ in range(monitors)]
    sums = [[0.0] * 7 for _ in range(monitors)]
    for number in range(most):
        failed = 0
        for monitor in range(monitors):
            own, other = feeds[monitor][number]
            if judged and trials[monitor].verdict is Verdict.OPEN:
                trials[monitor].add(own, other)
            new = (STEPS, 1, own, other, own * own, own * other, other * other)
            sums[monitor] = [a + b for a, b in zip(sums[monitor], new, strict=True)]
            failed += trials[monitor].verdict is Verdict.WORSE
        confirmed = sum(one.verdict is Verdict.BETTER for one in trials) if judged else monitors
        figure = figure_over([tuple(one) for one in sums])
        field = {} if figure is None else {"base": figure}
        decision = decide((stage,), 0, confirmed=confirmed, failed=failed, seconds=0.0, field=field)
        if decision.action in (Action.STOP, Action.FINISH):
            return decision.figure or decision.action.value, (number + 1) * STEPS * monitors
    return "open", most * STEPS * monitors


def drift(before: float, after: float, change: int, rng: np.random.Generator, most: int, stay: float) -> int:
    """Return the unit at which the drift flag rises, where losses change at a unit; ``most`` where it does not."""
    detector = Drift.none()
    feed = units(before, rng, change, stay) + units(after, rng, most - change, stay)
    for number, (own, other) in enumerate(feed):
        detector.add(difference(own, other))
        if detector.flagged:
            return number
    return most


def each(repeats: int, seed: int, draw: Callable[[np.random.Generator], T]) -> list[T]:
    """Repeat a run, each with a generator of its own."""
    return [draw(np.random.default_rng((seed, number))) for number in range(repeats)]


def trials(repeats: int, stay: float, seed: int) -> Iterator[str]:
    """Give the table of one monitor's trial."""
    yield "| Limit | Worse by | Taken back | Passed | Scored steps to the verdict: median, 90 % |"
    yield "|---|---|---|---|---|"
    for limit, percent in product((0.0, 2.0), WORSE):
        found = each(repeats, seed, partial(_trial, percent, limit, stay))
        taken, passed = _share(found, Verdict.WORSE), _share(found, Verdict.BETTER)
        yield f"| {limit:g} % | {percent:g} % | {taken} | {passed} | {_steps(found)} |"


def rollouts(repeats: int, stay: float, seed: int) -> Iterator[str]:
    """Give the table of a stage's roll-out: at most 3,600 scored steps of each of 5 monitors, 2,052 of each of 20."""
    yield "| Limit | Monitors | Trials judged too | Worse by | Stopped | Finished | Scored steps of all: median, 90 % |"
    yield "|---|---|---|---|---|---|---|"
    for (limit, monitors, judged), percent in product(STAGES, WORSE):
        most = 6_000 // (monitors + 15)
        found = each(repeats, seed, partial(_rollout, percent, limit, monitors, most, stay, judged))
        stopped = 100 * sum(name not in ("finish", "open") for name, _ in found) / repeats
        said, finished = "yes" if judged else "no", _share(found, "finish")
        yield f"| {limit:g} % | {monitors} | {said} | {percent:g} % | {stopped:.1f} % | {finished} | {_steps(found)} |"


def drifts(repeats: int, stay: float, seed: int) -> Iterator[str]:
    """Give the table of the drift flag, after a change at unit `CHANGE`."""
    yield "| Losses against the base's | Raised before the change | Within 500 units after it | Units: median |"
    yield "|---|---|---|---|"
    for before, after in product((0.0, -3.0), (0.0, 1.0, 3.0, 5.0, 10.0)):
        found = each(repeats, seed, partial(_drift, before, after, stay))
        late = [number - CHANGE for number in found if CHANGE <= number < CHANGE + 500]
        early = 100 * sum(number < CHANGE for number in found) / repeats
        median = f"{np.median(late):.0f}" if 2 * len(late) > repeats else "–"
        yield f"| {before:+g} % to {after:+g} % | {early:.1f} % | {100 * len(late) / repeats:.1f} % | {median} |"


def _trial(percent: float, limit: float, stay: float, rng: np.random.Generator) -> tuple[Verdict, int]:
    return trial(percent, limit, rng, 1_500, stay)


def _rollout(
    percent: float, limit: float, monitors: int, most: int, stay: float, judged: bool, rng: np.random.Generator
) -> tuple[str, int]:
    return rollout(percent, monitors, rng, most, stay, judged=judged, limit=limit)


def _drift(before: float, after: float, stay: float, rng: np.random.Generator) -> int:
    return drift(before, after, CHANGE, rng, CHANGE + 500, stay)


def _share(found: Sequence[tuple[str, int]], what: str) -> str:
    return f"{100 * sum(one == what for one, _ in found) / len(found):.1f} %"


def _steps(found: Sequence[tuple[str, int]]) -> str:
    done = [steps for what, steps in found if what not in (Verdict.OPEN, "open")]
    return f"{np.median(done):,.0f}, {np.quantile(done, 0.9):,.0f}" if len(done) * 2 > len(found) else "–"


TABLES = {"trials": trials, "rollouts": rollouts, "drifts": drifts}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1_000)
    parser.add_argument("--stay-effect", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("tables", nargs="*", default=list(TABLES))
    options = parser.parse_args()
    for name in options.tables:
        for row in TABLES[name](options.repeats, options.stay_effect, options.seed):
            print(row, flush=True)  # noqa: T201
        print(flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
