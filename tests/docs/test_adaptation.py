"""The pages on adaptation have the tables that the code has."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path

from device_runtime.adapt.modes import Mode, diagram, table
from device_runtime.adapt.rules import BOUNDS, AdaptRules, CleanRules
from device_runtime.binder import bind
from device_runtime.update.adapt_settings import AdaptSettings
from edge_tsfm.deploy.envelope import EnvelopeFile
from edge_tsfm.errors import ConfigError

DOCS = Path(__file__).resolve().parents[2] / "docs"
QUALITY = (DOCS / "guides" / "adaptation-quality.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \| (\S+) \| (.+?) \|", re.MULTILINE)


def test_the_guide_has_the_modes_and_the_states() -> None:
    guide = (DOCS / "guides" / "adaptation.md").read_text("utf-8")
    assert f"\n{table()}\n" in guide
    assert f"```mermaid\n{diagram()}\n```" in guide


def test_the_reference_has_every_setting_with_its_default_and_bounds() -> None:
    rows = {name: (default, allowed) for name, default, allowed in ROW.findall(_reference())}
    for rules in (AdaptRules(), CleanRules()):
        for one in fields(rules):
            value = getattr(rules, one.name)
            if one.name == "clean":
                continue
            default, allowed = rows.pop(one.name)
            said = str(value).lower() if isinstance(value, bool) else value
            assert default == (f'"{said}"' if isinstance(value, str) else f"{said:g}" if said is value else said)
            if one.name in BOUNDS:
                least, most = BOUNDS[one.name]
                assert allowed == f"{least:g} to {most:g}"
    assert rows == {}


def _reference() -> str:
    return (DOCS / "reference" / "adaptation.md").read_text("utf-8")


def test_the_page_for_quality_has_the_modes_and_the_states() -> None:
    assert f"```mermaid\n{diagram()}\n```" in QUALITY
    assert table() in QUALITY


def test_the_settings_are_read_and_their_defaults_are_said() -> None:
    page = (DOCS / "guides" / "adaptation.md").read_text(encoding="utf-8")
    (block,) = [one for one in re.findall(r"```toml\n(\[adapt\].*?)```", page, re.DOTALL) if "enabled_by" in one]
    read = bind(AdaptSettings, tomllib.loads(block)["adapt"], "page", error=ConfigError)
    default = AdaptSettings()
    said = set(tomllib.loads(block)["adapt"]) - {"mode", "enabled_by", "policy"}
    assert {name: getattr(read, name) for name in said} == {name: getattr(default, name) for name in said}
    assert read.policy is not None


def test_the_template_is_an_envelope_and_its_numbers_are_the_defaults() -> None:
    value = tomllib.loads((DOCS / "templates" / "envelope.toml").read_text(encoding="utf-8"))
    read = bind(EnvelopeFile, value, "template", error=ConfigError)
    default = AdaptRules()
    for name in ("cap_tensor", "cap_day", "promote_evidence"):
        assert getattr(read.rules, name) == getattr(default, name)
    assert read.rules.mode is Mode.ACTIVE


def test_the_counts_of_crash_states_are_those_of_the_tests() -> None:
    from tests.device_runtime.update import test_adapt_power_cut as cuts

    (learner, bad), (envelope, also_bad) = cuts.bad(), cuts.envelope_states()
    assert not bad
    assert not also_bad
    said = " ".join(QUALITY.split())
    assert f"0 of {learner} crash states of its file are bad, 0 of {envelope} of the envelope's" in said
