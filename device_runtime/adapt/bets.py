"""Decide whether a candidate is promoted, and whether it stays promoted: an e-process over finished stays.

Each stay gives the losses of the frozen model, the running one and the candidate, all for forecasts made before
anything was learnt from that stay. `device_runtime.quality.evidence` bets on the bounded paired differences, so that
the test may be checked after every stay: if the candidate is never better, the probability that it is ever promoted is
at most 1 / ``promote_evidence``.

The clipping bound of a stay's difference follows the candidate: an early candidate is close to the running model, and
bets on differences of a tenth of their bound cannot grow. So the bound is tracked such that about one stay in seven
exceeds it (`Bound`). It is fixed before a stay is scored, which is all that a fair bet needs. Clipping hides rare gross
losses, so a candidate is promoted only if its summed, unclipped loss is also the smaller one.

An early candidate is poor, and what was lost on it would have to be won back. So the stake is divided into parts that
start to bet later and later (a mixture of e-processes is an e-process): half at once, a quarter after 25 stays, an
eighth after 50, and so on.
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
LEAST_CLIP = 0.01  # lower limit for a candidate, however little it differs
WIDER, NARROWER = 1.9, 0.9  # factors on the bound after a stay beyond it, and after any other: one in seven exceeds it
STARTS = (0, 25, 50, 100, 200, 400, 800)  # number of stays after which each part of the stake begins to bet


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
        shares = [-(place + 1) * math.log(2) for place in range(len(STARTS))]
        logs = [share + part.log for share, part in zip(shares, self.parts, strict=True)]
        logs.append(shares[-1])  # the last part never bets
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
    """The clipping bound of a candidate's differences: wider after a stay that exceeds it, narrower after any other."""

    clip: float = CLIP

    def follow(self, difference: float) -> None:
        """Update the bound with one stay's unclipped relative difference."""
        moved = self.clip * (WIDER if abs(difference) > self.clip else NARROWER)
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
            "clip": self.bound.clip,
            "gained": self.gained,
            "demotions": self.demotions,
        }

    def restore(self, value: Any) -> None:
        """Restore what `to_value` wrote. Raises what `evidence_of` does; then nothing is changed."""
        demotions, clip, gained = value["demotions"], value["clip"], value["gained"]
        if type(demotions) is not int or demotions < 0:
            raise FormatError(f"evidence: {demotions!r} demotions")
        if type(clip) is not float or not LEAST_CLIP <= clip <= CLIP or type(gained) is not float:
            raise FormatError(f"evidence: clip {clip!r}, gained {gained!r}: want numbers, and {LEAST_CLIP} to {CLIP}")
        better, worse = evidence_of(value["better"]), evidence_of(value["worse"])
        self.better, self.worse, self.demotions = better, worse, demotions
        self.bound, self.gained = Bound(clip), gained
