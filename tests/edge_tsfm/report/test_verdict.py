"""One verdict on a run, whatever the gate and the test patients say; and on no page does one hide the other."""

from __future__ import annotations

import re
from typing import Any

import pytest

from edge_tsfm.evaluation.report import Difference, Estimate
from edge_tsfm.report.evaluation import report_page
from edge_tsfm.report.scale import Scale
from edge_tsfm.report.text import conclusion
from edge_tsfm.report.verdict import DECIDES, RunVerdict, Seen, Tallied, scored_on, tally
from tests.support.forecasts import LEVELS, mean_forecast, ward

ACCEPTED = {"accepted": True, "forced": False, "reason": "WQL 6.3 % lower than the frozen base's on 150 patients"}
REFUSED = {"accepted": False, "forced": False, "reason": "WQL 0.2 % lower, and the interval does not exclude zero"}
FORCED = {**REFUSED, "forced": True}
GATES: dict[str, Any] = {"accepted": ACCEPTED, "refused": REFUSED, "accepted by hand": FORCED, "not judged": None}
CHANGES = {"better": (-0.06, -0.08, -0.04), "worse": (0.05, 0.03, 0.07), "straddling": (-0.01, -0.03, 0.01)}
WORDS = {
    "better": "beats its frozen base",
    "worse": "is WORSE than its frozen base",
    "straddling": "DOES NOT BEAT its frozen base beyond chance",
}


def difference(change: str) -> Difference:
    value, low, high = CHANGES[change]
    one = Estimate(value=value, low=low, high=high)
    return Difference(absolute=one, relative=one)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("change", CHANGES)
def test_both_facts_and_which_decides(gate: str, change: str) -> None:
    verdict = RunVerdict(gate=GATES[gate], seen=Seen(who="162 test patients", wql=difference(change)))
    assert verdict.decision == gate
    assert f"On 162 test patients it {WORDS[change]}: WQL" in verdict.text
    told = verdict.to_dict()
    assert told["text"] == verdict.text
    assert told["accepted"] == {"accepted": True, "refused": False, "accepted by hand": True, "not judged": None}[gate]
    if GATES[gate] is None:
        assert verdict.headline == "No gate has judged this."
        assert DECIDES not in verdict.text
        return
    assert DECIDES in verdict.text
    assert GATES[gate]["reason"] in verdict.headline
    assert ("the gate refused this run" in verdict.headline) == (not GATES[gate]["accepted"])
    assert ("--force" in verdict.headline) == (gate == "accepted by hand")


def test_a_run_that_nobody_evaluated_says_so() -> None:
    assert "edge-tsfm evaluate RUN" in RunVerdict(gate=REFUSED).text
    assert RunVerdict(gate=REFUSED).to_dict()["evaluation"] is None


def test_who_was_scored_is_named() -> None:
    assert scored_on(162, "patient", part="test") == "162 test patients"
    assert scored_on(1_200, "patient", part="all", source="other.csv") == "1,200 patients of other.csv"
    assert scored_on(9, "block", part="validation") == "9 validation blocks"
    text = RunVerdict(
        gate=ACCEPTED, seen=Seen(who=scored_on(40, "patient", part="train", trained=40), wql=difference("better"))
    ).text
    assert "On 40 training patients, 40 of whom it was trained on, it beats" in text


def test_it_is_read_from_what_evaluate_wrote_another_dataset_and_a_bundle_too() -> None:
    wql = {"value": -0.004, "low": -0.006, "high": -0.002, "relative": {"value": -0.06, "low": -0.08, "high": -0.04}}
    near = {"value": 1e-5, "low": -1e-5, "high": 3e-5, "relative": {"value": 2e-4, "low": -1e-4, "high": 5e-4}}
    record = {
        "run": {"training_data": "aa"}, "patients": 80, "bootstrap": {"unit": "patient"},
        "data": {"fingerprint": "bb", "source": "other.csv", "split": "all", "trained_items": 0},
        "adapter_minus_base": {"wql": wql}, "adapter_minus_device": {"wql": near},
    }  # fmt: skip
    seen = Seen.from_dict(record)
    assert seen is not None
    text = RunVerdict(gate=REFUSED, seen=seen).text
    assert "On 80 patients of other.csv it beats its frozen base: WQL -6.00 % (-8.00 to -4.00)." in text
    assert "These are torch's forecasts: WQL +0.02 % (-0.01 to +0.05) against the device's own." in text
    own = Seen.from_dict({**record, "data": {**record["data"], "fingerprint": "aa", "split": "test"}})  # type: ignore[dict-item]
    assert own is not None
    assert own.who == "80 test patients"
    assert Seen.from_dict({"models": {}}) is None
    one = Seen.from_dict(
        {
            "adapter_minus_base": {
                "wql": {"value": -1, "low": None, "high": None, "relative": {"value": -0.1, "low": None, "high": None}}
            }
        }
    )
    assert one is not None
    assert "(no interval)" in one.sentence
    assert "beyond chance" in one.sentence


@pytest.mark.parametrize("odd", [None, 5, "x", [], {}, True])
@pytest.mark.parametrize("key", ["run", "data", "bootstrap", "patients", "adapter_minus_base", "adapter_minus_device"])
def test_a_file_that_holds_something_else_is_read_as_missing(key: str, odd: object) -> None:
    wql = {"value": "x", "low": None, "high": odd, "relative": {"value": -0.06, "low": [], "high": -0.04}}
    seen = Seen.from_dict({"patients": 80, "adapter_minus_base": {"wql": wql}, key: odd})
    assert seen is None or "WQL" in seen.sentence


def bold(page: str) -> list[str]:
    return re.findall(r"<strong>(.*?)</strong>", page)


@pytest.mark.parametrize("gate", GATES)
def test_no_page_prints_in_bold_what_the_gate_did_not_say(gate: str) -> None:
    windows = ward()
    from edge_tsfm.evaluation import evaluate_forecasts

    forecasts = {"adapter": mean_forecast(windows), "base": mean_forecast(windows, off=4)}
    report = evaluate_forecasts(forecasts, windows, LEVELS, resamples=100)
    assert report.beats()
    seen = Seen(who="40 test patients", wql=report.overall.adapter_minus["base"]["wql"])
    verdict = RunVerdict(gate=GATES[gate], seen=seen)
    page = report_page(report, title="MAP", scale=Scale(signal="MAP"), verdict=verdict)
    assert len(bold(page)) == 1
    assert "beats" not in bold(page)[0]
    assert page.count("beats its frozen base") == 1
    block = next(line for line in page.splitlines() if "beats its frozen base" in line)
    assert bold(page)[0] in block  # in the same place
    text = conclusion(report, verdict)
    assert text.splitlines()[0] == verdict.headline


def test_a_study_counts_what_the_gate_accepts_and_says_who_differs() -> None:
    made = [
        Tallied(label="fourierft", seeds=3, accepted=0, beats=True),
        Tallied(label="lora", seeds=3, accepted=3, beats=True),
        Tallied(label="bitfit", seeds=3, accepted=3, beats=False),
    ]
    text = tally(made, "patient")
    assert text.startswith("The gate accepts 2 of 3 methods with every seed")
    assert "On the test patients 2 of 3 beat the frozen base in WQL beyond chance" in text
    assert "of these NOT accepted: fourierft (0 of 3 seeds accepted)." in text
    assert text.endswith("Accepted, and not better there: bitfit.")
    assert "0 of 3 methods" in tally([Tallied(label=x, seeds=3, accepted=0, beats=True) for x in "abc"], "patient")
    assert "No method" in tally([], "patient")
