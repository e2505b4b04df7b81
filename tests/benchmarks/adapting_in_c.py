"""What adaptation in C holds and takes beside the state graph's runs: ``python -m tests.benchmarks.adapting_in_c``.

Processor time on one thread, the median of 21 stays; weights and stays are random: time and memory do not
depend on them.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from tests.benchmarks.learning_in_c import LEARN, SHAPES

HERE = Path(__file__).parent
QUALITY = LEARN.parent / "quality"
STREAMS = {"hourly": (3_600_000, 48, 6, 96), "1 Hz": (1_000, 128, 30, 480)}  # ms, context, steps ahead, steps of a stay
WINDOWS = (256, 1_024)


def built(folder: Path) -> Path:
    """Compile the program."""
    program = folder / "adapting"
    sources = [HERE / "adapting_in_c.c", LEARN / "etsa_learn.c"]
    sources += [one for one in sorted(LEARN.glob("etsa_adapt*.c")) if "following" not in one.name]
    sources += [QUALITY / "etsa_promotion.c", QUALITY / "etsa_evidence.c"]
    command = ["cc", "-std=c99", "-O2", "-ffp-contract=off", "-I", LEARN, "-I", QUALITY, *sources, "-o", program, "-lm"]
    subprocess.run([str(part) for part in command], check=True)
    return program


def main() -> None:
    """Print the table."""
    print("| Shape | stream | windows | struct | memory | kept on disk | a stay | its longest piece |")  # noqa: T201
    print("|---|---|--:|--:|--:|--:|--:|--:|")  # noqa: T201
    with tempfile.TemporaryDirectory() as folder:
        program = built(Path(folder))
        for name, (state, hidden) in SHAPES.items():
            for stream, (interval_ms, context, steps, stay) in STREAMS.items():
                for windows in WINDOWS:
                    given = (state, hidden, interval_ms, context, steps, windows, stay)
                    command = [str(program), *map(str, given)]
                    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
                    struct, memory, kept, whole, longest = said
                    print(  # noqa: T201
                        f"| {name} | {stream} | {windows:,} | {int(struct):,} bytes | {int(memory) / 1024:.0f} KB "
                        f"| {int(kept) / 1024:.0f} KB | {whole} ms | {longest} ms |"
                    )


if __name__ == "__main__":
    main()
