"""The files that etsa-service and the hand-over share: whole after a power cut, refused where they are none of ours."""

from __future__ import annotations

import hashlib
import random
import resource
import signal
import subprocess
from pathlib import Path

import pytest

from tests.simulators.disk import Operation, crash_states

from .conftest import SOURCE, need, run
from .test_quality_file import TRACED, operations

PROGRAM = r"""
#include "adapt_rules_file.h"
#include "sealed_file.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* FOLDER save TEXT...: write each to "learner". FOLDER load: read it, and the one before. FOLDER rules: read those. */
static void load(const char *folder, const char *name)
{
    fc_message message;
    uint8_t *data, *body;
    size_t size;
    etsa_err err = sf_load(folder, name, &data, &body, &size, message);
    printf("load %d %s %s\n", (int)err, body == NULL ? "-" : (const char *)body, message);
    free(data);
}
int main(int argc, char **argv)
{
    fc_message message;
    if (strcmp(argv[2], "rules") == 0) {
        static ar_rules rules;
        bool there;
        etsa_err err = ar_load(argv[1], &rules, &there, message);
        printf("%d %d %s|%s|%u|%.17g|%u %u\n", (int)err, there, message, rules.signal, rules.tensor_count,
               rules.config.rules.learning.rate, (unsigned)rules.config.rules.mode, (unsigned)rules.config.steps);
    } else if (strcmp(argv[2], "load") == 0) {
        load(argv[1], "learner");
        load(argv[1], ".old-learner");
    }
    for (int i = 3; i < argc; i++) {
        const uint8_t *text = (const uint8_t *)argv[i];
        etsa_err err = sf_save(argv[1], "learner", true, text, strlen(argv[i]) / 2, text + strlen(argv[i]) / 2,
                               strlen(argv[i]) - strlen(argv[i]) / 2, message);
        printf("save %d %s\n", (int)err, err == ETSA_OK ? "" : message);
        fflush(stdout);
    }
    return 0;
}
"""
LINK = r"""
static int traced_link(const char *from, const char *to)
{
    int done = link(from, to);
    if (done == 0) printf("link %s %s\n", from, to);
    return done;
}
#define link traced_link
"""
TEXTS = ["a" * 3_000, "b" * 3_000, "c" * 9_000]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One sanitized, one that prints each operation on files."""
    need("cc")
    folder = tmp_path_factory.mktemp("adapt_files")
    (folder / "main.c").write_text(PROGRAM)
    (folder / "traced.h").write_text(TRACED + LINK)
    parts = ["service/sealed_file.c", "service/adapt_rules_file.c", "etsa/etsa_sha256.c", "forecast_ort/arguments.c"]
    parts += [
        "learn/etsa_adapt_rules.c",
        "forecast_ort/files.c",
        "forecast_ort/refusal.c",
        "etsa/etsa.c",
        "etsa/etsa_learning.c",
    ]
    names = ("service", "quality", "etsa", "forecast_ort", "learn", "third_party/onnxruntime")
    where = [part for name in names for part in ("-I", SOURCE / name)]
    base = ["cc", "-std=c99", "-D_POSIX_C_SOURCE=200809L", "-D_DEFAULT_SOURCE", "-g", "-O1", *where, folder / "main.c"]
    for name, flags in (
        ("plain", ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]),
        ("traced", ["-include", folder / "traced.h"]),
    ):
        done = run(*base, *flags, *(SOURCE / part for part in parts), "-o", folder / name, "-lm")
        assert done.returncode == 0, done.stderr
    return folder / "plain", folder / "traced"


def log_of(said: str) -> list[Operation]:
    """What was done to files, links among it."""
    log: list[Operation] = []
    for line in said.splitlines():
        what, *words = line.split(" ")
        if what == "link":
            log.append(Operation(what="link", name=Path(words[0]).name, other=Path(words[1]).name))
            continue
        log.append(Operation(what="raw", name=line))
    lines = "\n".join(one.name for one in log if one.what == "raw")
    rest = iter(operations(lines))
    kinds = ("open ", "load")  # lines that are no operation
    return [
        one if one.what == "link" else next(rest) for one in log if one.what == "link" or not one.name.startswith(kinds)
    ]


def test_no_power_cut_leaves_anything_but_what_was_written(programs: tuple[Path, Path], tmp_path: Path) -> None:
    done = run(programs[1], tmp_path, "save", *TEXTS)
    assert done.returncode == 0, done.stderr
    log = log_of(done.stdout)
    assert [one.what for one in log if one.what == "done"] == ["done"] * 3
    count, bad = 0, []
    for number, state in enumerate(crash_states({}, log)):
        count += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, data in state.files.items():
            (folder / name).write_bytes(data)
        said = run(programs[0], folder, "load").stdout.splitlines()
        got = said[0].split(" ")[2]
        wanted = ["-", *TEXTS][len(state.done) : len(state.done) + 2]
        if got not in wanted:
            bad.append(f"after {state.after}: {said[0][:40]}")
    print(f"{count} crash states, {len(bad)} bad")  # noqa: T201 - docs/guides/adaptation.md quotes it
    assert count > 20
    assert not bad


def test_a_damaged_file_leaves_the_one_before(programs: tuple[Path, Path], tmp_path: Path) -> None:
    assert run(programs[0], tmp_path, "save", *TEXTS[:2]).stdout == "save 0 \n" * 2
    whole, draw = (tmp_path / "learner").read_bytes(), random.Random(1)
    for number in range(100):
        data = bytearray(whole)
        if number % 2:
            del data[draw.randrange(len(data)) :]
        else:
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        (tmp_path / "learner").write_bytes(data)
        first, second = run(programs[0], tmp_path, "load").stdout.splitlines()
        assert first.startswith("load 101 - ")
        assert second == f"load 0 {TEXTS[0]} "


def test_a_full_disk_keeps_what_is_there(programs: tuple[Path, Path], tmp_path: Path) -> None:
    run(programs[0], tmp_path, "save", TEXTS[0])

    def small() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))

    command = [str(programs[1]), str(tmp_path), "save", TEXTS[2]]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=small, check=False, timeout=60)
    assert f"save 400 cannot write {tmp_path}/.tmp-learner: File too large" in done.stdout
    assert run(programs[0], tmp_path, "load").stdout.splitlines()[0] == f"load 0 {TEXTS[0]} "
    assert sorted(path.name for path in tmp_path.iterdir()) == ["learner"]  # the room is free again


RULES = """version 1
base {zeros}
learning {zeros}
has_parent 0
parent {zeros}
envelope 7
generation 3
by_device 1
tensors 47,49,51
signal own signal
code
unit /min
interval_us 3600000000
context_length 24
prediction_length 6
low -inf
high inf
plausible_low 0x0.0p+0
plausible_high 250
gap_steps 0
ms_per_minute 200.0
kib_per_day 4096
level 80
spread 10
mode active
windows 1024
new_windows 8
kept_windows 40
keep_on_disk 0
stride 0
steps 0
batch 32
first_windows 0
rate 0x1.0624dd2f1a9fcp-10
average 0
blend 0.5
anchor 0
clip_norm 1
cap_tensor 0.2
cap_day 0.1
clip_spreads 20
scored_windows 32
promote_evidence 20
promote_stays 0
demote_evidence 20
long_stream 0
offset_rate 0.001
width_rate 0
cap_tracking 0.5
seed 0
jump_spreads 6
jump_share 0.2
jump_steps 16
flat_steps 0
""".replace("code\n", "code \n").format(zeros="0" * 64)


def put(folder: Path, text: str) -> None:
    body = text.encode()
    (folder / "rules").write_bytes(hashlib.sha256(body).hexdigest().encode() + b" " + body)


def test_rules_are_read_to_the_last_bit_and_nothing_else_is(programs: tuple[Path, Path], tmp_path: Path) -> None:
    assert run(programs[0], tmp_path, "rules").stdout.startswith("0 0 |")
    put(tmp_path, RULES)
    assert run(programs[0], tmp_path, "rules").stdout == "0 1 |own signal|3|0.001|3 6\n"
    lines = RULES.splitlines(keepends=True)
    for number, line in enumerate(lines):
        name = line.split(" ")[0]
        others = ["", line + line] + [f"{name} ?\n"] * (name not in ("signal", "code", "unit"))
        for other in others:
            put(tmp_path, "".join([*lines[:number], other, *lines[number + 1 :]]))
            said = run(programs[0], tmp_path, "rules").stdout
            assert said.split(" ")[0] in ("100", "110"), (line, other, said)
    for wrong, code in (
        (RULES + "more 1\n", 100),
        (RULES.replace("mode active", "mode ever"), 100),
        (RULES.replace("47,49,51", "1,2,3,4"), 100),
        (RULES.replace("level 80", "level nan"), 100),
        (RULES.replace("level 80", "level inf"), 100),
        (RULES.replace("own signal", "x" * 65), 100),
        (RULES.replace("cap_tensor 0.2", "cap_tensor 2"), 600),
        (RULES.replace("ms_per_minute 200.0", "ms_per_minute 0"), 600),
        (RULES.replace("interval_us 3600000000", "interval_us 1500"), 600),
        (RULES.replace("version 1", "version 2"), 110),
    ):
        put(tmp_path, wrong)
        assert run(programs[0], tmp_path, "rules").stdout.startswith(f"{code} 1 "), wrong
    (tmp_path / "rules").write_bytes((tmp_path / "rules").read_bytes()[:-1])
    assert run(programs[0], tmp_path, "rules").stdout.startswith("101 0 ")
