"""The C service's quality file: the Python runtime's form, whole after a power cut, begun anew where it is damaged."""

from __future__ import annotations

import hashlib
import random
import resource
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_runtime.quality.field import FieldQuality
from device_runtime.quality.pending import Made
from device_runtime.quality.rules import QualityRules
from device_runtime.update.disk import PosixDisk
from device_runtime.update.field_store import QUALITY, load, published, save
from device_runtime.update.sealed import seal, unseal
from tests.simulators.disk import MemoryDisk, Operation, crash_states

from .conftest import SOURCE, need, run

HOUR, H = 3_600_000, 6
RULES = QualityRules(shadow_every=1, min_reported=20)
PROGRAM = r"""
#include "quality_file.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
etsa_err fc_read_file(const char *path, size_t limit, uint8_t **data, size_t *size, fc_message message)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) abort();
    *data = malloc(limit + 1);
    *size = fread(*data, 1, limit + 1, file);
    fclose(file);
    message[0] = '\0';
    return *size <= limit ? ETSA_OK : ETSA_SIZE_ERROR;
}
int main(int argc, char **argv) /* OUT IN ...: read each, and write what it has to OUT; an OUT of - writes nothing */
{
    etq_signal *signals = calloc(8, sizeof *signals);
    fc_message message;
    uint32_t count;
    for (int i = 2; i < argc; i++) {
        bool good = qf_load(argv[i], signals, 8, &count, message);
        printf("load %d %u %s\n", good, (unsigned)count, message);
        if (!good && message[0] != '\0') continue;
        if (strcmp(argv[1], "-") != 0) printf("save %d %s\n", (int)qf_save(argv[1], signals, count, message), message);
        fflush(stdout);
    }
    free(signals);
    return 0;
}
"""
TRACED = r"""
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
static int traced_open(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    int handle = open(path, flags, va_arg(more, int));
    va_end(more);
    printf("open %d %s\n", handle, path);
    return handle;
}
static ssize_t traced_write(int handle, const void *data, size_t size)
{
    ssize_t done = write(handle, data, size);
    printf("write %d ", handle);
    for (ssize_t i = 0; i < done; i++) printf("%02x", ((const unsigned char *)data)[i]);
    printf("\n");
    return done;
}
static int traced_fsync(int handle)
{
    printf("fsync %d\n", handle);
    return fsync(handle);
}
static int traced_rename(const char *from, const char *to)
{
    printf("rename %s %s\n", from, to);
    return rename(from, to);
}
static int traced_unlink(const char *path)
{
    int done = unlink(path);
    if (done == 0) printf("unlink %s\n", path);
    return done;
}
#define open(...) traced_open(__VA_ARGS__, 0)
#define write traced_write
#define fsync traced_fsync
#define rename traced_rename
#define unlink traced_unlink
"""


