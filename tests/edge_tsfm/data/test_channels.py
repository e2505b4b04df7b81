import pytest

from edge_tsfm.data.channels import CHANNELS, CONVERSIONS, UNITS, find_channel, find_unit, unit_of_name


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("O2Sat", "SpO2"),
        ("spo2", "SpO2"),
        ("Resp", "RESP"),
        ("ABPMean", "MAP"),
        ("NBPMean", "MAP"),
        ("Heart Rate", "HR"),
        (" temperature ", "TEMP"),
        ("Heart rate [bpm]", "HR"),
    ],
)
def test_a_vital_sign_is_found_under_its_names(word: str, name: str) -> None:
    found = find_channel(word)
    assert found is not None
    assert found.name == name


def test_another_domains_channel_is_none() -> None:
    assert find_channel("OT") is None


def test_no_word_means_two_vital_signs() -> None:
    words = [word for c in CHANNELS.values() for word in (c.name.casefold(), *c.aliases)]
    assert len(words) == len(set(words))
    item_ids = [i for c in CHANNELS.values() for i in (*c.item_ids, *c.fahrenheit_item_ids)]
    assert len(item_ids) == len(set(item_ids))


def test_aliases_are_folded_and_ranges_hold_something() -> None:
    for channel in CHANNELS.values():
        assert all(alias == alias.casefold() for alias in channel.aliases), channel.name
        assert 0 < channel.low < channel.high
        assert channel.unit in UNITS.values()


@pytest.mark.parametrize(
    ("spelling", "unit"),
    [
        ("?F", "degF"),
        ("Deg. F", "degF"),
        ("°C", "degC"),
        ("insp/min", "1/min"),
        ("mm[Hg]", "mmHg"),
        ("furlong", None),
    ],
)
def test_units_in_the_spellings_of_the_files(spelling: str, unit: str | None) -> None:
    assert find_unit(spelling) == unit


def test_body_temperature_in_fahrenheit_and_kelvin() -> None:
    for unit, value in (("degF", 98.6), ("K", 310.15)):
        scale, offset = CONVERSIONS[unit, "degC"]
        assert value * scale + offset == pytest.approx(37.0, abs=1e-9)


def test_a_column_may_state_its_unit() -> None:
    assert [unit_of_name(name) for name in ("TempF", "Temp [°F]", "MAP (kPa)", "HR (raw)", "HR")] == [
        "degF", "degF", "kPa", None, None,
    ]  # fmt: skip
