"""Whatever a file holds, its reader answers with the project's error or a value: never with Python's inside."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.files.mutate import JUNK, mutated
from tests.files.readers import READERS

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(
    path for package in ("device_runtime", "export", "edge_tsfm") for path in (ROOT / package).rglob("*.py")
)
# What would be said of a Python object, not of a file.
INSIDE = re.compile(r"__init__|positional argument|keyword.only|object has no attribute|NoneType|not subscriptable|"
                    r"unsupported operand|object is not|KeyError|<class|Traceback|unhashable|object at 0x")  # fmt: skip
# Modules that decode JSON or TOML in another way, and why no dataclass comes of it.
DECODERS = {
    "device_runtime/documents.py": "the one decoder",
    "device_runtime/format/canonical.py": "canonical JSON, compared with its own bytes",
    "device_runtime/update/sealed.py": "bytes whose SHA-256 was checked, bound by lifecycle and floor",
    "device_runtime/update/service_adapt.py": "a sealed decision, whose few fields are checked one by one",
    "device_runtime/update/audit.py": "lines of the log, checked by their chain",
    "export/manifest.py": "a manifest that the device's reader has taken",
    "export/folder.py": "a header written a line before",
    "edge_tsfm/deploy/sbom.py": "what a library wrote a line before",
    "edge_tsfm/runs/train.py": "what was encoded on the same line",
    "edge_tsfm/runs/hub.py": "what PEFT wrote",
    "edge_tsfm/demo.py": "what our own command printed",
    "edge_tsfm/research/profiling.py": "what ONNX Runtime's profiler wrote a line before",
}
# Dataclasses made with ** of something else than a file's values.
OTHERWISE = {
    ("device_runtime/update/agent/poll.py", "Outcome"): "named by the poll itself",
    ("device_runtime/update/agent/repository.py", "UpdaterConfig"): "python-tuf's, from constants",
    ("device_runtime/format/blob.py", "BlobRecord"): "fields of a record in hand",
    ("device_runtime/format/blob.py", "Adapter"): "values that the blob's reader has made",
    ("edge_tsfm/data/sources.py", "Table"): "a table in hand, with more notes",
    ("edge_tsfm/report/verdict.py", "Estimate"): "three figures, each checked",
    ("edge_tsfm/research/study/config.py", "StudyConfig"): "lists that the binder has made",
    ("edge_tsfm/research/study/table.py", "Row"): "figures that were computed",
    ("edge_tsfm/training/config.py", "Options"): "fields of the configuration in hand",
    ("edge_tsfm/data/options.py", "ReadOptions"): "fields of the options in hand",
    ("edge_tsfm/data/options.py", "DataOptions"): "fields of the options in hand",
    ("edge_tsfm/training/config.py", "DataOptions"): "fields of the configuration in hand",
    ("edge_tsfm/training/course.py", "Fit"): "tensors of a checkpoint whose keys were checked",
}
# Where `bind` is given its class by a name that is no class: which ones it may be.
BY_NAME = {
    ("edge_tsfm/models/base_config.py", "kind"): ("BoltConfig", "Chronos2Config", "T5Config"),
    ("edge_tsfm/runs/record.py", "kind"): ("RunRecord", "CellRecord"),
    ("device_runtime/update/notes.py", "kind"): ("Polled", "Running", "Learning"),
}
# What is bound from a caller's arguments and not from a file: tests of these functions have their errors.
ARGUMENTS = {("edge_tsfm/api.py", "Asked"), ("edge_tsfm/data/options.py", "DataOptions")}
SEALED = (  # never torn: a hash says so
    "state record",
    "floor",
    "note of the last polls",
    "note of what runs",
    "note of what is learnt",
    "what was learnt",
    "what a person asked for",
)


def calls(path: Path) -> Iterator[tuple[ast.Call, str | None]]:
    """Give every call in a module, and the class it stands in."""

    def walk(node: ast.AST, inside: str | None) -> Iterator[tuple[ast.Call, str | None]]:
        if isinstance(node, ast.ClassDef):
            inside = node.name
        if isinstance(node, ast.Call):
            yield node, inside
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inside)

    return walk(ast.parse(path.read_text()), None)


def found(path: Path, name: str) -> object:
    return getattr(import_module(".".join(path.relative_to(ROOT).with_suffix("").parts)), name, None)


def bound_classes() -> Iterator[type]:
    """Give every dataclass that some code asks `bind` or `bind_value` for."""
    for path in MODULES:
        if path.name == "binding.py":
            continue
        for call, inside in calls(path):
            if not (isinstance(call.func, ast.Name) and call.func.id in ("bind", "bind_value")):
                continue
            where = str(path.relative_to(ROOT))
            for node in ast.walk(call.args[0]):
                if isinstance(node, ast.Name) and node.id not in ("Mapping", "tuple", "str", "int"):
                    if (where, node.id) in ARGUMENTS:
                        continue
                    name = inside if node.id == "cls" else node.id
                    for one in BY_NAME.get((where, name), (name,)):
                        kind = found(path, one)
                        assert kind is not None, f"{path}:{call.lineno}: which class is {one}? Add it to BY_NAME"
                        if isinstance(kind, type) and is_dataclass(kind):
                            yield kind


def test_every_class_that_is_bound_has_a_reader_here() -> None:
    known = {kind for reader in READERS.values() for kind in reader.kinds}
    asked = set(bound_classes())
    assert len(asked) > 15
    assert asked == known


def test_files_become_dataclasses_by_the_binder_alone() -> None:
    wrong = []
    for path in MODULES:
        where = str(path.relative_to(ROOT))
        for call, _ in calls(path):
            function = call.func
            if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
                decoder = function.value.id in ("json", "tomllib") and function.attr in ("load", "loads")
                if decoder and where not in DECODERS:
                    wrong.append(f"{where}:{call.lineno} {function.value.id}.{function.attr}")
            unpacks = any(keyword.arg is None for keyword in call.keywords)
            if unpacks and isinstance(function, ast.Name) and (where, function.id) not in OTHERWISE:
                kind = found(path, function.id)
                if isinstance(kind, type) and is_dataclass(kind):
                    wrong.append(f"{where}:{call.lineno} {function.id}(**…)")
    assert wrong == []


@pytest.mark.parametrize("name", READERS)
def test_the_good_file_is_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(READERS[name].write(READERS[name].good))
    READERS[name].read(path)


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_spoilt_file_is_read_or_refused_in_words(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    reader = READERS[name]
    path = tmp_path_factory.mktemp("spoilt") / "file"
    path.write_bytes(reader.write(data.draw(mutated(reader.good))))
    refused_in_words(name, path)


@pytest.mark.parametrize("name", [name for name in READERS if name not in SEALED])
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_half_a_file_or_another_one_is_refused_in_words(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    reader = READERS[name]
    path = tmp_path_factory.mktemp("torn") / "file"
    whole = reader.write(reader.good)
    path.write_bytes(
        data.draw(
            st.one_of(
                st.integers(0, len(whole) - 1).map(lambda end: whole[:end]),
                JUNK.map(reader.write),
                st.just(b"[" * 100_000),
                st.just(b'{"a":' * 100_000),
                st.just(b"\xff\xfe" + whole),
                st.binary(max_size=40),
            )
        )
    )
    refused_in_words(name, path, undecoded=name == "scores")


def refused_in_words(name: str, path: Path, *, undecoded: bool = False) -> None:
    reader = READERS[name]
    try:
        reader.read(path)
    except UnicodeDecodeError:
        assert undecoded  # the helper that packs the file, not the reader
        return
    except reader.errors as error:
        refusal = error
    else:
        return
    said = f"{refusal} {getattr(refusal, 'hint', None)}"
    assert not INSIDE.search(said), said
    said.encode()  # can be printed
    if reader.names_file:
        assert path.name in said
