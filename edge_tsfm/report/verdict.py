"""One verdict on a run, in words: the gate's result, the result on other patients, and which of the two decides.

Every page that shows a run takes its sentences from here, so that no two can contradict each other. The gate, on
validation patients, decides whether a run is accepted; an evaluation is reported beside it and accepts nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from edge_tsfm.evaluation.report import Difference, Estimate

Decision = Literal["accepted", "accepted by hand", "refused", "not judged"]
SAYS = {
    "lower": "beats its frozen base",
    "higher": "is WORSE than its frozen base",
    "not distinguishable": "DOES NOT BEAT its frozen base beyond chance",
}
DECIDES = "The gate decides whether a run is accepted; an evaluation is reported beside it."


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What an evaluation found: the adapter's WQL minus its frozen base's on ``who`` ("162 test patients")."""

    who: str
    wql: Difference
    device: Difference | None = None  # torch's WQL minus the device runtime's, where that was scored too

    @classmethod
    def from_dict(cls, evaluation: Mapping[str, Any]) -> Self | None:
        """Read what `Report.to_dict` and ``evaluate --json`` wrote; None where it compares nothing with a base.

        A file may hold anything: what is not of its kind counts as missing.
        """
        wql = _difference(evaluation.get("adapter_minus_base"))
        if wql is None:
            return None
        data, run = _object(evaluation.get("data")), _object(evaluation.get("run"))
        other = data.get("fingerprint") != run.get("training_data")
        who = scored_on(
            _count(evaluation.get("patients")),
            str(_object(evaluation.get("bootstrap")).get("unit", "patient")),
            part=str(data.get("split", "")),
            trained=_count(data.get("trained_items")),
            source=str(data.get("source", "")) if other else "",
        )
        return cls(who=who, wql=wql, device=_difference(evaluation.get("adapter_minus_device")))

    @property
    def sentence(self) -> str:
        """Describe what was found."""
        return f"On {self.who} it {SAYS[self.wql.says]}: WQL {say_relative(self.wql.relative)}."

    @property
    def device_sentence(self) -> str:
        """Describe how far the device's forecasts are from those; empty where none were scored."""
        if self.device is None:
            return ""
        return f"These are torch's forecasts: WQL {say_relative(self.device.relative)} against the device's own."


