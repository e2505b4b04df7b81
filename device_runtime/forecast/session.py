"""Sessions of ONNX Runtime: a graph, its base and the merged tensors become one, on the processor or a provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from device_runtime.errors import ForecastError, MergeError, MissingLibraryError, StorageError
from device_runtime.forecast.aside import stdout_aside
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.proofs import admits, require_proof
from device_runtime.forecast.providers import CPU, CPU_PROVIDER, Chosen, choose
from device_runtime.format.quantised import initializers

GRAPH_SUFFIX = ".onnx"
# What ONNX Runtime says when the machine has no more memory, threads or handles.
OUT_OF = ("bad_alloc", "bad alloc", "failed to allocate", "out of memory", "memory allocation", "cannot allocate",
          "too many open files", "pthread_create", "resource temporarily unavailable")  # fmt: skip

AUTO = 0  # threads: as many as are measured to be best

Session = Any  # onnxruntime.InferenceSession, which ships no types


@dataclass(frozen=True, kw_only=True)
class SessionSettings:
    """How ONNX Runtime may use the device. The defaults suit a small monitor that does other work too."""

    threads: int = 2  # intra-op; a Chronos-Bolt tiny forecast gains nothing beyond. `AUTO`: see `forecast.threads`
    spinning: bool = False  # threads that wait busily are faster and take a core from the monitor
    memory_arena: bool = False  # an arena trades memory for nothing at batch 1
    prepacking: bool = True  # without it a session is smaller and slower
    provider: str = CPU  # "cpu", or another as `device_runtime.forecast.providers.choose` takes it
    library: Path | None = None  # a plugin's, instead of that of its Python package
    options: Mapping[str, str] = field(default_factory=dict)  # the provider's own
    cpu_fallback: bool = False  # nodes that the provider does not take run on the processor, instead of being refused
    proving: bool = False  # for who measures a provider, not for a device: a provider that nobody has proven will do
    # ONNX Runtime reads weights from the bundle's folder itself, one at a time: a third of the memory while a session
    # opens. For who wrote that folder, not for a device: what changes on the disk after the check is not noticed.
    from_disk: bool = False

    @property
    def on_processor(self) -> bool:
        """Whether no provider beside the processor is asked for."""
        return self.provider in {CPU, CPU_PROVIDER}


def open_session(
    bundle: Bundle,
    graph: str,
    merged: Mapping[int, NDArray[np.float32]],
    settings: SessionSettings | None = None,
) -> Session:
    """Open one graph of a bundle with ``merged`` in place of the tensors of those indices.

    Merged tensors go in through ``add_external_initializers``, which replaces them before any optimisation and
    refuses a wrong name, shape or type; ``add_initializer`` would silently be folded away (docs/adr/0002).
    Raises `MissingLibraryError` for a provider that is not there, `SettingsError` for one that this bundle is not
    proven with, `StorageError` when the graph cannot be loaded and `MergeError` when ONNX Runtime refuses a tensor.
    """
    settings = settings or SessionSettings()
    chosen = chosen_by(bundle, settings)
    if chosen is not None and not settings.proving:
        require_proof(bundle, chosen, graph, cpu_fallback=settings.cpu_fallback)
    entry = bundle.manifest.graphs[graph]
    replaced: dict[str, NDArray[np.generic]] = {}
    for i in set(merged).intersection(entry.tensors):
        replaced |= initializers(bundle.manifest.tensors[i], merged[i])
    options = session_options(settings)
    try:
        values = [ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array)) for array in replaced.values()]
        if values:
            options.add_external_initializers(list(replaced), values)
    except Exception as error:
        kind = StorageError if _of_machine(error) else MergeError
        raise kind(f"{entry.file}: onnxruntime refused the merged tensors: {error}") from error
    if settings.from_disk:
        return _created(str(bundle.path / entry.file), entry.file, options, chosen)
    with bundle.in_memory():
        # Not by path: these very bytes were compared with the manifest, a file may be another one by now.
        external = {name: bundle.data(name) for name in bundle.manifest.files if not name.endswith(GRAPH_SUFFIX)}
        options.add_external_initializers_from_files_in_memory(
            list(external), list(external.values()), [len(data) for data in external.values()]
        )
        return _created(bytes(bundle.data(entry.file)), entry.file, options, chosen)


def chosen_by(bundle: Bundle, settings: SessionSettings) -> Chosen | None:
    """Find the provider that settings name; None: the processor alone.

    A plugin's library is loaded for who proves it, and else only as the bundle is proven with. Raises as
    `providers.choose` and `admits`.
    """
    if settings.on_processor:
        return None
    if settings.proving:
        return choose(settings.provider, settings.library, settings.options)
    return choose(settings.provider, settings.library, settings.options, admits(bundle, settings.provider))


def nodes(session: Session) -> dict[str, int]:
    """Count a session's nodes by the provider that runs them; only of one opened while proving."""
    counts: dict[str, int] = {}
    for part in session.get_provider_graph_assignment_info():
        counts[part.ep_name] = counts.get(part.ep_name, 0) + len(part.get_nodes())
    return counts


