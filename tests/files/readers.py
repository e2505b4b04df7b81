"""Every reader that fills a dataclass from a file, with a good file of its kind.

`test_every_reader` compares this table with the calls of `bind` in the code, so a new one cannot be left out.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from device_runtime.adapt import envelope
from device_runtime.adapt.rules import AdaptRules
from device_runtime.binder import bind
from device_runtime.documents import read_toml
from device_runtime.errors import DeviceRuntimeError, FormatError, SettingsError, StorageError
from device_runtime.format import canonical, proofs, static
from device_runtime.format.learning import Learning
from device_runtime.format.manifest import Manifest
from device_runtime.update import adapt_asked, floor, learner_store, lifecycle, notes, rollout, service_health
from device_runtime.update.settings import DeviceConfig
from device_runtime.update.settings import read_config as read_device
from edge_tsfm.deploy import acceptance as gate
from edge_tsfm.deploy import acts, ledger, rings, sbom, setup
from edge_tsfm.deploy.controller import Plan, read_plan
from edge_tsfm.deploy.envelope import EnvelopeFile, EvidenceFile, read_evidence
from edge_tsfm.deploy.evidence import Act, EvaluationFile, RecordFile, StatementFile
from edge_tsfm.deploy.repository import Repository, RepositoryFile
from edge_tsfm.deploy.signers import KeyRef
from edge_tsfm.errors import ConfigError, DataError, DeployError, EdgeTsfmError, ModelError, TrainError
from edge_tsfm.models import load_base
from edge_tsfm.models.base_config import Architecture, BoltConfig, Chronos2Config, T5Config
from edge_tsfm.research.bench_table import SCHEMA, BenchTable, Setting, continued
from edge_tsfm.research.pretraining.bundle import bundle_base
from edge_tsfm.research.pretraining.config import PretrainConfig, read_config
from edge_tsfm.research.study.config import MethodTable, StudyFile, load_study
from edge_tsfm.research.study.latency import LATENCY_FOLDER, Latency, measure_latencies
from edge_tsfm.research.study.scores import ScoresRecord, read_scores
from edge_tsfm.runs.adapt_eval import read_rules
from edge_tsfm.runs.record import CellRecord, RunRecord, read_record
from edge_tsfm.training.config import TrainConfig, load_config
from tests.files.mutate import to_json, to_toml

DUMMY = Path(__file__).resolve().parents[1] / "dummy_bases" / "chronos-bolt-bundle" / "bundle.json"
SHA = "ab" * 32
KEY: dict[str, Any] = {"uri": "file2:quality-1.pem", "keyid": SHA, "public": {
    "keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "cd" * 32}}}  # fmt: skip
OTHER_KEY = {**KEY, "public": {**KEY["public"], "keyval": {"public": "ef" * 32}}}
ONLINE_KEY = {**KEY, "keyid": "12" * 32}
STAGE = {"permille": 10, "groups": ["canary"], "min_reports": 2, "success_percent": 90.0, "approval": True}
SPREAD = {"median": 2.0, "low": 1.5, "high": 3.0}
PROOF = {
    "provider": "openvino:cpu", "execution_provider": "OpenVINOExecutionProvider", "version": "1.8.1", "library": SHA,
    "onnxruntime": "1.32.0", "options": SHA, "cpu_fallback": False, "graphs": ["forecast"], "shape": "", "static": "",
    "exact": True, "max_deviation_ppm": 0.0, "tolerance_ppm": 0.0, "mean_deviation_ppm": 0.4,
    "largest_deviation_ppm": 4.6, "tensors": 3, "weakest": "a.bias", "weakest_margin": 9.0, "effect_kept": 1.0,
    "effect_of": "", "nodes": 30, "nodes_on_cpu": 0, "device": "a processor"}  # fmt: skip
LEARNING = {
    "format": "edge-tsfm learning", "format_version": 1, "base_digest": SHA, "learnable": "biases", "names": ["a.bias"],
    "context_length": 64, "prediction_length": 16, "quantile_levels": [0.1, 0.5, 0.9],
    "graphs": {name: {"file": f"{name}.onnx", "tensors": [0, 3]} for name in ("learning", "shifted")},
    "files": {f"{name}.onnx": {"sha256": SHA, "size": 9} for name in ("learning", "shifted")}}  # fmt: skip
_PLAN = {"changes": "a", "verification": "b", "impact": "c"}
FIGURES = {name: {"wql": {"value": 0.9, "low": 0.8, "high": None}} for name in ("adapter", "base")}


def _this_process() -> dict[str, Any]:
    """This process, as the service names itself in its health file."""
    boot = service_health.BOOT_ID.read_text().strip().replace("-", "")
    started = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[service_health.STARTED - 3]
    return {"boot": boot, "pid": os.getpid(), "started": int(started)}


def _read_proofs(path: Path) -> object:
    return proofs.parse_proofs(path.read_bytes(), Manifest.parse(DUMMY.read_bytes()))


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One kind of file: what it fills, how it is written, how it is read, and which errors that may raise."""

    kinds: tuple[type, ...]
    good: dict[str, Any]
    read: Callable[[Path], object]
    write: Callable[[Any], bytes] = to_json
    errors: tuple[type[Exception], ...] = (EdgeTsfmError,)
    names_file: bool = True


