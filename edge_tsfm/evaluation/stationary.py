"""Simulated wards without any possible gain: how often the device's own test promotes all the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from device_runtime.adapt.bets import Bets, Losses, Proposal
from device_runtime.adapt.rules import AdaptRules
from edge_tsfm.evaluation.adaptation import Stationary


def false_promotions(
    rules: AdaptRules, differences: Sequence[float], *, wards: int, stays: int, seed: int
) -> Stationary:
    """Simulate wards whose paired differences are drawn from those measured, made symmetric: the mean is exactly 0.

    ``differences`` are `(candidate - frozen) / (candidate + frozen)` of judged stays. Each drawn one gets its sign by a
    coin: the shape, with its tails, is the ward's, and nothing is to be gained. The device's own judge decides after
    every stay.
    """
    rng = np.random.default_rng(seed)
    pool = np.asarray(differences if len(differences) else [0.01])
    promoted = 0
    for _ in range(wards):
        bets = Bets(rules)
        drawn = rng.choice(pool, stays) * rng.choice([-1.0, 1.0], stays)
        for one in drawn:
            losses = Losses(frozen=1.0 - one, running=1.0 - one, candidate=1.0 + one)
            if bets.add(losses, promoted=False) is Proposal.PROMOTE:
                promoted += 1
                break
    return Stationary(
        wards=wards, stays=stays, promoted=promoted, spread=float(pool.std()), limit=1 / rules.promote_evidence
    )
