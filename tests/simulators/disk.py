"""A disk in memory that records primitives and gives every state a power cut may leave (the idea of ALICE).

Model: each name points to an inode. A file's data that were not synced survive in full, not at all, cut short, or as
zeros; the operations in one folder survive in order, at least up to its last sync, whatever became of other folders.
`sync` promises data, `sync_folder` names; nothing else promises anything.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from device_runtime.errors import SizeError, StorageError


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One recorded primitive."""

    what: str  # write, append, sync, rename, unlink, sync_folder, done
    name: str = ""
    other: str = ""
    data: bytes = b""


@dataclass
class MemoryDisk:
    """`device_runtime.update.disk.Disk` in memory."""

    files: dict[str, bytes] = field(default_factory=dict)
    log: list[Operation] = field(default_factory=list)
    broken_syncs: frozenset[int] = frozenset()  # these syncs, counted from 0, do nothing: planted bugs
    fail_at: int = -1  # this mutation, counted from 0, and all after it raise
    error: str = "No space left on device"
    _syncs: int = 0
    _mutations: int = 0

    def _note(self, operation: Operation) -> None:
        if 0 <= self.fail_at <= self._mutations:
            raise StorageError(f"cannot {operation.what} {operation.name}: {self.error}")
        self._mutations += 1
        if operation.what.startswith("sync"):
            self._syncs += 1
            if self._syncs - 1 in self.broken_syncs:
                return
        self.log.append(operation)

    def read(self, name: str, limit: int) -> bytes | None:
        data = self.files.get(name)
        if data is not None and len(data) > limit:
            raise SizeError(f"{name} has more than {limit} bytes")
        return data

    def names(self, folder: str) -> list[str]:
        start = f"{folder}/" if folder else ""
        return sorted(
            name[len(start) :] for name in self.files if name.startswith(start) and "/" not in name[len(start) :]
        )

    def write(self, name: str, data: bytes) -> None:
        self._note(Operation(what="write", name=name, data=data))
        self.files[name] = data

    def append(self, name: str, data: bytes) -> None:
        self._note(Operation(what="append", name=name, data=data))
        self.files[name] = self.files.get(name, b"") + data

    def cut(self, name: str, size: int) -> None:
        self._note(Operation(what="cut", name=name, data=self.files[name][:size]))
        self.files[name] = self.files[name][:size]

    def link(self, old: str, new: str) -> bool:
        if old not in self.files:
            return False
        self._note(Operation(what="link", name=old, other=new))
        self.files[new] = self.files[old]
        return True

    def sync(self, name: str) -> None:
        self._note(Operation(what="sync", name=name))

    def rename(self, old: str, new: str) -> None:
        self._note(Operation(what="rename", name=old, other=new))
        self.files[new] = self.files.pop(old)

    def unlink(self, name: str) -> None:
        if name in self.files:
            self._note(Operation(what="unlink", name=name))
            del self.files[name]

    def sync_folder(self, folder: str) -> None:
        self._note(Operation(what="sync_folder", name=folder))

    def done(self, what: str) -> None:
        """Mark that a caller was told that something succeeded."""
        self.log.append(Operation(what="done", name=what))


@dataclass
class _Inode:
    durable: bytes
    data: bytes
    synced: bool


@dataclass(frozen=True, kw_only=True)
class CrashState:
    """One disk that a cut may leave, and what had been acknowledged by then."""

    after: int  # operations issued
    files: dict[str, bytes]
    done: tuple[str, ...]


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _survivors(inode: _Inode) -> list[bytes]:
    """What may be left of a file's data."""
    if inode.synced:
        return [inode.data]
    kept = inode.durable if inode.data.startswith(inode.durable) else b""
    tail = inode.data[len(kept) :]
    options = [inode.data, kept, kept + tail[: min(100, len(tail) // 2)], kept + bytes(len(tail))]
    return list(dict.fromkeys(options))


def crash_states(start: dict[str, bytes], log: list[Operation]) -> Iterator[CrashState]:
    """Give every different state that a cut during ``log`` may leave, beginning from the durable files ``start``."""
    seen: set[tuple[object, ...]] = set()
    for after in range(len(log) + 1):
        done = tuple(operation.name for operation in log[:after] if operation.what == "done")
        for files in _states(start, log[:after]):
            key = (done, tuple(sorted(files.items())))
            if key not in seen:
                seen.add(key)
                yield CrashState(after=after, files=files, done=done)


def _states(start: dict[str, bytes], log: list[Operation]) -> Iterator[dict[str, bytes]]:
    inodes = [_Inode(durable=data, data=data, synced=True) for data in start.values()]
    names = dict(zip(start, range(len(inodes)), strict=True))  # as the running system sees them
    journal: list[tuple[str, str, str, int]] = []  # what, name, other, inode
    durable_upto: dict[str, int] = {}  # folder -> journal length that is surely there
    for operation in log:
        name = operation.name
        if operation.what in ("write", "append"):
            if name not in names:
                names[name] = len(inodes)
                inodes.append(_Inode(durable=b"", data=b"", synced=True))
                journal.append(("create", name, "", names[name]))
            inode = inodes[names[name]]
            data = operation.data if operation.what == "write" else inode.data + operation.data
            durable = b"" if operation.what == "write" else inode.durable
            inodes[names[name]] = _Inode(durable=durable, data=data, synced=False)
        elif operation.what == "cut":
            inode = inodes[names[name]]
            inodes[names[name]] = _Inode(
                durable=inode.durable[: len(operation.data)], data=operation.data, synced=False
            )
        elif operation.what == "link":
            journal.append(("link", name, operation.other, names[name]))
            names[operation.other] = names[name]
        elif operation.what == "sync":
            inode = inodes[names[name]]
            inodes[names[name]] = replace(inode, durable=inode.data, synced=True)
        elif operation.what == "rename":
            journal.append(("rename", name, operation.other, names[name]))
            names[operation.other] = names.pop(name)
        elif operation.what == "unlink":
            journal.append(("unlink", name, "", names.pop(name)))
        elif operation.what == "sync_folder":
            durable_upto[name] = len(journal)
    # Each folder has an ordered journal of its own; of what was not synced any beginning may survive.
    folders = sorted({_folder(entry[1]) for entry in journal})
    journals = {folder: [entry for entry in journal if _folder(entry[1]) == folder] for folder in folders}
    least = {
        folder: sum(_folder(entry[1]) == folder for entry in journal[: durable_upto.get(folder, 0)])
        for folder in folders
    }
    for lengths in itertools.product(*(range(least[folder], len(journals[folder]) + 1) for folder in folders)):
        left = dict(zip(start, range(len(start)), strict=True))
        for folder, length in zip(folders, lengths, strict=True):
            for what, name, other, inode_number in journals[folder][:length]:
                if what != "link":
                    left.pop(name, None)
                if what != "unlink":
                    left[other or name] = inode_number
        used = sorted(set(left.values()))
        for chosen in itertools.product(*(_survivors(inodes[number]) for number in used)):
            contents = dict(zip(used, chosen, strict=True))
            yield {name: contents[number] for name, number in left.items()}