class _Place:
    """A repository's folder, where only that is needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def revocations(self) -> dict[str, Any]:
        return {}

    def approved(self) -> dict[str, Any]:
        return {}


def _beside(path: Path, folder: str, name: str) -> Path:
    """Move a file to where its reader looks for it; return the folder above."""
    place = path.parent / folder / name
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(path.read_bytes())
    return path.parent


def _read_ring(path: Path) -> object:
    return ledger.read_ring(_Place(_beside(path, "channels", "icu.json")), "icu")  # type: ignore[arg-type]


def _read_rollout(path: Path) -> object:
    place = _Place(_beside(path, "rollouts", "icu.json"))
    return ledger.read_rollout(place, "icu")  # type: ignore[arg-type]


def _read_repository(path: Path) -> object:
    repository = Repository(_beside(path, ".", "deploy.json"))
    return [ref.key for group in repository.config["keys"] for ref in repository.refs(group)]


def _read_keys(path: Path) -> object:
    place = _beside(path, ".", "keys.json")
    (place / "gate.toml").write_text("")
    try:
        setup.init(place / "updates", place, place / "gate.toml")
    except ConfigError as error:  # keys come first: with good ones, it is the empty gate that is refused
        assert "gate.toml" in str(error)  # noqa: PT017 - only one of two outcomes
    return None


def _read_record(path: Path) -> object:
    records = sbom._records(_Place(_beside(path, "records", "1-approved.json")))  # type: ignore[arg-type]
    return [sbom._card(one, "") for one in records.values()]


def _read_act(path: Path) -> object:
    return acts.acts(_Place(_beside(path, "records", "1-revoke.json")), "icu", "revoke")  # type: ignore[arg-type]


def _read_latency(path: Path) -> object:
    place = _beside(path, LATENCY_FOLDER, "base-48-6.json")
    return measure_latencies(["base"], place, context_length=48, prediction_length=6, only_read=True)


def _read_scores(path: Path) -> object:
    buffer = io.BytesIO()
    np.savez(buffer, item_id=np.array(["a"]), record=np.array(path.read_text()))
    path.with_suffix(".npz").write_bytes(buffer.getvalue())
    return read_scores(path.with_suffix(".npz"))


def _read_digests(path: Path) -> object:
    source, bundled = path.parent / "base", path.parent / "bundled"
    for folder in (source, bundled):
        folder.mkdir(exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        (source / name).write_text("x")
    (bundled / "digests.json").write_bytes(path.read_bytes())
    return bundle_base(source, "made", bundled=bundled)


def _read_base(path: Path, family: str) -> object:
    base = path.parent / "base"
    shutil.copytree(DUMMY.parent.parent / family, base, dirs_exist_ok=True)
    (base / "config.json").write_bytes(path.read_bytes())
    return load_base(str(base))


def _base_config(family: str, kind: type) -> Reader:
    good = json.loads((DUMMY.parent.parent / family / "config.json").read_bytes())
    return Reader(kinds=(Architecture, kind), good=good, read=partial(_read_base, family=family),
                  errors=(ModelError,), names_file=False)  # fmt: skip


def _canonical(value: Any) -> bytes:
    try:
        return canonical.dumps(value)
    except FormatError:  # the subset cannot carry it
        return to_json(value)


_DEVICE = {
    "device_id": "bed-1", "ring": "icu", "bundle": "bundle", "state": "state", "trusted_keys": [SHA], "threshold": 1,
    "groups": ["canary"], "repository": "https://updates.example", "root": "root.json", "report_to": "reports",
    "report_token": "token", "signed_only": True, "counter": "counter", "trial_days": 7,
    "policy": {"activation": "window", "window": "02:00-04:30", "inhibit_file": "stop"},
    "health": {"seconds": 60, "min_forecasts": 3, "max_failures": 1, "latency_budget": 0.5},
}  # fmt: skip
_STATE = {"channel": "icu", "file": SHA, "before": None, "sequence": 1, "stage": 0, "halt": False, "paused": False,
          "finished": False, "approved": "", "began": 1.0, "stages": [STAGE],
          "confirmed": ["bed-1"], "went_back": ["bed-2"]}  # fmt: skip
_RUN = {
    "config": asdict(TrainConfig(data="ward.csv")), "channel": "MAP",
    "base": {"name": "b", "source": "b", "family": "chronos-bolt", "digest": SHA},
    "data": {"fingerprint": SHA, "split": {"by": "time", "edges": [1, 2, 3], "block_length": 4, "timed": True},
             "report": {"interval": "1h"}},
    "windows": {"train": 3}, "tensors": ["a"], "parameters": 7,
    "training": {"best": 0.1, "base": 0.2, "seconds": 1.5, "best_step": 3, "stopped_early": False, "metric": "wql"},
    "gate": {"accepted": True, "reason": "better", "forced": False}, "versions": {"torch": "2"},
}  # fmt: skip
_STUDY = {
    "data": "ward.csv", "targets": ["MAP"], "seeds": [0, 1], "baselines": ["nhits"], "id_column": "id",
    "methods": ["bitfit", {"label": "f", "method": "fourierft", "n_frequency": 20, "target_modules": ["q"]}],
    "train": {"steps": 5, "context_length": 48}, "search": {"factors": [0.5, 1.0], "steps": 3, "batch_size": 2},
    "nhits": {"steps": 4}, "device": {"bundle": False, "latency": True},
}  # fmt: skip
_PRETRAIN = {
    "name": "x", "family": "chronos-bolt", "log_every": 10, "save_every": 100,
    "shape": {"d_model": 8, "context_length": 64, "prediction_length": 8, "dropout_rate": 0.0},
    "corpus": {"context_lengths": [64], "context_weights": [1.0], "batch_sizes": [2], "target_lengths": [8],
               "target_weights": [1.0], "generators": {"walks": 1.0}, "mixup": 0.1},
    "optimiser": {"steps": 4, "betas": [0.9, 0.98], "bf16": False},
}  # fmt: skip
_ENTRY = {"file": SHA, "adapter": SHA, "version": 1, "sequence": 2}
_GATE = {"name": "g", "subgroups": ["sex"], "bound": [
    {"metric": "wql", "vs_base_percent": -1, "vs_field_percent": 0.5, "subgroup_percent": 5.0,
     "interval": True}]}  # fmt: skip
_DEVICE_ERRORS = (DeviceRuntimeError,)

READERS: Mapping[str, Reader] = MappingProxyType({
    "train.toml": Reader(
        kinds=(TrainConfig,), good={"data": "ward.csv", "target_modules": ["q"], "steps": 3, "learning_rate": 0.1},
        read=lambda path: load_config(path, {}), write=to_toml, errors=(ConfigError,), names_file=False),
    "pretrain.toml": Reader(kinds=(PretrainConfig,), good=_PRETRAIN, read=read_config, write=to_toml,
                            errors=(ConfigError,)),
    "study.toml": Reader(kinds=(StudyFile, MethodTable, TrainConfig), good=_STUDY, read=load_study, write=to_toml,
                         errors=(ConfigError,), names_file=False),
    "plan.toml": Reader(kinds=(Plan,), good={"stage": [STAGE]}, read=lambda p: read_plan(p.read_bytes(), str(p)),
                        write=to_toml, errors=(ConfigError,)),
    "gate.toml": Reader(kinds=(gate.GateFile,), good=_GATE, read=lambda p: gate.read_gate(p.read_bytes(), p),
                        write=to_toml, errors=(ConfigError,)),
    "adapt.toml": Reader(kinds=(AdaptRules,), read=read_rules, write=to_toml, errors=(ConfigError,),
                         good={"adapt": {"mode": "shadow", "rate": 0.003, "clean": {"flat_steps": 60}}}),
    "device.toml": Reader(kinds=(DeviceConfig,), good=_DEVICE, read=read_device, write=to_toml,
                          errors=(SettingsError,)),
    "evaluation.json": Reader(
        kinds=(EvaluationFile,), errors=(DataError,), read=gate.read_evaluation,
        good={"models": FIGURES, "subgroups": {"sex": {"F": {"models": FIGURES, "patients": 20}}},
              "adapter_minus_base": {"wql": {"value": -0.1, "low": -0.2, "high": -0.05}}, "data": {}, "run": {}}),
    "run.json": Reader(kinds=(RunRecord,), good=_RUN, read=read_record, errors=(TrainError,)),
    "cell's run.json": Reader(kinds=(CellRecord,), good=_RUN, read=partial(read_record, kind=CellRecord),
                              errors=(TrainError,)),
    "ring": Reader(
        kinds=(ledger.Ring,), read=_read_ring, errors=(DeployError,), names_file=False,
        good={"name": "icu", "sequence": 3, "revoked": [SHA], "security_minimum": 1, "sequences": {SHA: 3},
              "versions": {SHA: 3}, "adapters": {SHA: SHA}, "signal": "MAP", "unit": "mm[Hg]", "interval": "1h"}),
    "rollout": Reader(kinds=(ledger.RolloutState,), good=_STATE, read=_read_rollout, errors=(DeployError,),
                      names_file=False),
    "deploy.json": Reader(
        kinds=(RepositoryFile, KeyRef), read=_read_repository, errors=(DeployError,), names_file=False,
        good={"keys": {group: [KEY] for group in setup.ROLES}, "thresholds": dict.fromkeys(setup.ROLES, 1),
              "gate": SHA}),
    "keys.json": Reader(kinds=(KeyRef,), read=_read_keys, errors=(DeployError,), names_file=False,
                        good={group: [KEY, OTHER_KEY] for group in setup.ROLES} | {"online": [ONLINE_KEY]}),
    "change record": Reader(
        kinds=(RecordFile,), read=_read_record, errors=(DataError,), names_file=False,
        good={"subject": [{"digest": {"sha256": SHA}}], "predicate": {
            "evaluation": {"models": FIGURES, "data": {"fingerprint": SHA}}, "adapter": {"parameters": 3},
            "frozen": {"base": "b", "tensors_touched": 2}}}),
    "record of an act": Reader(
        kinds=(StatementFile, Act), read=_read_act, errors=(DataError,), names_file=False,
        good={"predicateType": acts.PREDICATE, "predicate": {
            "channel": "icu", "who": "ops", "why": "test", "at": "2026-11-24T12:00:00+00:00",
            "adapters": [{"adapter": SHA, "signed_file": SHA, "version": 1, "sequence": 1, "revoked": True}]}}),
    "latency": Reader(
        kinds=(Latency,), read=_read_latency, errors=(DataError,), names_file=False,
        good={"context_length": 48, "prediction_length": 6, "threads": 2, "runtime_ms": 1.0, "torch_ms": 3.0}),
    "scores": Reader(
        kinds=(ScoresRecord,), read=_read_scores, errors=(DataError,), names_file=False,
        good={"config": {}, "fingerprint": SHA, "windows": 3, "values": 9, "unit": "patient", "versions": {}}),
    "Bolt's config.json": _base_config("chronos-bolt", BoltConfig),
    "T5's config.json": _base_config("chronos-t5", T5Config),
    "Chronos-2's config.json": _base_config("chronos-2", Chronos2Config),
    "digests.json": Reader(kinds=(), good={"a": SHA}, read=_read_digests, errors=(ModelError,), names_file=False),
    "bundle.json": Reader(
        kinds=(Manifest,), good=json.loads(DUMMY.read_bytes()), read=lambda p: Manifest.parse(p.read_bytes()),
        write=_canonical, errors=_DEVICE_ERRORS, names_file=False),
    "learning.json": Reader(
        kinds=(Learning,), good=LEARNING, read=lambda p: Learning.parse(p.read_bytes()),
        write=_canonical, errors=_DEVICE_ERRORS, names_file=False),
    "learning.json of FourierFT": Reader(
        kinds=(Learning,), read=lambda p: Learning.parse(p.read_bytes()),
        write=_canonical, errors=_DEVICE_ERRORS, names_file=False,
        good={**LEARNING, "format_version": 3, "learnable": "fourierft", "names": ["a.weight"],
              "fourier": {"count": 8, "seed": 777, "scaling": 150.0}}),
    "rollout document": Reader(
        kinds=(rollout.Rollout,), read=lambda p: rollout.decode(p.read_bytes()), errors=(FormatError,),
        names_file=False, good=json.loads(rollout.encode(rollout.Rollout(channel="icu", sequence=3, signed_file=SHA)))),
    "state record": Reader(
        kinds=(lifecycle.Record,), read=lambda p: lifecycle.from_value(json.loads(p.read_bytes())),
        errors=(FormatError,), names_file=False,
        good={"state": "trial", "generation": 4, "current": _ENTRY, "previous": None, "candidate": _ENTRY, "tries": 2,
              "failed_sequence": -1, "failed_on": "", "since": 5.5, "reason": "x"}),
    "floor": Reader(
        kinds=(floor._Stored,), read=lambda p: floor.from_value(json.loads(p.read_bytes())), errors=(StorageError,),
        names_file=False,
        good={"sequences": {"icu": [3, SHA]}, "security_minimum": {"icu": 1}, "revoked": [SHA],
              "roles": {"root": [1, SHA]}, "time": 5.0, "time_keys": SHA, "number": 3}),
    "note of the last polls": Reader(
        kinds=(notes.Polled,), read=lambda p: notes.from_value(notes.Polled, json.loads(p.read_bytes())),
        errors=(FormatError,), names_file=False,
        good={"tried": 5.0, "good": 4, "problem": "", "revocations_signed": 1.5, "expires": {"timestamp": 9.0}}),
    "note of what runs": Reader(
        kinds=(notes.Running,), read=lambda p: notes.from_value(notes.Running, json.loads(p.read_bytes())),
        errors=(FormatError,), names_file=False,
        good={"adapter": SHA, "generation": 3, "problem": "", "at": 5.0}),
    "note of what is learnt": Reader(
        kinds=(notes.Learning,), read=lambda p: notes.from_value(notes.Learning, json.loads(p.read_bytes())),
        errors=(FormatError,), names_file=False, good={"mode": "shadow", "why": "", "problem": "x", "at": 5.0}),
    "what a service says of itself": Reader(
        kinds=(service_health.ServiceHealth, service_health.Process), read=service_health.read_health,
        errors=(DeviceRuntimeError,), write=lambda one: to_json({"version": 2, "channels": [one], **_this_process()}),
        good={"adapter": SHA, "offered": None, "refused": 0, "why": "", "since_ms": 5.0, "forecasts": 9, "slow": 1,
              "slowest_ms": 80.5, "errors": {"500": 2}, "last_error": "x"}),
    "what a service says of its learner": Reader(
        kinds=(service_health.ServiceLearning,), read=service_health.read_learning, errors=(DeviceRuntimeError,),
        names_file=False,
        write=lambda one: to_json({"version": 2, "channels": [], "adaptation": one, **_this_process()}),
        good={"decisions": 0, "generation": 2, "mode": "active", "own": False, "problem": "", "learnt": {
            "state": "shadow", "verdict": "none", "stays": 9, "stays_judged": 9, "steps": 9, "windows": 9,
            "demotions": 0, "refused": 0, "spoilt": 0, "log_evidence": 1.0, "evidence_wanted": 20.0,
            "log_reverse_evidence": 0.0, "lost": [3.0, 3.0, 2.0], "values": [99, 1, 1, 1], "shift_rms": 0.1,
            "missed": 0}}),
    "what a person asked for": Reader(
        kinds=(adapt_asked.Asked,), names_file=False, errors=(FormatError,),
        read=lambda p: bind(adapt_asked.Asked, json.loads(p.read_bytes()), "what was asked for", complete=True),
        good={"who": "nurse", "reason": "tried", "at": 5.0, "generation": 3}),
    "static.json": Reader(
        kinds=(static.Static,), read=lambda p: static.Static.parse(p.read_bytes()), write=_canonical,
        errors=(DeviceRuntimeError,), names_file=False,
        good={"format": static.FORMAT_NAME, "format_version": 1, "base_digest": SHA, "context_length": 64, "batch": 1,
              "precision": "float32", "graph": {"file": "static.onnx", "tensors": [0, 3]},
              "files": {"static.onnx": {"sha256": SHA, "size": 9}}}),
    "providers.json": Reader(
        kinds=(proofs.Proof,), read=_read_proofs, write=_canonical, errors=(DeviceRuntimeError,), names_file=False,
        good={"format": proofs.FORMAT_NAME, "format_version": 1,
              "base_digest": Manifest.parse(DUMMY.read_bytes()).digest.hex(), "providers": [PROOF]}),
    "table of timings": Reader(
        kinds=(BenchTable,), read=lambda p: continued(p, Setting(threads=1, runs=3)), errors=(ConfigError,),
        good={"schema": SCHEMA, "setting": asdict(Setting(threads=1, runs=3)), "lines": [{
            "base": "a", "family": "chronos-bolt", "precision": "int8", "bundle_mb": 3.5, "activation": SPREAD,
            "start_s": 0.3, "memory_mb": 80.0, "torch_start_s": 4.0, "torch_memory_mb": 470.0, "others": None,
            "forecasts": [{"case": "a", "batch": 1, "spinning": False, "torch": SPREAD, "runtime": SPREAD,
                           "floor_ms": None}]}]}),
    "what was learnt": Reader(
        kinds=(learner_store.Kept,), read=lambda p: learner_store.from_value(json.loads(p.read_bytes())),
        errors=(FormatError,), names_file=False,
        good={"subject": {"base": SHA, "learning": SHA, "parent": "", "signal": "RESP", "interval": "1h"},
              "day": 3, "written": 16_384, "body": {"own": ""}, "forgotten": 0.0}),
    "envelope": Reader(
        kinds=(envelope.Envelope,), read=lambda p: envelope.decode(p.read_bytes()), write=_canonical,
        errors=(DeviceRuntimeError,), names_file=False,
        good={"format": envelope.FORMAT_NAME, "format_version": envelope.VERSION, "ring": "icu", "sequence": 3,
              "signal": "RESP", "unit": "/min", "interval": "1h", "base": SHA, "learning": SHA, "enabled_by": ["A"],
              "tensors": ["t"],
              "rules": asdict(AdaptRules()), "evidence": SHA, "plan": _PLAN}),
    "envelope.toml": Reader(
        kinds=(EnvelopeFile,), write=to_toml,
        read=lambda p: bind(EnvelopeFile, read_toml(p, error=ConfigError), str(p), error=ConfigError),
        good={"enabled_by": ["A"], "rules": {"mode": "shadow"}, "plan": _PLAN}),
    "evidence of adaptation": Reader(
        kinds=(EvidenceFile,), read=lambda p: read_evidence(p)[0],
        good={"bundle": SHA, "split": "test", "mode": "active", "rules": {"rate": 0.001},
              "lengths": {"prediction_length": 6}, "stationary": {"wards": 200, "promoted": 3},
              "overall": [{"name": "running", "patients": 60, "worse": {"2": 0.01},
                           "wql_percent": {"value": -1.0, "low": -2.0, "high": -0.5}}]}),
    "a device's reports": Reader(  # whatever they hold, the others are counted
        kinds=(), good={"device": "bed-1", "channel": "icu", "sequence": 1, "generation": 3},
        read=lambda p: rings.count(rings.read_reports(_beside(p, "reports", "a.json") / "reports"),
                                      ring="icu", sequence=1)),
})  # fmt: skip
