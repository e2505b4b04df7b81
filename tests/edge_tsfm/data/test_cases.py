"""Files of the kinds that people have and that were once read wrongly: the right values, on both sides."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.both_readers import Read, same_on_both

HOUR = 3_600_000_000
CASES = Path(__file__).resolve().parents[4] / "shared" / "cases" / "data"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason=f"no case files at {CASES}")


def medians(read: Read) -> dict[str, float]:
    return {item: float(np.nanmedian(values)) for (item, _), (_, values) in read.series.items()}


# file, target, options, median of each item, observed values of each, interval in microseconds
RIGHT: list[tuple[str, str, dict[str, Any], dict[str, float], int, int | None]] = [
    ("c01_kaggle_sepsis.csv", "MAP", {}, {"1": 59.6, "2": 90.45, "3": 120.1}, 30, HOUR),
    ("c04_CHARTEVENTS_upper.csv", "HR", {}, {"101": 82, "102": 82}, 24, HOUR),
    ("c04_CHARTEVENTS_upper.csv", "map", {}, {"101": 66, "102": 66}, 24, HOUR),
    ("c04b_lower.csv", "MAP", {}, {"101": 66, "102": 66}, 24, HOUR),
    ("c05_date_time.csv", "MAP", {}, {"1": 74.9, "2": 75.1}, 72, HOUR),
    ("d02_patient.csv", "map", {}, {"p0": 61, "p1": 91, "p2": 121}, 24, HOUR),
    ("d03_newest_first_charttime.csv", "MAP", {}, {"d03_newest_first_charttime": 83}, 24, HOUR),
    ("d03_ok.csv", "MAP", {}, {"d03_ok": 83}, 24, HOUR),
    ("d04_gap_no_rows.csv", "MAP", {}, {"a": 78.1}, 22, HOUR),
    ("d07_dst_iso.csv", "MAP", {}, {"a": 75.25}, 30, HOUR),
    ("e1_tempF.csv", "TEMP", {"unit": "degF"}, {"1": 37.083333}, 30, HOUR),
    ("e2_label.csv", "value", {}, {"e2_label": 49.905}, 30, HOUR),
    ("e3_id_NA.csv", "target", {}, {"DE": 81, "NA": 71}, 30, HOUR),
    ("e5_dot_thousands.csv", "vol", {}, {"a": 1026.5}, 24, HOUR),
    ("e5_dot_thousands.csv", "temp", {}, {"a": 36.35}, 24, HOUR),
    ("t06_yyyymmddhhmm.csv", "MAP", {"interval": "1min"}, {"a": 75.85}, 240, HOUR // 60),
    ("t08_iso.csv", "MAP", {"interval": "1h"}, {"a": 75.85}, 72, HOUR),
    ("t10_basic_offset_dst.csv", "MAP", {}, {"a": 75.85}, 72, HOUR),
]


@needs_cases
@pytest.mark.parametrize(("name", "target", "options", "median", "observed", "interval"), RIGHT)
def test_what_is_read_is_what_was_meant(
    name: str, target: str, options: dict[str, Any], median: dict[str, float], observed: int, interval: int | None
) -> None:
    read = same_on_both(CASES / name, target, **options)
    assert medians(read) == pytest.approx(median, rel=1e-6)
    assert {int(np.isfinite(values).sum()) for _, values in read.series.values()} == {observed}
    assert read.interval_us == interval


@needs_cases
def test_values_charted_in_error_zeros_and_artefacts_are_missing() -> None:
    in_error = same_on_both(CASES / "c04c_error_flag.csv", "MAP")
    clean = same_on_both(CASES / "c04b_lower.csv", "MAP")
    for key, (_, values) in in_error.series.items():
        seen = np.isfinite(values)
        assert 0 < (~seen).sum() < 12
        np.testing.assert_array_equal(values[seen], clean.series[key][1][seen])
    zeros = same_on_both(CASES / "d05_zeros.csv", "MAP").series["a", 0][1]
    assert np.isnan(zeros).sum() == 5
    assert np.nanmin(zeros) == 55
    artefact = same_on_both(CASES / "k1_artefact.csv", "MAP").series["a", 0][1]
    assert np.nanmax(artefact) < 100


@needs_cases
def test_a_gap_without_rows_keeps_its_place() -> None:
    _, values = same_on_both(CASES / "d04_gap_no_rows.csv", "MAP").series["a", 0]
    assert len(values) == 30
    assert np.isnan(values).sum() == 8


@needs_cases
def test_fahrenheit_without_a_word_of_it_is_refused_with_an_option_that_exists() -> None:
    refused = same_on_both(CASES / "e1_tempF.csv", "temperature")
    assert "lie outside 26 to 45 degC" in (refused.refused or "")
    assert "--unit degF" in (refused.hint or "")


@needs_cases
def test_a_column_that_is_not_there_is_refused() -> None:
    refused = same_on_both(CASES / "d02_patient.csv", "MAP", id_column="patientid")
    assert "has no column 'patientid'" in (refused.refused or "")
    assert "patient, charttime, MAP" in (refused.hint or "")


@needs_cases
@pytest.mark.parametrize("path", sorted(CASES.glob("*.csv")), ids=lambda path: path.name)
@pytest.mark.parametrize("target", [None, "MAP", "HR", "value"])
def test_every_case_is_the_same_on_both_sides_or_refused_by_both(path: Path, target: str | None) -> None:
    same_on_both(path, target)
