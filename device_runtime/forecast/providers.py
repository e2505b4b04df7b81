"""Where a session may run: this ONNX Runtime's own providers, and plugin libraries that are registered on first use.

A plugin is found by its Python package or given as a library's path. `choose` turns what a person names, such as
``openvino`` or ``openvino:gpu``, into one device of this machine and the options a session gets; nothing else is tried
in its place. Options that make a provider compute in float32 are set here, since the defaults of some do not.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, distributions
from importlib.metadata import version as package_version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnxruntime as ort

from device_runtime.errors import MissingLibraryError, SettingsError
from device_runtime.forecast.aside import stdout_aside
from device_runtime.nearest import did_you_mean

CPU = "cpu"
CPU_PROVIDER = "CPUExecutionProvider"
ONNXRUNTIME = str(ort.__version__)
PREFIX = "onnxruntime-ep-"  # what packages of plugins are called
DEVICES = ("cpu", "gpu", "npu")


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a provider before it is there."""

    name: str  # as a person says it
    provider: str  # as ONNX Runtime says it
    package: str  # on PyPI
    options: Mapping[str, str] = field(default_factory=dict)
    static_on: tuple[str, ...] = ()  # kinds of device that take only graphs of fixed shapes
    hint: str = ""  # why its library may list no device


KNOWN = (
    Known(
        name="openvino",
        provider="OpenVINOExecutionProvider",
        package="onnxruntime-ep-openvino",
        static_on=("npu",),
        hint="OpenVINO's plugin lists Intel's processors, GPUs and NPUs only",
    ),
    Known(
        name="qnn",
        provider="QNNExecutionProvider",
        package="onnxruntime-qnn",
        options={"backend_type": "htp"},
        static_on=DEVICES,
    ),
    # By default float32 products are TF32's, with 10 bits of mantissa, from Ampere on.
    Known(name="cuda", provider="CUDAExecutionProvider", package="onnxruntime-gpu", options={"use_tf32": "0"},
          static_on=DEVICES),
    Known(name="tensorrt-rtx", provider="NvTensorRTRTXExecutionProvider", package="onnxruntime-ep-nv-tensorrt-rtx",
          static_on=DEVICES),
)  # fmt: skip

Admit = Callable[[Path, str], None]  # a plugin's library and its SHA-256, hex; raises where it may not be loaded

_registered: dict[str, Path] = {}  # provider → the library that this process has loaded for it
_registering = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """One provider on one kind of device, ready for a session."""

    name: str  # as "openvino:cpu"; without a plugin's interface as "cuda"
    provider: str  # as ONNX Runtime says it
    version: str  # of its package, or of its library
    onnxruntime: str
    library: str  # SHA-256 of the plugin's library, hex; empty: part of ONNX Runtime
    device: str  # what the machine calls it
    options: Mapping[str, str]
    static: bool  # it takes only graphs of fixed shapes
    devices: tuple[Any, ...]  # OrtEpDevice, which ships no types; none: a provider without a plugin's interface

    @property
    def options_digest(self) -> str:
        """SHA-256 of the options, hex."""
        return hashlib.sha256(json.dumps(dict(sorted(self.options.items()))).encode()).hexdigest()

    def add_to(self, options: ort.SessionOptions) -> list[Any]:
        """Add the provider to a session's options; return what `InferenceSession` takes as its providers."""
        if self.devices:
            options.add_provider_for_devices(list(self.devices), dict(self.options))
            return []
        return [(self.provider, dict(self.options))]


@dataclass(frozen=True, kw_only=True)
class Installed:
    """A plugin's package on this machine."""

    known: Known
    version: str
    library: Path


def choose(
    provider: str,
    library: Path | None = None,
    options: Mapping[str, str] | None = None,
    admit: Admit = lambda path, digest: None,
) -> Chosen:
    """Find the provider ``NAME`` or ``NAME:DEVICE`` (cpu, gpu, npu) on this machine.

    ``NAME`` is one of `KNOWN` or ONNX Runtime's own, ``library`` a plugin's library instead of its package's, and
    ``options`` are put over those of `KNOWN`. A library's code runs as soon as it is loaded: before that ``admit`` is
    asked. Raises `SettingsError` for a name or device that is none, `MissingLibraryError` where the provider or the
    device is not on this machine, and what ``admit`` raises.
    """
    name, _, kind = provider.partition(":")
    if kind and kind not in DEVICES:
        raise SettingsError(f"provider {provider!r}: want NAME or NAME:DEVICE, with a device of {', '.join(DEVICES)}")
    known = _known(name, library)
    installed = _installed(known)
    path = library or (installed.library if installed else None)
    if path is not None:
        path = path.resolve()
        _register(known.provider, path, admit)
    elif known.provider not in built_in():
        raise MissingLibraryError(
            f"execution provider {known.provider} is not on this machine",
            hint=f"install {known.package}" if known.package else "name its library with --provider-library",
        )
    devices = [one for one in ep_devices() if one.ep_name == known.provider]
    found = [one for one in devices if not kind or kind_of(one) == kind][:1]
    if (path is not None or kind) and not found:
        listed = ", ".join(sorted({kind_of(one) for one in devices})) or "none"
        raise MissingLibraryError(
            f"{known.provider} has no {kind or 'device'} on this machine: its library lists {listed}",
            hint=known.hint or "`edge-tsfm-device providers` lists what there is",
        )
    where = kind_of(found[0]) if found else ""  # a provider without a plugin's interface does not say
    return Chosen(
        name=f"{known.name}:{where}" if where else known.name,
        provider=known.provider,
        version=_version(known, installed if library is None else None, found),
        onnxruntime=ONNXRUNTIME,
        library="" if path is None else _digest(path),
        device=described(found[0]) if found else "",
        options={**_defaults(known, where), **(options or {})},
        static=where in known.static_on or (not where and bool(known.static_on)),
        devices=tuple(found),
    )


