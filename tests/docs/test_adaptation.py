"""What the pages on adaptation print is what the code has."""

import re
import tomllib
from pathlib import Path

from device_runtime.adapt import modes
from device_runtime.adapt.rules import AdaptRules
from device_runtime.binder import bind
from device_runtime.update.adapt_settings import AdaptSettings
from edge_tsfm.deploy.envelope import EnvelopeFile
from edge_tsfm.errors import ConfigError

DOCS = Path(__file__).resolve().parents[2] / "docs"
QUALITY = (DOCS / "guides" / "adaptation-quality.md").read_text(encoding="utf-8")


def test_the_states_and_modes_are_those_of_the_tables() -> None:
    assert f"```mermaid\n{modes.diagram()}\n```" in QUALITY
    assert modes.table() in QUALITY


def test_the_settings_are_read_and_their_defaults_are_said() -> None:
    page = (DOCS / "guides" / "adaptation.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```toml\n(\[adapt\].*?)```", page, re.DOTALL)
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
    assert read.rules.mode is modes.Mode.ACTIVE


def test_the_counts_of_crash_states_are_those_of_the_tests() -> None:
    from tests.device_runtime.update import test_adapt_power_cut as cuts

    (learner, bad), (envelope, also_bad) = cuts.bad(), cuts.envelope_states()
    assert not bad
    assert not also_bad
    said = " ".join(QUALITY.split())
    assert f"0 of {learner} crash states of its file are bad, 0 of {envelope} of the envelope's" in said
