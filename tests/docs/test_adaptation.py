"""The pages on adaptation have the tables that the code has."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from device_runtime.adapt.modes import diagram, table
from device_runtime.adapt.rules import BOUNDS, AdaptRules, CleanRules

DOCS = Path(__file__).resolve().parents[2] / "docs"
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
