"""How often trials, roll-outs and the drift flag are wrong, and how soon right: ``python -m tests.simulators.field_verdicts``.

Units of paired losses are drawn like those of hospital A's MAP, blocks of two horizons (6 h) with an adapter of 2,400
numbers: the logarithm of the ratio of losses has a standard deviation of 0.078 and heavy tails (Student's t, 5 degrees
of freedom), losses a coefficient of variation of 0.57, and no stay-level effect shows; ``--stay-effect`` adds one. The
verdicts are the device's and the controller's own code, looked at after every unit.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from itertools import product

import numpy as np

from device_runtime.quality.evidence import Drift, Trial, Verdict, difference
from edge_tsfm.deploy.controller import Action, Stage, decide
from edge_tsfm.deploy.field_figures import figure_over

SPREAD = 0.078  # of the logarithm of a unit's ratio
LOSS_SPREAD = math.sqrt(math.log(1 + 0.57**2))
STEPS = 12  # scored steps beside the base in a unit: two forecasts of 6 steps
STAY = 3  # units
WORSE = (0.0, 1.0, 3.0, 5.0, 10.0)  # percent
Pair = tuple[float, float]


def units(percent: float, rng: np.random.Generator, count: int, stay_effect: float) -> list[Pair]:
    """Draw ``count`` units of an adapter whose losses are ``percent`` higher than the base's in the mean of logarithms."""
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
    """Run one stage on some monitors, looked at after every unit of each; where ``judged``, each judges its own trial.

    Otherwise they confirm at once. Returns what the controller did, why, and after how many scored steps over all monitors.
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


def rows(repeats: int, stay: float, seed: int) -> Iterator[str]:
    """Give the tables' rows."""

    def each(draw: Callable[[np.random.Generator], object]) -> list[object]:
        return [draw(np.random.default_rng((seed, number))) for number in range(repeats)]

    yield "| Trial: limit | worse by | taken back | passed | scored steps to the verdict, median, 90 % |"
    yield "|---|---|---|---|---|"
    for limit in (0.0, 2.0):
        for percent in WORSE:
            found = each(lambda rng, p=percent, l=limit: trial(p, l, rng, 1_500, stay))
            yield f"| {limit:g} % | {percent:g} % | {_share(found, Verdict.WORSE)} | {_share(found, Verdict.BETTER)} | {_steps(found)} |"
    yield ""
    yield "| Roll-out: monitors | trials judged | worse by | stopped | by the figure over monitors | finished | scored steps, median, 90 % |"
    yield "|---|---|---|---|---|---|---|"
    for monitors, judged, percent in product((5, 20), (False, True), WORSE):
        most = 3_000 // monitors
        found = each(lambda rng, p=percent, m=monitors, j=judged, n=most: rollout(p, m, rng, n, stay, judged=j))
        stopped = sum(name not in ("finish", "open") for name, _ in found)
        by = sum(name == "max_wql_vs_base_percent" for name, _ in found)
        yield (
            f"| {monitors} | {'yes' if judged else 'no'} | {percent:g} % | {100 * stopped / repeats:.1f} % | "
            f"{100 * by / repeats:.1f} % | {_share(found, 'finish')} | {_steps(found)} |"
        )
    yield ""
    yield "| Drift flag: change | raised within 500 units | units until it is raised, median |"
    yield "|---|---|---|"
    for before, after in ((0.0, 0.0), (-3.0, 0.0), (-3.0, 1.0), (-3.0, 3.0), (-3.0, 5.0), (-3.0, 10.0)):
        change = 200
        found = each(lambda rng, b=before, a=after: drift(b, a, change, rng, change + 500, stay))
        late = [number - change for number in found if change <= number < change + 500]
        median = f"{np.median(late):.0f}" if late else "–"
        yield f"| {before:+g} % to {after:+g} % | {100 * len(late) / repeats:.1f} % | {median} |"


def _share(found: list[object], what: object) -> str:
    return f"{100 * sum(one[0] == what for one in found) / len(found):.1f} %"


def _steps(found: list[object]) -> str:
    done = [steps for what, steps in found if what not in (Verdict.OPEN, "open")]
    return f"{np.median(done):,.0f}, {np.quantile(done, 0.9):,.0f}" if len(done) * 2 > len(found) else "–"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1_000)
    parser.add_argument("--stay-effect", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for row in rows(options.repeats, options.stay_effect, options.seed):
        print(row, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
