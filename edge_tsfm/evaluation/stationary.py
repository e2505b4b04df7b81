"""Simulated wards under the device's own test: how often it promotes where nothing is to be gained, and where all is.

The arithmetic is `device_runtime.adapt.bets`, for many wards at once; a test holds both to the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from device_runtime.adapt.bets import CLIP, LATEST, LEAST_CLIP, LONGEST, REST, SHARES, STARTS, WEIGHTS, WIDTH
from device_runtime.adapt.rules import AdaptRules
from device_runtime.quality.evidence import BETS
from edge_tsfm.evaluation.adaptation import Simulated, Stationary

# Of judged stays: stays seen before, (candidate - frozen) / (candidate + frozen).
Measured = Sequence[tuple[int, float]]
FloatArray = NDArray[np.float64]
NEAR = 50  # measured stays of the nearest ages, or all of these ages if they have more, of which one is drawn


def false_promotions(rules: AdaptRules, measured: Measured, *, wards: int, stays: int, seed: int) -> Stationary:
    """Simulate wards whose differences are drawn from those measured and get their signs by a coin: no mean gain.

    The shape, with its tails, is the ward's. A ward counts once it has promoted, at whatever stay.
    """
    rng = np.random.default_rng(seed)
    pool = np.array([one for _, one in measured] or [0.01])
    first = promotions(
        rules, lambda _: rng.choice(pool, wards) * rng.choice([-1.0, 1.0], wards), wards=wards, stays=stays
    )
    return Stationary(
        wards=wards,
        stays=stays,
        promoted=int((first > 0).sum()),
        between=wilson(int((first > 0).sum()), wards),
        spread=float(pool.std()),
        limit=1 / rules.promote_evidence,
    )


def resampled(rules: AdaptRules, measured: Measured, *, wards: int, stays: int, seed: int) -> Simulated:
    """Simulate wards whose differences are drawn as they were measured at about that age, gain or loss included.

    It tells how soon such a ward promotes, or how rarely one that has nothing to gain. Stays of one ward are drawn
    apart from one another, so what one ward's candidate has in common from stay to stay is missing.
    """
    rng = np.random.default_rng(seed)
    ages, values = (np.array(part) for part in zip(*sorted(measured), strict=True)) if measured else np.zeros((2, 1))

    def draw(stay: int) -> FloatArray:
        middle = int(np.searchsorted(ages, stay))
        begin = max(0, min(middle - NEAR // 2, len(values) - NEAR))
        youngest, oldest = ages[begin : begin + NEAR][[0, -1]]
        # Whole ages: stays of one age are in the order of their differences, so a part of them would be the best of it.
        near = values[np.searchsorted(ages, youngest) : np.searchsorted(ages, oldest, side="right")]
        return rng.choice(near, wards)

    first = promotions(rules, draw, wards=wards, stays=stays)
    promoted = first[first > 0]
    return Simulated(
        wards=wards,
        stays=stays,
        promoted=len(promoted),
        between=wilson(len(promoted), wards),
        median=float(np.median(promoted)) if len(promoted) else None,
    )


def promotions(rules: AdaptRules, draw: Callable[[int], FloatArray], *, wards: int, stays: int) -> NDArray[np.int64]:
    """Return after how many stays each ward promotes for the first time; 0: never.

    ``draw`` gives the differences of stay number 0, 1, … of all wards, ``[wards]``; negative: the candidate is better.
    """
    first = np.zeros(wards, dtype=np.int64)
    sums = np.zeros((len(BETS), wards))  # logarithm of each bet's capital
    begun: list[FloatArray] = []  # the same when each part began
    clip, gained = np.full(wards, CLIP), np.zeros(wards)
    for stay in range(stays):
        difference = draw(stay)
        if stay in STARTS:
            begun.append(sums.copy())
        x = np.clip(-difference, -clip, clip) / clip
        sums += np.log1p(np.array(BETS)[:, None] * x)
        size = np.minimum(np.abs(difference), LONGEST * clip)
        clip = np.clip(clip + (WIDTH * size - clip) / min(stay + 1, LATEST), LEAST_CLIP, CLIP)
        gained -= difference
        if stay + 1 >= rules.promote_stays:
            promoted = (first == 0) & (gained > 0) & (_capital(sums, begun) >= math.log(rules.promote_evidence))
            first[promoted] = stay + 1
    return first


def _capital(sums: FloatArray, begun: Sequence[FloatArray]) -> FloatArray:
    """Return the logarithm of each ward's capital ``[wards]``; parts that have not begun still hold their share."""
    idle = REST + sum(SHARES[len(begun) :])
    weights = np.log(np.array(WEIGHTS))[:, None]
    logs = [np.log(share) + weights + sums - then for share, then in zip(SHARES, begun, strict=False)]
    capital: FloatArray = np.logaddexp(np.logaddexp.reduce(np.concatenate(logs)), math.log(idle))
    return capital


def wilson(hits: int, of: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share."""
    z, share = NormalDist().inv_cdf(0.975), hits / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return max(0.0, middle - half), min(1.0, middle + half)
