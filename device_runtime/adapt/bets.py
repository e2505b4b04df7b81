"""Decide whether a candidate is promoted, and whether it stays promoted: an e-process over finished stays.

Each stay gives the losses of the frozen model, the running one and the candidate, all for forecasts made before
anything was learnt from that stay. `device_runtime.quality.evidence` bets on the bounded paired differences, so that
the test may be checked after every stay: if the candidate is never better, the probability that it is ever promoted is
at most 1 / ``promote_evidence``.

The clipping bound of a stay's difference follows the candidate: an early candidate is close to the running model, and
bets on differences of a tenth of their bound cannot grow. So the bound is one and a half times the mean size of the
last differences (`Bound`). It is fixed before a stay is scored, which is all that a fair bet needs. Clipping hides rare
gross losses, so a candidate is promoted only if its summed, unclipped loss is also the smaller one.

The stake is divided over five bets, most of it on those that pay at gains that were seen, and over parts that begin
later (a mixture of e-processes is an e-process): most of it bets at once, so that a clear gain shows within a few dozen
stays, and the rest later, so that what was lost on a poor early candidate need not be won back.
docs/reference/adaptation.md compares it with other tests.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from device_runtime.adapt.rules import AdaptRules
from device_runtime.errors import FormatError
from device_runtime.quality.evidence import Wealth, difference, log_mean, logs_of

# Upper limit of the clipping bound, as a relative difference of a stay. A promoted model is always compared with frozen
# at this bound: some 2.5 standard deviations of real stays.
CLIP = 0.05
LEAST_CLIP = 0.005  # lower limit for a candidate, however little it differs
WIDTH = 1.5  # the bound in mean absolute differences: of normal ones, one in four exceeds it
LATEST = 12  # stays over which that mean is taken
LONGEST = 2.0  # bounds: a longer difference counts as this in the mean
WEIGHTS = (0.05, 0.15, 0.3, 0.4, 0.1)  # of the five bets' shares of a part; sums to 1
STARTS = (0, 25, 50, 100, 200, 400, 800)  # number of stays after which each part of the stake begins to bet
AT_ONCE = 0.7  # the first part's share; each later one has half of what is left, and the rest never bets
SHARES = (AT_ONCE, *((1 - AT_ONCE) * 0.5**place for place in range(1, len(STARTS))))
REST = (1 - AT_ONCE) * 0.5 ** (len(STARTS) - 1)


class Proposal(StrEnum):
    """What the evidence asks for."""

    NONE = "none"
    PROMOTE = "promote"
    DEMOTE = "demote"


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Summed pinball losses of one stay's forecasts, in the signal's unit."""

    frozen: float
    running: float  # equal to frozen while nothing is promoted
    candidate: float


@dataclass
class Evidence:
    """An e-process for "B loses less than A", with a stake in parts."""

    units: int = 0
    parts: list[Wealth] = field(default_factory=lambda: [Wealth.one() for _ in STARTS])

    def add(self, x: float) -> None:
        """Bet on one stay's difference, in [-1, 1]; positive: B lost less."""
        for part, start in zip(self.parts, STARTS, strict=True):
            if self.units >= start:
                part.add(x)
        self.units += 1

    @property
    def log(self) -> float:
        """Logarithm of the capital, which began at 1."""
        logs = [
            math.log(share * weight) + log
            for share, part in zip(SHARES, self.parts, strict=True)
            for weight, log in zip(WEIGHTS, part.logs, strict=True)
        ]
        logs.append(math.log(REST))
        return log_mean(logs) + math.log(len(logs))

    def to_value(self) -> list[Any]:
        """Encode as plain values."""
        return [self.units, [part.logs for part in self.parts]]


def evidence_of(value: Any) -> Evidence:
    """Decode evidence. Raises `FormatError`, `TypeError` or `ValueError`."""
    units, parts = value
    if type(units) is not int or units < 0 or len(parts) != len(STARTS):
        raise FormatError(f"evidence: {units!r} units in {len(parts)} parts, want {len(STARTS)}")
    return Evidence(units, [Wealth(logs_of(logs)) for logs in parts])


@dataclass
class Bound:
    """The clipping bound of a candidate's differences: in proportion to the mean size of the last ones."""

    clip: float = CLIP
    stays: int = 0

    def follow(self, difference: float) -> None:
        """Update the bound with one stay's unclipped relative difference."""
        self.stays += 1
        size = min(abs(difference), LONGEST * self.clip)
        moved = self.clip + (WIDTH * size - self.clip) / min(self.stays, LATEST)
        self.clip = min(max(moved, LEAST_CLIP), CLIP)


@dataclass
class Bets:
    """Both tests: is the candidate better than the running model, and is the promoted model worse than frozen?"""

    rules: AdaptRules
    better: Evidence = field(default_factory=Evidence)
    worse: Evidence = field(default_factory=Evidence)
    bound: Bound = field(default_factory=Bound)
    gained: float = 0.0  # the running model's summed loss minus the candidate's, in the signal's unit
    demotions: int = 0  # by evidence: each one doubles the evidence that the next promotion needs

    def add(self, losses: Losses, *, promoted: bool) -> Proposal:
        """Take one stay's losses."""
        self.better.add(-difference(losses.candidate, losses.running, clip=self.bound.clip))
        self.bound.follow(difference(losses.candidate, losses.running, clip=1.0))
        self.gained += losses.running - losses.candidate
        if promoted:
            self.worse.add(difference(losses.running, losses.frozen, clip=CLIP))
            if self.worse.log >= math.log(self.rules.demote_evidence):
                return Proposal.DEMOTE
        enough = self.better.units >= self.rules.promote_stays and self.gained > 0
        return Proposal.PROMOTE if enough and self.better.log >= math.log(self.wanted) else Proposal.NONE

    @property
    def wanted(self) -> float:
        """Evidence that a promotion needs."""
        return float(self.rules.promote_evidence * 2.0 ** min(self.demotions, 50))

    def begin(self) -> None:
        """Reset the evidence: for another candidate, or another running model."""
        self.better, self.worse, self.bound, self.gained = Evidence(), Evidence(), Bound(), 0.0

    def to_value(self) -> dict[str, Any]:
        """Encode as plain values."""
        return {
            "better": self.better.to_value(),
            "worse": self.worse.to_value(),
            "bound": [self.bound.clip, self.bound.stays],
            "gained": self.gained,
            "demotions": self.demotions,
        }

    def restore(self, value: Any) -> None:
        """Restore what `to_value` wrote. Raises what `evidence_of` does; then nothing is changed."""
        demotions, gained, (clip, stays) = value["demotions"], value["gained"], value["bound"]
        if any(type(one) is not int or one < 0 for one in (demotions, stays)):
            raise FormatError(f"evidence: {demotions!r} demotions, a bound of {stays!r} stays")
        if type(clip) is not float or not LEAST_CLIP <= clip <= CLIP or type(gained) is not float:
            raise FormatError(f"evidence: clip {clip!r}, gained {gained!r}: want numbers, and {LEAST_CLIP} to {CLIP}")
        better, worse = evidence_of(value["better"]), evidence_of(value["worse"])
        self.better, self.worse, self.demotions = better, worse, demotions
        self.bound, self.gained = Bound(clip, stays), gained
