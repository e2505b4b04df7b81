"""Sizes of the core on a GCC, against their ceilings: ``python3 sizes.py --compiler aarch64-linux-gnu-gcc``.

text: code and constants as a product links them: -Os and no unwind tables (those are for debuggers).
The deepest stack is the sum of frames along the calls from a public function, by GCC's own call graph
(-fcallgraph-info=su); nothing here recurses, and there is one call through a pointer: the core's, of the verifier.
The verifier is measured as it is linked: without the functions of Monocypher that it does not call.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent / "etsa"
VENDORED = Path(__file__).parent / "third_party" / "monocypher"
QUALITY = Path(__file__).parent / "quality"
FLAGS = ["-std=c99", "-Os", "-ffp-contract=off", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"]
FLAGS += ["-I", str(QUALITY), "-I", str(HERE)]
SECTIONS = ["-ffunction-sections", "-fdata-sections", "-isystem", str(VENDORED), "-I", str(HERE)]
# bytes: core without cryptography, SHA-256, tracking, learning.json, the encoder and its check, field quality,
# learning, adaptation, the verifier; the deepest stack of ours, and of the verifier
CEILINGS = {
    "etsa.c": 18_432,
    "etsa_sha256.c": 2_048,
    "etsa_tracking.c": 2_048,
    "etsa_learning.c": 6_144,
    "etsa_write.c": 5_120,
    "etsa_write_check.c": 3_072,
    "../quality/etsa_quality.c": 7_168,
    "../quality/etsa_evidence.c": 1_536,
    "../quality/etsa_promotion.c": 1_536,
    "../learn/etsa_learn.c": 5_120,
    "../learn/etsa_adapt.c": 3_584,
    "../learn/etsa_adapt_clean.c": 1_536,
    "../learn/etsa_adapt_following.c": 2_560,
    "../learn/etsa_adapt_image.c": 3_072,
    "../learn/etsa_adapt_rules.c": 3_584,
    "../learn/etsa_adapt_stays.c": 1_536,
    "../learn/etsa_adapt_windows.c": 1_536,
    "../learn/etsa_adapt_work.c": 3_072,
}
VERIFIER_CEILING = 18_432
STACK_CEILING = 2_048
VERIFIER_STACK_CEILING = 4_096
VERIFIER = [HERE / "etsa_monocypher.c", VENDORED / "monocypher.c", VENDORED / "monocypher-ed25519.c"]
ENTRY = "etsa_ed25519_verify"


def compile_one(compiler: str, source: Path, folder: Path, *flags: str) -> Path:
    """Compile one file."""
    out = folder / f"{source.stem}.o"
    subprocess.run([compiler, *FLAGS, *flags, "-c", str(source), "-o", str(out)], check=True)
    return out


def sections(compiler: str, path: Path) -> tuple[int, int, int]:
    """Return text, data and bss in bytes."""
    size = re.sub(r"gcc$", "size", compiler)
    done = subprocess.run([size, str(path)], check=True, capture_output=True, text=True)
    text, data, bss = done.stdout.splitlines()[1].split()[:3]
    return int(text), int(data), int(bss)


def link_verifier(compiler: str, folder: Path) -> Path:
    """Link the verifier and what it calls into one object."""
    parts = [str(compile_one(compiler, source, folder, *SECTIONS)) for source in VERIFIER]
    out = folder / "verifier.o"
    keep = ["-r", "-nostdlib", "-Wl,--gc-sections", f"-Wl,-u,{ENTRY}", f"-Wl,-e,{ENTRY}"]
    subprocess.run([compiler, *keep, *parts, "-o", str(out)], check=True)
    return out


def deepest_stack(compiler: str, folder: Path, sources: list[Path]) -> tuple[int, str]:
    """Return the deepest stack of any of our public functions in ``sources``, and which."""
    frames: dict[str, int] = {}
    calls: dict[str, set[str]] = {}
    for source in sources:
        compile_one(compiler, source, folder, *SECTIONS, "-fcallgraph-info=su")
        text = (folder / f"{source.stem}.ci").read_text(encoding="utf-8")
        for name, size in re.findall(r'node: \{ title: "([^"]+)" label: "[^"]*\\n(\d+) bytes \(', text):
            frames[name] = int(size)
        for caller, callee in re.findall(r'sourcename: "([^"]+)" targetname: "([^"]+)"', text):
            calls.setdefault(caller, set()).add(callee)

    def depth(name: str) -> int:
        return frames.get(name, 0) + max((depth(callee) for callee in calls.get(name, ())), default=0)

    public = [name for name in frames if name.startswith(("etsa_", "etst_", "etq_", "etl_", "eta_"))]
    deepest = max(public, key=depth)
    return depth(deepest), deepest


def main() -> int:
    """Print the table; 1 when a ceiling is passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compiler", default="gcc", help="a GCC: its version of `size` is used too")
    compiler = parser.parse_args().compiler
    passed = False
    lines = [f"{compiler} {' '.join(FLAGS[:5])}", f"{'file':<26}{'text':>8}{'data':>8}{'bss':>8}{'ceiling':>10}"]
    with tempfile.TemporaryDirectory() as name:
        for source, ceiling in CEILINGS.items():
            text, data, bss = sections(compiler, compile_one(compiler, HERE / source, Path(name)))
            lines.append(f"{Path(source).name:<26}{text:>8}{data:>8}{bss:>8}{ceiling:>10}")
            passed = passed or text > ceiling or data + bss > 0
        text, data, bss = sections(compiler, link_verifier(compiler, Path(name)))
        lines.append(f"{'verifier':<26}{text:>8}{data:>8}{bss:>8}{VERIFIER_CEILING:>10}")
        passed = passed or text > VERIFIER_CEILING or data + bss > 0
        for what, sources, ceiling in (
            ("deepest stack", [HERE / source for source in CEILINGS], STACK_CEILING),
            ("verifier stack", VERIFIER, VERIFIER_STACK_CEILING),
        ):
            stack, function = deepest_stack(compiler, Path(name), sources)
            lines.append(f"{what:<26}{stack:>8}{'':>16}{ceiling:>10}  {function}")
            passed = passed or stack > ceiling
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if passed else 0


if __name__ == "__main__":
    sys.exit(main())
