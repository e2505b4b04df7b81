"""After a refusal: only what the run's own figures speak for."""

from __future__ import annotations

from typing import Any

import pytest

from edge_tsfm.runs.advice import advice

Curve = list[tuple[int, float, float]]
FALLING: Curve = [(0, 0.7, 0.080), (50, 0.7, 0.079), (100, 0.7, 0.0785)]
RISING: Curve = [(0, 0.7, 0.080), (50, 0.7, 0.0785), (100, 0.7, 0.079)]
FLAT: Curve = [(0, 0.7, 0.080), (50, 0.7, 0.0785), (100, 0.7, 0.07855)]
NEVER: Curve = [(0, 0.7, 0.080), (50, 0.7, 0.081), (100, 0.7, 0.082)]


def record(
    difference: float | None, low: float | None, high: float | None, *, curve: Curve = FLAT, **config: Any
) -> dict[str, Any]:
    best = min(curve, key=lambda row: row[2])
    return {
        "gate": {"difference": difference, "interval": [low, high], "unit": "patient", "patients": 150},
        "data": {"items": 1_500},
        "config": {"steps": 100, "learning_rate": None, "learning_rate_factor": 1.0, "method": "fourierft"} | config,
        "learning_rates": [0.1],
        "training": {"best_step": best[0], "best": best[2]},
    }


def test_a_gain_that_the_interval_hides_wants_more_patients() -> None:
    said = advice(record(-0.010, -0.030, 0.010), FLAT)
    # Half width towards zero 2 %, gain 1 %: four times as many.
    assert said[0].startswith("about 6,000 patients in all (now 1,500) would show a gain of 1.0 %, if it is real")
    assert len(said) == 2  # a flat curve speaks for nothing


def test_no_gain_is_not_made_by_more_patients() -> None:
    assert advice(record(0.004, -0.01, 0.02), FLAT)[0].startswith("no gain was measured")


def test_a_gain_too_small_for_anybody_is_called_that() -> None:
    assert "too small to be shown" in advice(record(-0.0002, -0.016, 0.0160), FLAT)[0]


def test_a_gate_with_too_few_patients_says_how_many_it_takes() -> None:
    made = record(-0.010, -0.030, -0.005)
    made["gate"]["patients"], made["data"]["items"] = 6, 120
    assert advice(made, FLAT)[0] == "about 400 patients in all (now 120), for the 20 that the gate needs"
    made["gate"]["unit"] = "block"
    assert advice(made, FLAT)[0] == "series about 3.3 times as long, for the 20 blocks that the gate needs"


def test_a_split_by_time_is_told_to_have_longer_series() -> None:
    made = record(-0.010, -0.030, 0.010)
    made["gate"]["unit"] = "block"
    assert advice(made, FLAT)[0].startswith("series about 4.0 times as long")


@pytest.mark.parametrize(
    ("curve", "config", "said"),
    [
        (RISING, {}, "best at step 50 and rose after it: try --steps 50, or --learning-rate 0.03"),
        (FALLING, {}, "still falling at the last step, 100: try more --steps"),
        (NEVER, {}, "never better than the frozen base's: try a lower rate, --learning-rate 0.03"),
        (NEVER, {"method": "bitfit+lora"}, "try a lower rate, learning_rate_factor = 0.3 in a --config file"),
    ],
)
def test_the_validation_curve_says_which_way(curve: Curve, config: dict[str, Any], said: str) -> None:
    found = advice(record(-0.010, -0.030, 0.010, curve=curve, **config), curve)
    assert any(said in one for one in found), found


def test_a_gate_without_an_interval_speaks_of_none() -> None:
    assert not any("patients in all" in one for one in advice(record(None, None, None), FLAT))