@dataclass(frozen=True, kw_only=True)
class RunVerdict:
    """The verdict on one run. ``gate`` is the run record's, None: no gate judges this; ``seen`` an evaluation's."""

    gate: Mapping[str, Any] | None
    seen: Seen | None = None

    @property
    def decision(self) -> Decision:
        """Whether the run is accepted, and by whom."""
        if self.gate is None:
            return "not judged"
        if self.gate["accepted"]:
            return "accepted"
        return "accepted by hand" if self.gate.get("forced") else "refused"

    @property
    def label(self) -> str:
        """Name the decision in a few words, for a picture's title."""
        return {
            "accepted": "accepted by the gate",
            "accepted by hand": "refused by the gate, accepted by hand",
            "refused": "refused by the gate",
            "not judged": "judged by no gate",
        }[self.decision]

    @property
    def headline(self) -> str:
        """Format the decision and its reason in one sentence: what a page may print in bold."""
        if self.gate is None:
            return "No gate has judged this."
        refused = f"the gate refused this run on validation data: {self.gate['reason']}."
        return {
            "accepted": f"Accepted by the gate on validation data: {self.gate['reason']}.",
            "accepted by hand": f"ACCEPTED BY HAND (--force) although {refused}",
            "refused": f"NOT ACCEPTED: {refused}",
        }[self.decision]

    @property
    def beside(self) -> tuple[str, ...]:
        """Describe what is reported beside the decision, and which decides."""
        if self.seen is None:
            return () if self.gate is None else ("No evaluation is shown here; edge-tsfm evaluate RUN makes one.",)
        said = [self.seen.sentence, self.seen.device_sentence, DECIDES if self.gate is not None else ""]
        return tuple(line for line in said if line)

    @property
    def text(self) -> str:
        """Return all of it, a sentence a line."""
        return "\n".join((self.headline, *self.beside))

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values: the decision, who took it, both facts, and the sentences."""
        seen = self.seen
        return {
            "decision": self.decision,
            "accepted": None if self.gate is None else self.decision != "refused",
            "decided_by": {"not judged": None, "accepted by hand": "a person"}.get(self.decision, "gate"),
            "gate": None if self.gate is None else {key: self.gate[key] for key in ("accepted", "reason")},
            "evaluation": None
            if seen is None
            else {"on": seen.who, "wql": seen.wql.says, "relative": seen.wql.relative.to_dict()},
            "text": self.text,
        }


def scored_on(count: int, unit: str, *, part: str, trained: int = 0, source: str = "") -> str:
    """Name who was scored: ``162 test patients``, ``80 patients of other.csv``.

    ``part`` is the split's name, ``trained`` on how many of them the run was trained, ``source`` the data, given where
    they are not what it was trained on.
    """
    kinds = {"test": "test ", "validation": "validation ", "train": "training "}
    said = f"{count:,} {kinds.get(part, '')}{unit}s"
    said += f" of {source}" if source else ""
    return said + (f", {trained:,} of whom it was trained on," if trained else "")


def say_relative(one: Estimate) -> str:
    """Write a relative difference with its interval: ``-6.10 % (-7.93 to -4.32)``."""
    if math.isnan(one.value):
        return "undefined"
    if math.isnan(one.low):
        return f"{100 * one.value:+.2f} % (no interval)"
    return f"{100 * one.value:+.2f} % ({100 * one.low:+.2f} to {100 * one.high:+.2f})"


def say_seeds(accepted: int | None, seeds: int) -> str:
    """Return how many seeds of one method the gate accepted: ``3 of 3``, ``REFUSED (0 of 3)``, ``no gate (3)``."""
    if accepted is None:
        return f"no gate ({seeds})" if seeds else "–"
    return f"{accepted} of {seeds}" if accepted else f"REFUSED ({accepted} of {seeds})"


@dataclass(frozen=True, kw_only=True)
class Tallied:
    """One method of a study: how many of its ``seeds`` the gate accepted, and its WQL on the test patients."""

    label: str
    seeds: int
    accepted: int
    beats: bool  # WQL below the frozen base's on the test patients, with the whole interval

    @property
    def passed(self) -> bool:
        """Whether the gate accepted every seed."""
        return self.accepted == self.seeds


def tally(methods: Sequence[Tallied], unit: str) -> str:
    """Say of a study's methods how many the gate accepts, how many beat the base on test patients, and who differs."""
    if not methods:
        return "No method that a gate judges is in this table."
    passed = [one for one in methods if one.passed]
    better = [one for one in methods if one.beats]
    text = f"The gate accepts {len(passed)} of {len(methods)} methods with every seed (validation data; it decides)."
    also = "" if not better or len(passed) < len(methods) else ", all of them accepted"
    text += f" On the test {unit}s {len(better)} of {len(methods)} beat the frozen base in WQL beyond chance{also}"
    against = [f"{one.label} ({one.accepted} of {one.seeds} seeds accepted)" for one in better if not one.passed]
    text += f", of these NOT accepted: {', '.join(against)}." if against else "."
    fallen = [one.label for one in passed if not one.beats]
    return text + (f" Accepted, and not better there: {', '.join(fallen)}." if fallen else "")


def _difference(value: Any) -> Difference | None:
    """Read the WQL of an evaluation's differences; None where there is none."""
    wql = _object(_object(value).get("wql"))
    if not isinstance(wql.get("relative"), Mapping):
        return None
    return Difference(absolute=_estimate(wql), relative=_estimate(wql["relative"]))


def _estimate(value: Mapping[str, Any]) -> Estimate:
    """Read what `Estimate.to_dict` wrote, or a part of it; what is missing is undefined."""
    return Estimate(**{key: _number(value.get(key)) for key in ("value", "low", "high")})


def _object(value: Any) -> Mapping[str, Any]:
    """Return a JSON object; an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float:
    """Return a number; NaN for anything else."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _count(value: Any) -> int:
    """Return a count; 0 for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
