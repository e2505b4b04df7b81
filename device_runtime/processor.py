"""What processor this is: timings mean nothing without its name."""

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
BOARD = Path("/proc/device-tree/model")  # ARM boards name themselves here, and hardly ever in cpuinfo
# Instructions that ONNX Runtime's kernels for matrix products choose between.
TELLING = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "amx_int8", "asimd", "asimddp", "i8mm", "sve")


@dataclass(frozen=True, kw_only=True)
class Processor:
    """A processor's name, its machine type as Python names it, cores that may be used, and telling instructions."""

    name: str
    machine: str
    cores: int
    instructions: tuple[str, ...]

    def __str__(self) -> str:
        said = f", {', '.join(self.instructions)}" if self.instructions else ""
        return f"{self.name} ({self.machine}, {self.cores} {'core' if self.cores == 1 else 'cores'}{said})"


def this_processor(cpuinfo: Path = CPUINFO, board: Path = BOARD) -> Processor:
    """Describe the processor that this runs on; what the system does not tell is left out."""
    text = _text(cpuinfo)
    flags = set(_field(text, "flags|Features").split())
    return Processor(
        name=_field(text, "model name") or _text(board).strip("\0\n ") or _parts(text) or "unnamed processor",
        machine=platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        instructions=tuple(one for one in TELLING if one in flags),
    )


def _parts(text: str) -> str:
    """Return the numbers of an ARM core's designer and model: ``implementer 0x41, part 0xd0b``."""
    maker, part = _field(text, "CPU implementer"), _field(text, "CPU part")
    return f"implementer {maker}, part {part}" if maker and part else ""


def _field(text: str, name: str) -> str:
    """Return the value of a field's first line, or nothing."""
    found = re.search(rf"^(?:{name})\s*:\s*(.*?)\s*$", text, re.MULTILINE)
    return found[1] if found else ""


def _text(path: Path) -> str:
    """Read a file of the kernel's; empty where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
