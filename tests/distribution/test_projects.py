"""The wheels' own pyproject.toml, and the citation, say what the tree's pyproject.toml says."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

import device_runtime
import edge_tsfm

ROOT = Path(__file__).resolve().parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
ON_DEVICE = ("agent", "openvino", "qnn")  # extras
SAME = ("requires-python", "license", "license-files")


def project(path: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / path / "pyproject.toml").read_text())


TREE, DEVICE, WORKSTATION = map(project, (".", "distribution/device", "distribution/workstation"))


def test_there_is_one_version() -> None:
    assert device_runtime.__version__ == edge_tsfm.__version__ == VERSION
    assert WORKSTATION["project"]["dependencies"] == [f"edge-tsfm-device=={VERSION}"]


def test_the_device_needs_what_the_tree_needs_without_extras() -> None:
    for name in (*SAME, "dependencies"):
        assert DEVICE["project"][name] == TREE["project"][name], name
    assert DEVICE["project"]["optional-dependencies"] == {
        extra: TREE["project"]["optional-dependencies"][extra] for extra in ON_DEVICE
    }


def test_the_workstation_has_the_trees_extras() -> None:
    for name in (*SAME, "description", "keywords", "classifiers"):
        assert WORKSTATION["project"][name] == TREE["project"][name], name
    wanted = dict(TREE["project"]["optional-dependencies"])
    del wanted["dev"]  # work in a clone
    wanted |= {extra: [f"edge-tsfm-device[{extra}]"] for extra in ON_DEVICE}
    assert WORKSTATION["project"]["optional-dependencies"] == wanted


def test_commands_and_files_of_data_are_divided_and_none_is_lost() -> None:
    assert DEVICE["project"]["scripts"] | WORKSTATION["project"]["scripts"] == TREE["project"]["scripts"]
    data = [project["tool"]["setuptools"]["package-data"] for project in (DEVICE, WORKSTATION)]
    pages = {"FORMAT.md", "SERIES.md"}  # not for a monitor
    tree = TREE["tool"]["setuptools"]["package-data"]
    assert data[0] | data[1] == {name: [one for one in held if one not in pages] for name, held in tree.items()}


def test_the_citation_is_valid_and_of_this_version() -> None:
    """The schema is the Citation File Format's own, CC-BY-4.0: github.com/citation-file-format."""
    yaml = pytest.importorskip("yaml", reason="comes with the workstation's libraries")
    jsonschema = pytest.importorskip("jsonschema", reason="comes with [dev]")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    schema = json.loads((Path(__file__).parent / "citation-1.2.0.schema.json").read_text())
    validator = jsonschema.Draft7Validator(schema)
    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(citation)] == []
    assert list(validator.iter_errors({**citation, "authors": []}))  # the schema does refuse
    assert citation["version"] == VERSION
    assert citation["license"] == TREE["project"]["license"]
