"""What learning in C takes, in time and memory: ``python -m tests.benchmarks.learning_in_c [BUNDLE]``.

Processor time on one thread, the median of 21, of the micro and the tiny shape with random weights: time and memory do
not depend on them. With a bundle that has learning graphs its step in ONNX Runtime, from Python, is measured beside.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from device_runtime.forecast.learning import LearningSession
from tests.benchmarks.learning import ONE, timed, windows

HERE = Path(__file__).parent
LEARN = HERE.parents[1] / "firmware_examples" / "learn"
SHAPES = {"micro": (128, 512), "tiny": (256, 1024)}
BATCHES, STEPS = (8, 32), (6, 30)


def built(folder: Path) -> Path:
    """Compile the program."""
    program = folder / "learning"
    command = ["cc", "-std=c99", "-O2", "-I", LEARN, HERE / "learning_in_c.c", LEARN / "etsa_learn.c", "-o", program]
    subprocess.run([*command, "-lm"], check=True)
    return program


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", nargs="?", help="time its learning graph beside")
    given = parser.parse_args()
    print("| Shape | steps ahead | numbers | forecast of a state | batch | step | memory | a kept window |")  # noqa: T201
    print("|---|--:|--:|--:|--:|--:|--:|--:|")  # noqa: T201
    with tempfile.TemporaryDirectory() as folder:
        program = built(Path(folder))
        for name, (state, hidden) in SHAPES.items():
            for steps in STEPS:
                for batch in BATCHES:
                    command = [str(program), *map(str, (state, hidden, steps, batch))]
                    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
                    numbers, forecast, step, memory, window = said
                    print(  # noqa: T201
                        f"| {name} | {steps} | {int(numbers):,} | {forecast} ms | {batch} | {step} ms "
                        f"| {int(memory) / 1024:.0f} KB | {int(window):,} bytes |"
                    )
    if given.bundle:
        session = LearningSession.open(given.bundle, settings=ONE)
        shift = np.zeros(session.size, dtype=np.float32)
        for batch in BATCHES:
            (took,) = timed(partial(session.gradients, *windows(batch), shift))
            print(f"{given.bundle} in ONNX Runtime, {session.size} numbers, batch {batch}: {took:.2f} ms")  # noqa: T201


if __name__ == "__main__":
    main()
