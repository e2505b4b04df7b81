"""What the kernel says of a processor, in a line."""

from pathlib import Path

import pytest

from device_runtime.processor import this_processor

XEON = "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) Platinum 8488C\nflags\t\t: avx2 avx512f avx512_vnni amx_int8\n\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n\n"


@pytest.mark.parametrize(
    ("cpuinfo", "board", "name", "instructions"),
    [
        (XEON * 2, None, "Intel(R) Xeon(R) Platinum 8488C", ("avx2", "avx512f", "avx512_vnni", "amx_int8")),
        (ARM, "Raspberry Pi 5 Model B\0", "Raspberry Pi 5 Model B", ("asimd", "asimddp")),
        (ARM, None, "implementer 0x41, part 0xd0b", ("asimd", "asimddp")),
        (None, None, "unnamed processor", ()),
    ],
)
def test_it_is_named_as_far_as_the_system_tells(
    cpuinfo: str | None, board: str | None, name: str, instructions: tuple[str, ...], tmp_path: Path
) -> None:
    for file, text in (("cpuinfo", cpuinfo), ("model", board)):
        if text is not None:
            (tmp_path / file).write_text(text)
    found = this_processor(tmp_path / "cpuinfo", tmp_path / "model")
    assert (found.name, found.instructions) == (name, instructions)
    assert str(found).startswith(f"{name} (")


def test_this_one_has_cores() -> None:
    assert this_processor().cores >= 1
