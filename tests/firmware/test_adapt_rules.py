"""The rules of adaptation in C are the Python runtime's: bounds, what is chosen, what an envelope does to them."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from device_runtime.adapt.envelope import Envelope
from device_runtime.adapt.modes import MODES, Mode
from device_runtime.adapt.rules import BOUNDS, AdaptRules, CleanRules
from device_runtime.errors import SettingsError
from device_runtime.update.adapt_mode import allowed
from device_runtime.update.adapt_settings import AdaptSettings

from .adapt_block import library_of
from .adapt_rules import CRules

HOUR = 3_600_000


@pytest.fixture(scope="module")
def core_rules(tmp_path_factory: pytest.TempPathFactory) -> CRules:
    return CRules(library_of(tmp_path_factory.mktemp("rules")))


def made_rules(draw: Any) -> AdaptRules:
    """Any rules within their bounds, more often than not at a bound or left to be chosen."""
    said: dict[str, Any] = {}
    defaults = AdaptRules()
    for name, (least, most) in BOUNDS.items():
        held = vars(defaults)[name] if name in vars(defaults) else vars(defaults.clean)[name]
        kind = st.integers(int(least), int(most)) if isinstance(held, int) else st.floats(least, most)
        said[name] = type(held)(draw(st.one_of(st.just(held), st.sampled_from([least, most]), kind)))
    said["windows"] = max(said["windows"], said["batch"])
    said["new_windows"] = min(said["new_windows"], said["batch"])
    clean = CleanRules(**{one.name: said.pop(one.name) for one in fields(CleanRules)})
    return AdaptRules(
        **said, clean=clean, mode=draw(st.sampled_from(list(Mode))), long_stream=draw(st.booleans()),
        keep_windows=draw(st.sampled_from(["memory", "disk"])),
    )  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(data=st.data(), interval_ms=st.sampled_from([6, 1_000, 300_000, 300_001, HOUR]), steps=st.integers(1, 1_024))
def test_the_rules_are_the_python_runtimes(core_rules: CRules, data: Any, interval_ms: int, steps: int) -> None:
    ours, theirs = (made_rules(data.draw) for _ in range(2))
    assert core_rules.check(ours) is None
    assert core_rules.at(ours, interval_ms, steps) == ours.at(interval_ms, steps)
    envelope = SimpleNamespace(rules=ours)
    try:
        wanted = Envelope.bounded(envelope, theirs)  # type: ignore[arg-type]
    except SettingsError:
        assert core_rules.check_bounded(ours, theirs) is not None
    else:
        assert core_rules.bounded(ours, theirs) == wanted


@given(data=st.data(), name=st.sampled_from(sorted(BOUNDS)), beyond=st.booleans())
def test_a_rule_beyond_its_bounds_is_named(core_rules: CRules, data: Any, name: str, beyond: bool) -> None:
    bound = BOUNDS[name][int(beyond)]
    value = bound + (1 if beyond else -1) * max(1, abs(bound) * 1e-3)
    rules = made_rules(data.draw)
    if isinstance(getattr(rules, name, getattr(rules.clean, name, None)), int):
        value = int(value)
        assume(value >= 0)  # C's are unsigned
    assert core_rules.check(rules, **{name: value}) == name


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("most", [None, *Mode])
@pytest.mark.parametrize("named", [True, False])
def test_a_mode_goes_as_far_as_the_envelope_allows(
    core_rules: CRules, mode: Mode, most: Mode | None, named: bool
) -> None:
    envelope = SimpleNamespace(most=most, enabled_by=("Q",))
    if most is None:
        wanted = allowed(AdaptSettings(mode=mode), None).mode
    else:
        wanted = Envelope.allows(envelope, mode, "Q" if named else "")[0]  # type: ignore[arg-type]
    assert core_rules.mode(mode, most, named) is wanted
    assert core_rules.may(mode) == MODES[mode]
