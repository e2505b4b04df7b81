import pytest

from device_runtime.series.signals import SIGNALS, find_event, find_signal, rank_of_name, unit_of_name
from device_runtime.series.units import CONVERSIONS, UNITS, convertible, find_unit

# MIMIC-Extract, resources/itemid_to_variable_map.csv (rows "ready" of these variables), and mimic-code:
# mimic-iii/concepts/pivot/pivoted_vital.sql, mimic-iv/concepts/measurement/vitalsign.sql.
MIMIC_EXTRACT = {
    "HR": "211 220045",
    "MAP": "52 224 456 3312 3314 3316 3320 3322 6702 220052 220181 224322 225312",
    "SBP": "51 442 455 3313 3315 3317 3321 3323 6701 220050 220179 224167 225309 227243",
    "DBP": "8368 8440 8441 8502 8503 8504 8506 8507 8555 220051 220180 224643 225310",
    "SpO2": "646 220277",
    "RESP": "615 618 3603 220210 224690",
    "TEMP": "676 677 678 679 3654 223761 223762",
}
MIMIC_CODE = {
    "HR": "211 220045",
    "MAP": "52 443 456 6702 220052 220181 225312",
    "SBP": "51 442 455 6701 220050 220179 225309",
    "DBP": "8368 8440 8441 8555 220051 220180 225310",
    "SpO2": "646 220277",
    "RESP": "615 618 220210 224690",
    "TEMP": "676 678 223761 223762",
}
LABELLED_THE_SAME = {"TEMP": "226329 227632 227634", "DBP": "227242", "EtCO2": "228640 1817"}
NOT_THE_SIGN = "619 224688 224689 224422 614 3655 834 220227 220046 220047 220056 220058 642 224642 227630"


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("O2Sat", "SpO2"),
        ("spo2", "SpO2"),
        ("Resp", "RESP"),
        ("ABPMean", "MAP"),
        ("NBPMean", "MAP"),
        ("Heart Rate", "HR"),
        ("heart-rate", "HR"),
        (" temperature ", "TEMP"),
        ("Heart rate [bpm]", "HR"),
        ("HR beats/min", "HR"),
        ("hr_bpm", "HR"),
        ("MAP [mm[Hg]]", "MAP"),
        ("map_kPa", "MAP"),
        ("SpO2%", "SpO2"),
        ("Temperature (C)", "TEMP"),
        ("Solar8000/ART_MBP", "MAP"),
        ("Non-Invasive BP Systolic", "SBP"),
        ("noninvasivemean", "MAP"),
        ("8867-4", "HR"),
    ],
)
def test_a_vital_sign_is_found_under_its_names(word: str, name: str) -> None:
    found = find_signal(word)
    assert found is not None
    assert found.name == name
    assert find_event(word) is found


@pytest.mark.parametrize("word", ["OT", "", "/", "SpO2_1", "t_c", "flow", "1/min", "HR_mmHg", "220045", "hr (raw) 2"])
def test_another_domains_signal_is_none(word: str) -> None:
    assert find_signal(word) is None


@pytest.mark.parametrize("source", [MIMIC_EXTRACT, MIMIC_CODE, LABELLED_THE_SAME])
def test_item_ids_of_the_published_concepts(source: dict[str, str]) -> None:
    for name, item_ids in source.items():
        for item_id in item_ids.split():
            assert find_event(item_id) is find_event(f"{item_id}.0") is SIGNALS[name], item_id
    for item_id in NOT_THE_SIGN.split():
        assert find_event(item_id) is None, item_id


def test_no_word_means_two_vital_signs() -> None:
    words = [word for s in SIGNALS.values() for word in (s.name.casefold(), *s.aliases)]
    assert len(words) == len(set(words))
    item_ids = [i for s in SIGNALS.values() for i in (*s.item_ids, *s.fahrenheit_item_ids)]
    assert len(item_ids) == len(set(item_ids))


def test_every_alias_is_found_and_an_arterial_line_comes_before_a_cuff() -> None:
    for signal in SIGNALS.values():
        assert [rank_of_name(alias) for alias in signal.aliases] == list(range(1, len(signal.aliases) + 1))
        assert all(find_signal(alias) is signal for alias in signal.aliases)
    names = ["NBPMean", "noninvasivemean", "ABPMean", "map"]
    assert sorted(names, key=rank_of_name) == ["map", "ABPMean", "NBPMean", "noninvasivemean"]
    with pytest.raises(ValueError, match="no signal"):
        rank_of_name("OT")


def test_ranges_hold_something_and_codes_name_the_unit() -> None:
    for signal in SIGNALS.values():
        assert 0 < signal.low < signal.high
        assert find_unit(signal.unit) == find_unit(signal.ucum) == signal.unit


@pytest.mark.parametrize(
    ("spelling", "unit"),
    [
        ("?F", "degF"),
        ("Deg. F", "degF"),
        ("°C", "degC"),
        ("Cel", "degC"),
        ("insp/min", "1/min"),
        ("mm[Hg]", "mmHg"),
        ("mm Hg", "mmHg"),
        ("furlong", None),
    ],
)
def test_units_in_the_spellings_of_the_files(spelling: str, unit: str | None) -> None:
    assert find_unit(spelling) == unit


def test_body_temperature_in_fahrenheit_and_kelvin() -> None:
    for unit, value in (("degF", 98.6), ("K", 310.15)):
        scale, offset = CONVERSIONS[unit, "degC"]
        assert value * scale + offset == pytest.approx(37.0, abs=1e-9)
    assert convertible("degC") == ("degC", "degF", "K")
    assert set(UNITS.values()) >= {s.unit for s in SIGNALS.values()}


def test_a_column_may_state_its_unit() -> None:
    names = ["TempF", "Temp [°F]", "MAP (kPa)", "HR (raw)", "HR", "temp_f", "map_kpa", "TempF [K]", "223761", "223762"]
    assert [unit_of_name(name) for name in names] == [
        "degF", "degF", "kPa", None, None, "degF", "kPa", "K", "degF", None,
    ]  # fmt: skip