@dataclass(frozen=True)
class Programs:
    """Two of the same: one sanitized, one that prints each operation on files."""

    plain: Path
    traced: Path


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    need("cc")
    folder = tmp_path_factory.mktemp("quality_file")
    (folder / "main.c").write_text(PROGRAM)
    (folder / "traced.h").write_text(TRACED)
    parts = ["service/quality_file.c", "quality/etsa_quality.c", "quality/etsa_evidence.c", "etsa/etsa_sha256.c"]
    where = [part for name in ("service", "quality", "etsa", "forecast_ort") for part in ("-I", SOURCE / name)]
    base = ["cc", "-std=c99", "-D_POSIX_C_SOURCE=200809L", "-g", "-O1", *where, folder / "main.c"]
    sources = [SOURCE / part for part in parts]
    for name, flags in (
        ("plain", ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", *sources]),
        ("traced", ["-include", folder / "traced.h", *sources]),
    ):
        done = run(*base, *flags, "-o", folder / name, "-lm", "-lpthread")
        assert done.returncode == 0, done.stderr
    return Programs(folder / "plain", folder / "traced")


def field_of(seed: int, steps: int = 150, *, signals: Sequence[str] = ("MAP", "HR"), levels: int = 9) -> FieldQuality:
    """Figures of several signals and forecasters, with everything that a file may hold."""
    rng = np.random.default_rng(seed)
    field = FieldQuality(RULES, ratio=1.02)
    at = tuple((np.arange(levels) + 1) / (levels + 1))
    for name in signals:
        for step in range(steps):
            field.observe(name, step * 3 * HOUR, 80.0 + float(rng.normal()), interval_ms=HOUR)
            field.wants(name, H, levels)
            runs = f"{1 + step // 40 % 4:064x}"
            made = [np.sort(80 + rng.normal(0, 2 + n, (H, levels)), 1).astype(np.float32) for n in range(3)]
            shadows = {"base": Made(adapter=None, quantiles=made[1])}
            if seed % 2:
                shadows["previous"] = Made(adapter="f" * 64, quantiles=made[2])
            context = np.full(8, 80, dtype=np.float32)
            field.remember(name, Made(adapter=runs, quantiles=made[0]), at, context, shadows)
    return field


def written(folder: Path, field: FieldQuality) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save(PosixDisk(folder), field)
    return folder / QUALITY


def restored(folder: Path) -> FieldQuality:
    field = FieldQuality(RULES, ratio=1.02)
    assert load(PosixDisk(folder), field) == ""
    return field


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("levels", [9, 1, 64])
def test_c_reads_what_python_wrote_and_writes_the_same(
    programs: Programs, tmp_path: Path, seed: int, levels: int
) -> None:
    field = field_of(seed, levels=levels)
    source, out = written(tmp_path / "in", field), tmp_path / "out" / QUALITY
    out.parent.mkdir()
    done = run(programs.plain, out, source)
    assert (done.returncode, done.stdout.splitlines()) == (0, ["load 1 2 ", "save 0 "]), done.stderr
    assert restored(out.parent).to_value() == field.to_value()
    assert published(PosixDisk(out.parent)) == field.published() != {}
    assert [path.name for path in out.parent.iterdir()] == [QUALITY]


def test_a_file_of_nothing_is_one(programs: Programs, tmp_path: Path) -> None:
    out = tmp_path / QUALITY
    done = run(programs.plain, out, tmp_path / "none")
    assert done.stdout.splitlines() == ["load 0 0 ", "save 0 "]
    assert restored(tmp_path).figures() == {}
    assert run(programs.plain, "-", out).stdout == "load 1 0 \n"


def test_a_damaged_file_is_said_and_nothing_of_it_is_used(programs: Programs, tmp_path: Path) -> None:
    whole = written(tmp_path, field_of(1)).read_bytes()
    draw = random.Random(1)
    paths = []
    for number in range(200):
        data = bytearray(whole)
        if number % 2:
            del data[draw.randrange(len(data)) :]
        else:
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        paths.append(tmp_path / f"damaged-{number}")
        paths[-1].write_bytes(data)
    done = run(programs.plain, "-", *paths)
    said = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert len(said) == 200
    assert all(
        line.startswith("load 0 0 ") and line.endswith("is damaged: its SHA-256 does not match") for line in said
    )


def test_what_is_sealed_and_no_quality_file_is_refused_or_read_without_harm(programs: Programs, tmp_path: Path) -> None:
    value = unseal(written(tmp_path, field_of(1)).read_bytes(), QUALITY)
    text = seal(value)[65:-1]
    draw = random.Random(2)
    paths = []
    for number in range(400):
        data = bytearray(text)
        for _ in range(1 + number % 3):
            at = draw.randrange(len(data))
            kind = draw.randrange(3)
            if kind == 0:
                del data[at : at + draw.randrange(1, 60)]
            elif kind == 1:
                data[at : at + 1] = draw.choice([b"-", b"1e999", b"[", b"]", b'"', b"null", b"NaN", b"\\", b"9" * 400])
            else:
                data[at:at] = data[draw.randrange(len(data)) :][:40]
        paths.append(tmp_path / f"mutant-{number}")
        body = bytes(data)
        paths[-1].write_bytes(reseal(body))
    for junk in (b"", b" ", b"0" * 64, b"0" * 64 + b" \n"):
        paths.append(tmp_path / f"junk-{len(paths)}")
        paths[-1].write_bytes(junk)
    for other in ({"version": 2}, [], {**value, "version": 2}, {**value, "signals": {"MAP": [1]}}):
        paths.append(tmp_path / f"other-{len(paths)}")
        paths[-1].write_bytes(seal(other))
    done = run(programs.plain, tmp_path / "out", *paths)
    assert done.returncode == 0, done.stderr[-3_000:]
    loads = [line for line in done.stdout.splitlines() if line.startswith("load")]
    assert len(loads) == len(paths)
    assert all(line.startswith("load 0") for line in loads[-8:])
    assert sum(line.startswith("load 0") for line in loads) > 300


def reseal(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode() + b" " + body + b"\n"


def test_a_disk_that_takes_no_more_keeps_the_file_that_is_there(programs: Programs, tmp_path: Path) -> None:
    source, out = written(tmp_path / "in", field_of(2)), written(tmp_path / "out", field_of(3))
    before = out.read_bytes()

    def small() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))

    done = subprocess.run(
        [programs.traced, out, source], capture_output=True, text=True, preexec_fn=small, check=False, timeout=60
    )
    assert f"save 400 cannot write {tmp_path}/out/.tmp-{QUALITY}: File too large" in done.stdout
    assert out.read_bytes() == before


