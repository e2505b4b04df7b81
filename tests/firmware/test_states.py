"""learning.json in C: Python's verdict on every manifest, and the state graph gives what Python's session gives."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from device_runtime.errors import DeviceRuntimeError, SelfTestError, UnsupportedError
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.families.patches import whole_patches
from device_runtime.forecast.learning import LearningSession, open_learning
from device_runtime.forecast.session import open_session, run_all
from device_runtime.format import canonical
from tests.support.biased import biased, learning_bundle
from tests.support.rounding import ANY_ORDER

from .conftest import SOURCE, need, run

PROGRAM = r"""
#include "states.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* LIBRARY BUNDLE ADAPTER: contexts of LENGTH floats on standard input. Out: state, loc, scale, forecast of each. */
int main(int argc, char **argv)
{
    fc_settings settings = {.library = argv[1], .threads = 1, .trust_files = argc > 5};
    fc_policy policy = {.need_known_answer = true};
    fc_message message = "";
    fc_base *base;
    fc_states *states;
    uint8_t *data = NULL;
    size_t size = 0, length = (size_t)atoi(argv[4]);
    etsa_err err = fc_base_open(argv[2], &settings, &base, message);
    if (err != ETSA_OK) return fprintf(stderr, "base [%d] %s\n", (int)err, message), 2;
    if (strcmp(argv[3], "-") != 0) err = fc_read_file(argv[3], ETSA_MAX_BLOB_SIZE, &data, &size, message);
    if (err == ETSA_OK) err = fc_learning_open(base, message);
    if (err == ETSA_OK) err = fc_states_open(base, data, size, &policy, &states, message);
    if (err != ETSA_OK) {
        fprintf(stderr, "[%d] %s\n", (int)err, message);
        fc_base_close(base);
        free(data);
        return 1;
    }
    const etl_block *block = fc_states_block(states);
    float *context = malloc(length * sizeof *context), *state = malloc((block->state_size + 2) * sizeof *state);
    float *quantiles = malloc((size_t)block->steps * block->level_count * sizeof *quantiles);
    float *shift = calloc(etl_shift_size(block), sizeof *shift);
    double *scratch = malloc(etl_scratch_size(block));
    while (fread(context, sizeof *context, length, stdin) == length) {
        etl_window window = {.state = state, .varies = true};
        err = fc_state_of(states, context, length, state, &window.loc, &window.scale, message);
        if (err != ETSA_OK) return fprintf(stderr, "[%d] %s\n", (int)err, message), 1;
        state[block->state_size] = window.loc;
        state[block->state_size + 1] = window.scale;
        fwrite(state, sizeof *state, block->state_size + 2, stdout);
        etl_forecast(block, shift, &window, scratch, quantiles);
        fwrite(quantiles, sizeof *quantiles, (size_t)block->steps * block->level_count, stdout);
    }
    free(context), free(state), free(quantiles), free(shift), free(scratch), free(data);
    fc_states_close(states);
    fc_base_close(base);
    return 0;
}
"""
FloatArray = NDArray[np.float32]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("cc")
    folder = tmp_path_factory.mktemp("states")
    (folder / "main.c").write_text(PROGRAM)
    parts = ["forecaster", "refusal", "files", "graphs", "merge", "runtime", "patches", "states", "t5", "tokenizer"]
    sources = [SOURCE / "forecast_ort" / f"{name}.c" for name in parts]
    sources += [SOURCE / "etsa" / f"{name}.c" for name in ("etsa", "etsa_sha256", "etsa_learning")]
    sources.append(SOURCE / "learn" / "etsa_learn.c")
    where = [
        part for name in ("forecast_ort", "etsa", "learn", "third_party/onnxruntime") for part in ("-I", SOURCE / name)
    ]
    flags = ["-std=c99", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    done = run("cc", *flags, *where, folder / "main.c", *sources, "-o", folder / "states", "-ldl", "-lpthread", "-lm")
    assert done.returncode == 0, done.stderr
    return folder / "states"


def asked(
    program: Path, library: Path, bundle: Path, contexts: FloatArray, adapter: Path | str = "-", *more: str
) -> tuple[int, str, FloatArray]:
    """Return the code, what is said, and the numbers."""
    command = [program, library, bundle, adapter, contexts.shape[1], *more]
    done = subprocess.run(
        [str(part) for part in command], input=contexts.astype("<f4").tobytes(), capture_output=True, timeout=120,
        check=False, env={"ASAN_OPTIONS": "detect_leaks=0"},  # onnxruntime keeps what it made to the end
    )  # fmt: skip
    said = done.stderr.decode()
    refused = re.match(r"\[(\d+)\] ", said)
    assert (done.returncode == 0) == (refused is None), said
    return int(refused[1]) if refused else 0, said, np.frombuffer(done.stdout, dtype="<f4").reshape(len(contexts), -1)


def contexts(length: int) -> FloatArray:
    draw = np.random.default_rng(length)
    made = draw.normal(80, 9, (5, length)).astype(np.float32)
    made[draw.random(made.shape) < 0.2] = np.nan
    made[:, -1] = 80
    return made


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learning_bundle(tmp_path_factory.mktemp("learning") / "bundle", "state")


@pytest.mark.parametrize("length", [1, 8, 13, 64])
@pytest.mark.parametrize("adapted", [False, True])
def test_a_state_and_its_forecast_are_pythons(
    program: Path, library: Path, bundle: Path, tmp_path: Path, length: int, adapted: bool
) -> None:
    blob = tmp_path / "own.etsa"
    if adapted:
        blob.write_bytes(biased(bundle, 1))
    code, said, got = asked(program, library, bundle, contexts(length), blob if adapted else "-")
    assert code == 0, said
    session = LearningSession.open(bundle, blob if adapted else None)
    merged = {}
    if session.adapter is not None:
        from device_runtime.forecast.merge import merge

        merged = merge(session.bundle.manifest, session.bundle.tensor, session.adapter)
    with session.bundle.in_memory():
        state = open_session(session.bundle, "state", merged)
    wanted = run_all(state, {"context": whole_patches(contexts(length), 8)})
    size = wanted["state"].shape[1]
    states = np.concatenate([wanted["state"], wanted["loc"], wanted["scale"]], axis=1)
    assert float(np.abs(got[:, : size + 2] - states).max()) <= ANY_ORDER * float(np.abs(states).max())
    raw = session.raw(whole_patches(contexts(length), 8), np.zeros((5, session.size), dtype=np.float32))
    quantiles = got[:, size + 2 :].reshape(raw.shape)
    assert float(np.abs(quantiles - raw).max()) <= ANY_ORDER * float(np.abs(raw).max())


Change = Callable[[dict[str, Any]], object]
CHANGES: dict[str, Change] = {
    "another format": lambda v: v.update(format="edge-tsfm bundle"),
    "a newer version": lambda v: v.update(format_version=4),
    "biases in version 3": lambda v: v.update(format_version=3),
    "FourierFT in version 2": lambda v: v.update(learnable="fourierft"),
    "no version": lambda v: v.pop("format_version"),
    "version 1 with a state": lambda v: v.update(format_version=1),
    "version 1": lambda v: (v.update(format_version=1), v["graphs"].pop("state")),
    "another base": lambda v: v.update(base_digest="0" * 64),
    "no digest": lambda v: v.update(base_digest="x" * 64),
    "a short digest": lambda v: v.update(base_digest="0" * 63),
    "other biases": lambda v: v.update(learnable="weights"),
    "state of all biases": lambda v: v.update(learnable="biases"),
    "no names": lambda v: v.update(names=[]),
    "an unknown name": lambda v: v["names"].append("zzz"),
    "a matrix": lambda v: v.update(names=["output_patch_embedding.hidden_layer.weight"]),
    "names out of order": lambda v: v["names"].reverse(),
    "a name twice": lambda v: v["names"].append(v["names"][-1]),
    "a name that is a number": lambda v: v["names"].append(1),
    "another length": lambda v: v.update(context_length=32),
    "another forecast": lambda v: v.update(prediction_length=8),
    "other levels": lambda v: v["quantile_levels"].pop(),
    "a level moved": lambda v: v["quantile_levels"].__setitem__(0, 0.05),
    "no graph": lambda v: v["graphs"].pop("shifted"),
    "another graph": lambda v: v["graphs"].update(more=v["graphs"]["state"]),
    "a graph without a file": lambda v: v["graphs"]["state"].update(file="none.onnx"),
    "a graph of the base's": lambda v: v["graphs"]["state"].update(file="forecast.onnx"),
    "tensors out of order": lambda v: v["graphs"]["state"]["tensors"].reverse(),
    "an unknown tensor": lambda v: v["graphs"]["state"]["tensors"].append(53),
    "no files": lambda v: v.update(files={}),
    "a file of the base's": lambda v: v["files"].update({"forecast.onnx": v["files"]["state.onnx"]}),
    "itself": lambda v: v["files"].update({"learning.json": v["files"]["state.onnx"]}),
    "a folder": lambda v: v["files"].update({"a/b": v["files"]["state.onnx"]}),
    "another size": lambda v: v["files"]["state.onnx"].update(size=1),
    "another file": lambda v: v["files"]["state.onnx"].update(sha256="0" * 64),
    "a missing file": lambda v: v["files"].update({"none": v["files"]["state.onnx"]}),
    "nothing of note": lambda v: v.update(more="news"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_manifest_has_one_verdict(name: str, program: Path, library: Path, bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    value = json.loads((copy / "learning.json").read_bytes())
    CHANGES[name](value)
    (copy / "learning.json").write_bytes(canonical.dumps(value))
    wanted = 0
    try:
        open_learning(copy)
    except DeviceRuntimeError as error:
        wanted = error.code
    code, said, _ = asked(program, library, copy, contexts(16))
    if name == "version 1":  # Python learns from it; here it has no graph to run
        assert (wanted, code) == (0, 110)
        return
    assert code == wanted, said
    assert code == 0 or "learning.json" in said or "bundle/" in said


def test_coefficients_are_left_to_python(program: Path, library: Path, tmp_path: Path) -> None:
    folder = learning_bundle(tmp_path / "bundle", "fourier")
    assert open_learning(folder)[1].fourier is not None
    code, said, _ = asked(program, library, folder, contexts(16))
    assert code == UnsupportedError.code
    assert "learning.json: of another version, or of something else than biases" in said
    assert "--learnable output-biases" in said


def test_what_is_no_manifest_is_refused(program: Path, library: Path, bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    path = copy / "learning.json"
    whole = path.read_bytes()
    for data, wanted in (
        (b"", 103), (b"[]", 100), (b"{}", 100), (whole[:-1], 103), (whole + b"\n", 103), (b" " * (2**20 + 1), 102),
    ):  # fmt: skip
        path.write_bytes(data)
        with pytest.raises(DeviceRuntimeError) as refused:
            open_learning(copy)
        assert asked(program, library, copy, contexts(16))[0] == refused.value.code == wanted
    path.unlink()
    assert asked(program, library, copy, contexts(16))[0] == 400


def test_no_block_is_read_from_tensors_of_16_bits(program: Path, library: Path, bundle: Path, tmp_path: Path) -> None:
    """Read as 32 bits, the last tensor of the file would go on behind its end."""
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    value = json.loads((copy / "bundle.json").read_bytes())
    entry = next(one for one in value["tensors"] if one["name"] == "output_patch_embedding.hidden_layer.weight")
    weights = (copy / "tunable.safetensors").read_bytes()
    entry.update(offset=len(weights), quantised=True)
    weights += np.zeros(entry["shape"], dtype="<f2").tobytes()
    (copy / "tunable.safetensors").write_bytes(weights)
    value["files"]["tunable.safetensors"] = {"sha256": hashlib.sha256(weights).hexdigest(), "size": len(weights)}
    value["format_version"] = 3
    base = canonical.dumps(value)
    (copy / "bundle.json").write_bytes(base)
    learning = json.loads((copy / "learning.json").read_bytes())
    learning["base_digest"] = hashlib.sha256(base).hexdigest()
    (copy / "learning.json").write_bytes(canonical.dumps(learning))
    with pytest.raises(UnsupportedError, match="quantised"):
        open_learning(copy)
    code, said, _ = asked(program, library, copy, contexts(16))
    assert code == UnsupportedError.code, said


def test_a_state_of_other_weights_is_not_used(program: Path, library: Path, bundle: Path, tmp_path: Path) -> None:
    """The known answer is asked of the state and the block, too: here what the block reads is another base's."""
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    blob = tmp_path / "own.etsa"
    blob.write_bytes(biased(bundle, 1))
    weights = copy / "tunable.safetensors"
    data = bytearray(weights.read_bytes())
    table = {entry.name: entry for entry in Bundle.open(bundle).manifest.tensors}
    moved = table["input_patch_embedding.output_layer.weight"]  # the block's own weights are whole
    data[moved.offset : moved.offset + 4 * moved.size] = np.full(moved.size, 0.5, dtype="<f4").tobytes()
    weights.write_bytes(data)
    code, said, _ = asked(program, library, copy, contexts(16), blob, "trust")
    assert code == SelfTestError.code, said
    assert "known-answer test: off by" in said
