"""Where a graph keeps its tensors, read off bytes made by hand; tests/firmware has real graphs and the C reader."""

from __future__ import annotations

import pytest

from device_runtime.errors import FormatError
from device_runtime.format.onnx_files import check_external_files, external_files


def message(field: int, data: bytes) -> bytes:
    """A field that holds text or a message."""
    tag, size = field << 3 | 2, len(data)
    head = bytes([tag]) if tag < 0x80 else bytes([tag & 0x7F | 0x80, tag >> 7])
    return head + (bytes([size]) if size < 0x80 else bytes([size & 0x7F | 0x80, size >> 7])) + data


def tensor(place: bytes) -> bytes:
    return message(8, b"name") + message(13, message(1, b"location") + message(2, place)) + b"\x70\x01"


def model(*initializers: bytes) -> bytes:
    return b"\x08\x09" + message(7, b"".join(message(5, one) for one in initializers) + message(2, b"graph"))


def test_places() -> None:
    assert external_files(model(), "x") == []
    assert external_files(model(tensor(b"a.bin"), tensor(b"b.bin")), "x") == ["a.bin", "b.bin"]
    check_external_files(model(tensor(b"a.bin")), {"a.bin"}, "x")


@pytest.mark.parametrize("place", [b"b.bin", b"", b"./a.bin", b"A.BIN", b"a.bin\0", b"\xff"])
def test_a_place_that_is_not_pinned(place: bytes) -> None:
    with pytest.raises(FormatError, match="not among the manifest's files"):
        check_external_files(model(tensor(b"a.bin"), tensor(place)), {"a.bin"}, "x")


@pytest.mark.parametrize("size", range(1, 40))
def test_a_cut_graph_is_refused_or_names_no_place(size: int) -> None:
    data = model(tensor(b"b.bin"))[:size]
    try:
        found = external_files(data, "x")
    except FormatError:
        return
    assert found == []