def _created(graph: bytes | str, name: str, options: ort.SessionOptions, chosen: Chosen | None) -> Session:
    """Open a graph, given as its bytes or its path. Raises `MissingLibraryError`, `MergeError`, `StorageError`."""
    try:
        if chosen is None:
            return ort.InferenceSession(graph, options, providers=[CPU_PROVIDER])
        providers = chosen.add_to(options)
        with stdout_aside():
            session = ort.InferenceSession(graph, options, **({"providers": providers} if providers else {}))
    except Exception as error:
        if chosen is not None and not _of_machine(error):
            raise MissingLibraryError(
                f"{name}: {chosen.name} {chosen.version} does not run this graph: {error}", hint=_why_not(error)
            ) from error
        kind = MergeError if "xternal initializer" in str(error) and not _of_machine(error) else StorageError
        raise kind(f"{name}: onnxruntime could not open the graph: {error}") from error
    # onnxruntime opens on the processor where a built-in provider does not start, and only warns.
    if chosen.provider not in session.get_providers():
        raise MissingLibraryError(
            f"{name}: onnxruntime did not start {chosen.provider} and would have run on the processor",
            hint="its drivers and libraries must be found: run with ORT_LOG_LEVEL=0 to see which are not",
        )
    return session


def _why_not(error: Exception) -> str | None:
    """Say what helps where nodes would have run on the processor."""
    if "fallback" in str(error):
        return "--cpu-fallback lets the processor run what the provider does not; that must be proven too"
    return None


def _of_machine(error: Exception) -> bool:
    """Whether ONNX Runtime ran out of a resource, which is not the fault of a tensor or graph."""
    said = str(error).lower()
    return isinstance(error, MemoryError | OSError) or any(sign in said for sign in OUT_OF)


def _run_error(error: Exception) -> ForecastError | StorageError:
    """Return whose fault it is that a session did not run."""
    return (StorageError if _of_machine(error) else ForecastError)(f"onnxruntime: {error}")


def session_options(settings: SessionSettings) -> ort.SessionOptions:
    """Translate settings into ONNX Runtime's."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = settings.memory_arena
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if settings.spinning else "0")
    options.add_session_config_entry("session.disable_prepacking", "0" if settings.prepacking else "1")
    if not settings.on_processor and not settings.cpu_fallback:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if settings.proving:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    # KleidiAI's int8 products, used where a processor has SME, are not those that were measured at export
    # (docs/adr/0020). An ONNX Runtime that does not know the entry ignores it.
    options.add_session_config_entry("mlas.disable_kleidiai", "1")
    return options


def run(session: Session, output: str, feed: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float32]:
    """Run a session for one output. Raises `ForecastError`, or `StorageError` when ONNX Runtime had no memory."""
    try:
        (result,) = session.run([output], dict(feed))
    except Exception as error:
        raise _run_error(error) from error
    return np.asarray(result, dtype=np.float32)


def run_all(session: Session, feed: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.float32]]:
    """Run a session for all of its outputs, by name.

    Raises `ForecastError` when ONNX Runtime does, `StorageError` for want of memory.
    """
    names = [output.name for output in session.get_outputs()]
    try:
        results = session.run(names, dict(feed))
    except Exception as error:
        raise _run_error(error) from error
    return dict(zip(names, results, strict=True))


class BoundRun:
    """A session bound to arrays: a call runs it on them as they then are and writes its outputs, without copies.

    The same array may be an input and an output: ONNX Runtime's ScatterND then writes in place.
    """

    def __init__(
        self, session: Session, inputs: Mapping[str, NDArray[np.generic]], outputs: Mapping[str, NDArray[np.generic]]
    ) -> None:
        self._session = session
        self._binding = session.io_binding()
        self._values: dict[int, Any] = {}  # an OrtValue reads numpy's memory and must outlive the binding
        for arrays, add in (
            (inputs, self._binding.bind_ortvalue_input),
            (outputs, self._binding.bind_ortvalue_output),
        ):
            for name, array in arrays.items():
                if id(array) not in self._values:
                    self._values[id(array)] = ort.OrtValue.ortvalue_from_numpy(array)
                add(name, self._values[id(array)])

    def __call__(self) -> None:
        """Run once. Raises `ForecastError` when ONNX Runtime does, `StorageError` for want of memory."""
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:
            raise _run_error(error) from error
