"""FORMAT.md's tables against the constants of the Python runtime and of the C core."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from device_runtime import errors
from device_runtime.format import canonical, generator, layout, manifest, varint
from device_runtime.format.blocks import DTYPE_CODE

ROOT = Path(__file__).parents[3]
SECTIONS = re.split(r"^## ", (ROOT / "device_runtime/FORMAT.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
HEAD = " ".join("".join(SECTIONS[:2]).split())
HEADER = (ROOT / "firmware_examples/etsa/etsa.h").read_text(encoding="utf-8")
SOURCE = "".join(
    (ROOT / f"firmware_examples/etsa/{name}").read_text(encoding="utf-8")
    for name in ("etsa.c", "etsa_bytes.h", "etsa_json.h")
)


def section(number: int) -> str:
    return next(text for text in SECTIONS if text.startswith(f"{number}. "))


def rows(number: int, columns: int) -> list[list[str]]:
    """Cells of every table row of that width in a section, without heads and rules."""
    lines = re.findall(r"^\|(.+)\|$", section(number), flags=re.MULTILINE)
    cells = [[cell.strip().strip("`") for cell in line.split("|")] for line in lines]
    found = [row for row in cells if len(row) == columns]
    rule = [i for i, row in enumerate(found) if set(row[0]) <= set("-:")]
    return [row for i, row in enumerate(found) if i not in rule and i + 1 not in rule]


def layouts() -> tuple[list[list[str]], list[list[str]]]:
    table = rows(3, 4)
    start = next(i for i, row in enumerate(table) if row[2] == "kind")
    return table[:start], table[start:]


def defined(name: str) -> int:
    match = re.search(rf"^#define ETSA_{name} (\d+)u\b", HEADER, flags=re.MULTILINE)
    assert match is not None, name
    return int(match[1])


def enumerators(prefix: str) -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(rf"\bETSA_{prefix}(\w+) = (\d+)", HEADER)}


@pytest.mark.parametrize(("index", "size"), [(0, layout.HEADER.size), (1, layout.RECORD.size)])
def test_layouts_are_gapless_and_of_the_stated_size(index: int, size: int) -> None:
    position = 0
    for offset, width, _, _ in layouts()[index]:
        assert int(offset) == position
        position += int(width)
    assert position == size == defined("HEADER_SIZE" if index == 0 else "RECORD_SIZE")


def test_header_offsets_are_those_of_the_reader() -> None:
    names = {row[2]: int(row[0]) for row in layouts()[0]}
    assert names["crc32"] == layout.CRC_OFFSET
    assert f"load32(blob + {names['crc32']})" in SOURCE
    assert f"load64(blob + {names['adapter_version']})" in SOURCE
    assert f"blob + {names['base_digest']};" in SOURCE


def test_record_fields_are_those_of_the_reader() -> None:
    names = [row[2] for row in layouts()[1]]
    assert names == list(layout.BlobRecord.__dataclass_fields__)
    assert f"uint32_t {', '.join(names)};" in SOURCE


def test_kinds() -> None:
    table = {row[1]: int(row[0]) for row in rows(4, 7)}
    assert table == {kind.name.lower(): int(kind) for kind in layout.Kind}
    assert table == {name.lower(): value for name, value in enumerators("KIND_").items()}


def test_dtypes() -> None:
    (text,) = [row[3] for row in layouts()[1] if row[2] == "dtype"] or [""]
    table = {name: int(code) for code, name in re.findall(r"(\d) (\w+)", text)}
    assert table == {name.lower(): value for name, value in enumerators("DTYPE_").items()}
    assert table == {"none": 0, **{name: int(code) for name, code in DTYPE_CODE.items()}}


def test_limits() -> None:
    table = {row[0]: int(row[1]) for row in rows(9, 2)}
    assert table == {name: getattr(layout, name) for name in dir(layout) if name.startswith("MAX_")}
    assert table == {name: defined(name) for name in table}


def test_limits_outside_of_the_table() -> None:
    text = " ".join(section(2).split())
    assert f"at most {manifest.MAX_MANIFEST_SIZE:,} bytes" in text
    assert defined("MAX_MANIFEST_SIZE") == manifest.MAX_MANIFEST_SIZE
    assert f"at most {canonical.MAX_DEPTH} levels" in text
    assert re.search(rf"MAX_DEPTH {canonical.MAX_DEPTH}u", SOURCE)
    assert f"at most {varint.MAX_BYTES} bytes" in " ".join(section(4).split())
    assert f"shift == {7 * varint.MAX_BYTES}" in SOURCE
    versions = f"{manifest.BUNDLE_VERSION} or {manifest.QUANTISED_VERSION}"
    assert f"a bundle's ({versions}) and an adapter blob's (1 or 2)" in " ".join(HEAD.split())
    assert defined("FORMAT_VERSION") == layout.FORMAT_VERSION
    assert defined("BUNDLE_VERSION") == manifest.BUNDLE_VERSION
    assert defined("QUANTISED_VERSION") == manifest.QUANTISED_VERSION


def test_error_codes() -> None:
    table = {row[1]: int(row[0]) for row in rows(10, 4)}
    python = {kind.__name__: kind.code for kind in vars(errors).values() if isinstance(kind, type) and kind.code}
    assert table == python
    c = {re.sub(r"_(\w)", lambda m: m[1], n.title()): v for n, v in enumerators("").items() if n.endswith("_ERROR")}
    assert table == c
    for name in table:
        assert re.search(rf'case ETSA_\w+: return "{name}";', SOURCE), name


def test_error_actions() -> None:
    for _, name, _, action in rows(10, 4):
        assert action == getattr(errors, name).action


def test_generator_constants() -> None:
    text = section(5)
    for constant in re.findall(r"0x[0-9A-F]{16}", text):
        assert constant in SOURCE
    assert f"{generator.PROJECTION_STRIDE} k + j" in text
    assert f"{generator.PROJECTION_ONE}" in text
    streams = (generator.STREAM_ENTRIES, generator.STREAM_VERA_A, generator.STREAM_VERA_B)
    assert streams == (1, 2, 3)


def test_signature_layout() -> None:
    position = 0
    for offset, width, _, _ in rows(8, 4):
        assert int(offset) == position
        position += int(width)
    assert position == defined("SIGNATURE_SIZE")
    prefix = re.search(r'ETSA_PREFIX "([^"]+)"', HEADER)
    assert prefix is not None
    assert f"`{prefix[1]}` and a zero byte" in section(8)
    assert defined("PREFIX_SIZE") == len(prefix[1]) + 1