def operations(said: str) -> list[Operation]:
    """Turn what the traced program did into the enumerator's operations; names are those in the folder."""
    names: dict[str, str] = {}
    log: list[Operation] = []
    fresh: set[str] = set()
    for line in said.splitlines():
        what, *words = line.split(" ")
        if what == "open" and int(words[0]) >= 0:
            path = Path(words[1])
            names[words[0]] = "" if path.is_dir() else path.name
            fresh.add(words[0])
        elif what == "write":
            first = words[0] in fresh
            fresh.discard(words[0])
            kind = "write" if first else "append"
            log.append(Operation(what=kind, name=names[words[0]], data=bytes.fromhex(words[1])))
        elif what == "fsync":
            name = names[words[0]]
            log.append(Operation(what="sync", name=name) if name else Operation(what="sync_folder", name=""))
        elif what == "rename":
            log.append(Operation(what="rename", name=Path(words[0]).name, other=Path(words[1]).name))
        elif what == "unlink":
            log.append(Operation(what="unlink", name=Path(words[0]).name))
        elif what == "save":
            assert words[0] == "0", line
            log.append(Operation(what="done", name=str(sum(one.what == "done" for one in log))))
    return log


@pytest.fixture(scope="module")
def three_writes(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Operation], list[Any]]:
    """What three writes did to files, and the figures of each, nothing first."""
    folder = tmp_path_factory.mktemp("cut")
    fields = [field_of(number) for number in range(3)]
    sources = [written(folder / str(number), field) for number, field in enumerate(fields)]
    (folder / "state").mkdir()
    done = run(programs.traced, folder / "state" / QUALITY, *sources)
    return operations(done.stdout), [FieldQuality(RULES).to_value(), *(field.to_value() for field in fields)]


def bad(log: list[Operation], values: list[Any]) -> tuple[int, list[str]]:
    count, found = 0, []
    for state in crash_states({}, log):
        count += 1
        field = FieldQuality(RULES, ratio=1.02)
        problem = load(MemoryDisk(files=dict(state.files)), field)
        acknowledged = len(state.done)
        if problem:
            found.append(f"after {state.after}: {problem}")
        elif field.to_value() not in values[acknowledged : acknowledged + 2]:
            found.append(f"after {state.after}: figures of no write, or older than write {acknowledged}")
    return count, found


def test_no_power_cut_leaves_figures_that_nobody_wrote(three_writes: tuple[list[Operation], list[Any]]) -> None:
    log, values = three_writes
    assert [one.what for one in log if one.what != "append"] == ["write", "sync", "rename", "sync_folder", "done"] * 3
    assert any(one.what == "append" for one in log)  # more than one buffer
    count, found = bad(log, values)
    print(f"{count} crash states, {len(found)} bad")  # noqa: T201 - docs/reference/field-quality.md quotes it
    assert not found


@pytest.mark.parametrize("sync", ["sync", "sync_folder"])
def test_the_enumerator_finds_a_removed_sync(three_writes: tuple[list[Operation], list[Any]], sync: str) -> None:
    log, values = three_writes
    assert bad([replace(one) for one in log if one.what != sync], values)[1]
