"""The gate on two adapters and on subgroups, and the records of what was decided."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_tsfm.deploy.acceptance import read_gate
from edge_tsfm.errors import ConfigError, DeployError, GateRefusedError
from tests.simulators.publisher import (
    RUN,
    approve_version,
    evaluation,
)
from tests.simulators.server import Bed


def test_an_evaluation_of_another_run_is_refused(bed: Bed) -> None:
    other = evaluation(run={"numbers": "6" * 64})
    with pytest.raises(DeployError, match="is of run 6666"):
        approve_version(bed.publisher, 1, figures=other)
    other = evaluation(run={"numbers": RUN, "base": {"digest": "7" * 64}})
    with pytest.raises(DeployError, match="is on base weights 7777"):
        approve_version(bed.publisher, 1, figures=other)


def test_the_adapter_in_the_field_is_compared_on_the_same_windows(bed: Bed) -> None:
    bed.offer(1)
    with pytest.raises(GateRefusedError, match="patients differ"):
        approve_version(bed.publisher, 2, figures=evaluation(patients=41))
    with pytest.raises(GateRefusedError, match="figures of the base differ"):
        approve_version(bed.publisher, 2, figures=evaluation(1.7, base=2.0, high=-0.1))
    with pytest.raises(GateRefusedError, match=r"against the adapter in the field: 5\.55556, at most 2"):
        approve_version(bed.publisher, 2, figures=evaluation(0.95))


def group(adapter: float, *, patients: int = 30) -> dict[str, Any]:
    figures = {"adapter": {"wql": {"value": adapter}}, "base": {"wql": {"value": 1.0}}}
    return {"patients": patients, "windows": 2 * patients, "models": figures}


def test_subgroups_are_judged_against_the_field_too(tmp_path: Path) -> None:
    from edge_tsfm.deploy.acceptance import check_bounds

    gate = read_gate(
        b'subgroups = ["Gender"]\n[[bound]]\nmetric = "wql"\nvs_base_percent = -1.0\nvs_field_percent = 2.0\n'
        b"subgroup_percent = 5.0\n",
        tmp_path,
    )
    field = evaluation(subgroups={"Gender": {"f": group(0.8), "m": group(0.9), "x": group(0.9, patients=3)}})
    good = evaluation(subgroups={"Gender": {"f": group(0.82), "m": group(0.9), "x": group(3.0, patients=3)}})
    assert check_bounds(gate, good, field, first=False).passed
    notes = [check.note for check in check_bounds(gate, good, field, first=False).checks]
    assert "3 patients, want 20" in notes
    bad = evaluation(subgroups={"Gender": {"f": group(0.95), "m": group(0.9)}})
    failed = [check for check in check_bounds(gate, bad, field, first=False).checks if not check.passed]
    assert [check.what for check in failed] == ["wql where Gender is f, against the adapter in the field"]
    assert check_bounds(gate, bad, None, first=True).passed  # better than the base, and nothing in the field
    missing = check_bounds(gate, evaluation(), None, first=True)
    assert [check.sentence for check in missing.checks if not check.passed] == [
        "figures by Gender: none: edge-tsfm evaluate --subgroup Gender"
    ]


@pytest.mark.parametrize("text", ["subgroups = 5", 'subgroups = "Gender"', "unknown = 1", "[[bound]]\nmetric = 5", "["])
def test_a_gate_that_cannot_be_meant_is_refused(tmp_path: Path, text: str) -> None:
    bound = '[[bound]]\nmetric="wql"\nvs_base_percent=0\nvs_field_percent=0\nsubgroup_percent=nan\n'
    for whole in (f"{text}\n", f"{text}\n{bound}"):
        with pytest.raises(ConfigError):
            read_gate(whole.encode(), tmp_path)


def test_the_record_says_what_was_decided_on_what_and_by_whom(bed: Bed) -> None:
    first = bed.offer(1)
    approval = approve_version(bed.publisher, 2)
    record = json.loads(Path(approval.record).read_bytes())
    predicate = record["predicate"]
    assert record["_type"] == "https://in-toto.io/Statement/v1"
    assert [one["digest"]["sha256"] for one in record["subject"]] == [approval.adapter, approval.file]
    assert predicate["in_the_field"]["signed_file"] == first
    assert len(predicate["in_the_field"]["sha256"]) == len(predicate["gate"]["sha256"]) == 64
    assert predicate["training_data"] == {"sha256": "d" * 64}
    assert {"numpy", "onnxruntime", "tuf"} <= predicate["tools"].keys()
    keys = {ref.keyid for group in ("quality", "adapter") for ref in bed.publisher.refs(group)}
    assert len(predicate["approvals"]["approved"]) == 2
    assert {keyid for ids in predicate["approvals"].values() for keyid in ids} <= keys
    frozen, touched = predicate["frozen"], predicate["tensors"]
    assert all(one["sha256_before"] != one["sha256_after"] and one["weights_changed"] for one in touched)
    assert len(touched) + len(frozen["tensors_untouched"]) == frozen["tensors_in_table"]
    assert frozen["base_files"]
    page = Path(approval.record).with_suffix(".html").read_text()
    for words in ("Gate", "Figures", "What changes", "What does not", "Signed by", approval.file, first):
        assert words in page


def test_a_record_cannot_carry_a_script(bed: Bed) -> None:
    from edge_tsfm.report.change_record import page

    approval = approve_version(bed.publisher, 1)
    record = json.loads(Path(approval.record).read_bytes())
    text = json.dumps(record).replace('"quality"', '"<script>alert(1)</script>"').replace("wql against", "<b>x</b>")
    assert "<script>" not in page(json.loads(text))
    assert "<b>x</b>" not in page(json.loads(text))


def test_the_bill_of_materials_is_valid(bed: Bed) -> None:
    pytest.importorskip("jsonschema", reason="cyclonedx-python-lib[json-validation] is not installed")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    from edge_tsfm.deploy.sbom import sbom_of

    bed.offer(1)
    bed.offer(2)
    text = sbom_of(bed.publisher)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    value = json.loads(text)
    models = [one for one in value["components"] if one["type"] == "machine-learning-model"]
    assert len(models) == 3  # the base and two adapters
    cards = [one["modelCard"] for one in models if "modelCard" in one]
    assert len(cards) == 2
    metrics = cards[0]["quantitativeAnalysis"]["performanceMetrics"]
    assert {metric["slice"] for metric in metrics} == {"adapter", "base"}
    assert any(one["name"] == "onnxruntime" and one["purl"].startswith("pkg:pypi/") for one in value["components"])
