"""Build firmware_examples and let ctest run the vectors, on every processor there is a compiler for."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from .conftest import SOURCE, build, need, run

CROSS = {
    "aarch64-linux-gnu": ("aarch64-linux-gnu-gcc", "qemu-aarch64-static"),
    "arm-linux-gnueabihf": ("arm-linux-gnueabihf-gcc", "qemu-arm-static"),
}


def ctest(folder: Path, skipped: str = "0") -> None:
    done = run("ctest", "--test-dir", folder, "--output-on-failure")
    assert done.returncode == 0, done.stdout[-4000:]
    assert "100% tests passed, 0 tests failed out of 2" in done.stdout
    log = (folder / "Testing" / "Temporary" / "LastTest.log").read_text()
    assert re.findall(r"^\d+ vectors, (\d+) failures, (\d+) skipped", log, flags=re.MULTILINE) == [("0", skipped)] * 2


def test_this_machine(built: Path) -> None:
    ctest(built)


@pytest.mark.slow
@pytest.mark.parametrize("target", CROSS)
def test_under_qemu(target: str, tmp_path: Path) -> None:
    need("cmake", *CROSS[target])
    ctest(build(tmp_path, f"-DCMAKE_TOOLCHAIN_FILE={SOURCE / 'toolchains' / target}.cmake"))


@pytest.mark.slow
def test_sanitizers(tmp_path: Path) -> None:
    ctest(build(tmp_path, "-DETSA_SANITIZE=ON", "-DCMAKE_BUILD_TYPE=Debug"))


def test_a_skipped_vector_is_a_failure_unless_it_was_asked_for(tmp_path: Path) -> None:
    need("cmake", "cc")
    build(tmp_path, "-DETSA_ED25519=none")
    count = sum(b"what: signed" in path.read_bytes() for path in (SOURCE.parent / "tests" / "vectors").rglob("*.vec"))
    assert count > 20
    ctest(tmp_path, skipped=str(count))
    signed = SOURCE.parent / "tests" / "vectors" / "signed" / "ok.vec"
    assert run(tmp_path / "test" / "vectors", signed).returncode == 1
    assert run(tmp_path / "test" / "vectors", "--without-signatures", signed).returncode == 0


@pytest.mark.slow
def test_libsodium(tmp_path: Path) -> None:
    if not Path("/usr/include/sodium.h").exists():
        pytest.skip("needs libsodium-dev")
    ctest(build(tmp_path, "-DETSA_ED25519=sodium"))


def test_vendored_files_are_unchanged() -> None:
    folder = SOURCE / "third_party" / "monocypher"
    stated = dict(
        re.findall(r"^\| `([\w.-]+)` \| `([0-9a-f]{64})` \|$", (folder / "README.md").read_text(), re.MULTILINE)
    )
    assert set(stated) == {path.name for path in folder.glob("*.[ch]")}
    for name, digest in stated.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


@pytest.mark.slow
def test_clang(tmp_path: Path) -> None:
    need("clang")
    ctest(build(tmp_path, "-DCMAKE_C_COMPILER=clang"))


@pytest.mark.slow
def test_cppcheck() -> None:
    need("cppcheck")
    done = run("sh", SOURCE / "cppcheck.sh")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_sizes_are_under_their_ceilings() -> None:
    need("aarch64-linux-gnu-gcc")
    done = run("python3", SOURCE / "sizes.py", "--compiler", "aarch64-linux-gnu-gcc")
    assert done.returncode == 0, done.stdout + done.stderr


def test_core_needs_only_memory_functions(built: Path) -> None:
    """What a microcontroller must bring: four functions of string.h."""
    need("nm")
    undefined = set(re.findall(r" U (\w+)", run("nm", built / "libetsa.a").stdout))
    ours = {name for name in undefined if name.startswith(("etsa_", "etsw_"))}
    fortified = {"__memcpy_chk", "__memset_chk", "__memmove_chk", "__stack_chk_fail", "_GLOBAL_OFFSET_TABLE_"}
    allowed = {"memcpy", "memset", "memmove", "memcmp", "memchr", "strlen"}
    assert undefined - ours - fortified <= allowed