def plugins() -> Iterator[Installed]:
    """Give the plugins whose packages are installed, by name."""
    for known in (*KNOWN, *_others()):
        if (there := _installed(known)) is not None:
            yield there


def built_in() -> tuple[str, ...]:
    """Return ONNX Runtime's names of the providers in this build of it, and of those that were registered."""
    return tuple(ort.get_available_providers())


def ep_devices() -> list[Any]:
    """Return the devices of every provider that this process has loaded, but for those only to compile for."""
    return [one for one in ort.get_ep_devices() if one.device.metadata.get("is_virtual") != "1"]


def kind_of(device: Any) -> str:
    """Return cpu, gpu or npu."""
    return str(device.device.type).rpartition(".")[2].lower()


def described(device: Any) -> str:
    """Say what a device is, in plain ASCII without quotes."""
    named = device.ep_metadata.get("FULL_DEVICE_NAME") or f"{device.device.vendor} {device.device.device_id:#06x}"
    return "".join(character for character in named if " " <= character <= "~" and character not in '"\\')


def _known(name: str, library: Path | None) -> Known:
    """Return what is known of a name. Raises `SettingsError`."""
    every = {one.name: one for one in (*KNOWN, *_others())}
    by_provider = {one.provider: one for one in every.values()}
    if (found := every.get(name) or by_provider.get(name)) is not None:
        return found
    if library is not None or name in built_in():
        return Known(name=name, provider=name, package="")
    raise SettingsError(
        f"unknown provider {name!r}; {did_you_mean(name, [CPU, *every])}known are {CPU}, {', '.join(every)}",
        hint="for another plugin give ONNX Runtime's name of it, and its library with --provider-library",
    )


@cache
def _others() -> tuple[Known, ...]:
    """Return packages of plugins that are installed and not in `KNOWN`."""
    listed = {one.package for one in KNOWN}
    names = {(one.metadata["Name"] or "").lower().replace("_", "-") for one in distributions()}
    found = []
    for name in sorted(names - listed):
        if name.startswith(PREFIX) and find_spec(_module(name)) is not None:
            module = importlib.import_module(_module(name))
            found.append(Known(name=name.removeprefix(PREFIX), provider=module.get_ep_name(), package=name))
    return tuple(found)


def _module(package: str) -> str:
    return package.replace("-", "_")


def _installed(known: Known) -> Installed | None:
    """Return a plugin's package, if it is there and has a library."""
    try:
        version = package_version(known.package) if known.package else ""
    except PackageNotFoundError:
        return None
    if not known.package or find_spec(_module(known.package)) is None:
        return None  # part of an onnxruntime
    try:
        library = Path(importlib.import_module(_module(known.package)).get_library_path())
    except (ImportError, AttributeError, OSError) as error:
        raise MissingLibraryError(f"{known.package} {version} names no library: {error}") from error
    return Installed(known=known, version=version, library=library)


def _register(provider: str, path: Path, admit: Admit) -> None:
    """Load a plugin's library into this process, once. Raises `MissingLibraryError`, `SettingsError`, as ``admit``."""
    with _registering:
        if (loaded := _registered.get(provider)) is not None:
            if loaded != path:
                raise SettingsError(f"{provider} is loaded from {loaded}; a process cannot load {path} as well")
            return
        if provider in {one.ep_name for one in ort.get_ep_devices()}:
            return  # by ONNX Runtime itself
        before = _stamp(path)
        admit(path, _digest(path))
        try:
            # QNN's plugin calls its devices by the name it is registered under, so that is the provider's own.
            with stdout_aside():
                ort.register_execution_provider_library(provider, str(path))
        except Exception as error:
            raise MissingLibraryError(
                f"{provider}: onnxruntime {ONNXRUNTIME} cannot load {path}: {error}",
                hint="check that the package is for this processor, this libc and this onnxruntime",
            ) from error
        if _stamp(path) != before:
            raise MissingLibraryError(
                f"{path} was changed while it was loaded",
                hint="let the installation of the plugin end, and start again",
            )
        _registered[provider] = path


def _defaults(known: Known, kind: str) -> dict[str, str]:
    """Return a provider's options on a kind of device."""
    if known.name == "openvino" and kind != "npu":
        # Its default on processors with AMX or AVX512-BF16 is bfloat16, on GPUs float16.
        return {"load_config": json.dumps({kind.upper(): {"INFERENCE_PRECISION_HINT": "f32"}})}
    return dict(known.options)


def _version(known: Known, installed: Installed | None, found: list[Any]) -> str:
    """Return the version of a provider's package, or what its library says, or ONNX Runtime's."""
    if installed is not None:
        return installed.version
    return str(found[0].ep_metadata.get("version", "")) if found else ONNXRUNTIME


def _stamp(library: Path) -> tuple[int, ...]:
    """Return what tells a file from another one under its name. Raises `MissingLibraryError`."""
    try:
        found = library.stat()
    except OSError as error:
        raise MissingLibraryError(f"cannot load {library}: {error.strerror or error}") from error
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@cache
def _digest(library: Path) -> str:
    """Return a library's SHA-256. Raises `MissingLibraryError`."""
    try:
        with library.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MissingLibraryError(f"cannot read {library}: {error.strerror or error}") from error
