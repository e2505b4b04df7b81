"""A TUF repository in memory that may say anything, well signed or not, and a server that remembers what was asked.

Unlike `edge_tsfm.deploy`, which refuses to write what no client could follow: here that is the purpose.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    SuccinctRoles,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

TOP = ("root", "timestamp", "snapshot", "targets")


class TufRepository:
    """Signed roles by name, keys by role, and the files a server gives: path to bytes, or to an HTTP status."""

    def __init__(self) -> None:
        later = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
        self.signers = {role: [CryptoSigner.generate_ed25519()] for role in TOP}
        root = Root(expires=later, consistent_snapshot=True)
        for role in TOP:
            root.add_key(self.signers[role][0].public_key, role)
        self.roles: dict[str, Any] = {
            "root": root,
            "timestamp": Timestamp(expires=later),
            "snapshot": Snapshot(expires=later),
            "targets": Targets(expires=later),
        }
        self.files: dict[str, bytes | int] = {}
        self.asked: list[str] = []
        self.hashes = False  # whether snapshot and timestamp name hashes and lengths too
        self.later = later
        for role in self.roles.values():
            role.version = 0
        self.publish("root", "targets", "snapshot", "timestamp")

    def sign(self, name: str, signers: list[Any] | None = None) -> Metadata[Any]:
        """Sign a role as it is now."""
        metadata = Metadata(self.roles[name])
        for signer in self.signers[name] if signers is None else signers:
            metadata.sign(signer, append=True)
        return metadata

    def put(self, name: str, data: bytes) -> str:
        """Give a role's file to the server; return its path."""
        version = "" if name == "timestamp" or not self._versioned(name) else f"{self.roles[name].version}."
        path = f"/metadata/{version}{quote(name, '')}.json"
        self.files[path] = data
        return path

    def _versioned(self, name: str) -> bool:
        return name == "root" or bool(self.roles["root"].consistent_snapshot)

    def write(self, name: str) -> bytes:
        """Sign a role as it is now, give it to the server, and let whoever names its version name this one."""
        data = self.sign(name).to_bytes(JSONSerializer(compact=True))
        self.put(name, data)
        self.name(name, data)
        return data

    def name(self, name: str, data: bytes) -> None:
        """Let snapshot or timestamp name a role's version."""
        info = (
            MetaFile.from_data(self.roles[name].version, data, ["sha256"])
            if self.hashes
            else MetaFile(self.roles[name].version)
        )
        if name == "snapshot":
            self.roles["timestamp"].snapshot_meta = info
        elif name not in ("root", "timestamp"):
            self.roles["snapshot"].meta[f"{name}.json"] = info

    def publish(self, *names: str) -> None:
        """Raise the versions of roles and write them."""
        for name in names:
            self.roles[name].version += 1
            self.write(name)

    def all(self, *names: str) -> None:
        """Publish roles and everything that names them."""
        self.publish(*names, "snapshot", "timestamp")

    def edit(self, name: str, change: Callable[[dict[str, Any]], None]) -> bytes:
        """Sign a role, then change its JSON."""
        value = json.loads(self.sign(name).to_bytes(JSONSerializer(compact=True)))
        change(value)
        data = json.dumps(value).encode()
        self.put(name, data)
        return data

    def key(self, name: str, *, by: str = "root", signer: Any = None) -> Any:
        """Give a role one more key; return what signs with it."""
        signer = signer or CryptoSigner.generate_ed25519()
        self.signers.setdefault(name, []).append(signer)
        self.roles[by].add_key(signer.public_key, name)
        return signer

    def rotate(self, name: str) -> None:
        """Give a top-level role another key in place of those it has."""
        for keyid in list(self.roles["root"].roles[name].keyids):
            self.roles["root"].revoke_key(keyid, name)
        self.signers[name] = []
        self.key(name)

    def add(self, path: str, data: bytes, role: str = "targets", **options: Any) -> TargetFile:
        """Name a target in a role and serve its bytes."""
        info = TargetFile.from_data(path, data, options.get("algorithms", ["sha256"]))
        self.roles[role].targets[path] = info
        folder, slash, base = path.rpartition("/")
        prefix = f"{next(iter(info.hashes.values()))}." if self.roles["root"].consistent_snapshot else ""
        self.files[f"/targets/{folder}{slash}{prefix}{base}"] = data
        return info

    def delegate(self, by: str, name: str, *, paths: list[str] | None = None, **options: Any) -> None:
        """Let a targets role delegate to another, which is made where it is not there yet."""
        if name not in self.roles:
            self.roles[name] = Targets(expires=self.later)
            self.roles[name].version = 0
        delegator = self.roles[by]
        delegator.delegations = delegator.delegations or Delegations(keys={}, roles={})
        prefixes = options.pop("prefixes", None)
        kept = ["*"] if paths is None and prefixes is None else paths
        role = DelegatedRole(name, [], options.pop("threshold", 1), options.pop("terminating", False), kept, prefixes)
        delegator.delegations.roles[name] = role
        signers = self.signers.setdefault(name, [CryptoSigner.generate_ed25519()])
        for signer in signers:
            delegator.add_key(signer.public_key, name)

    def bins(self, bits: int, prefix: str = "bin") -> SuccinctRoles:
        """Let targets delegate to hash bins."""
        signer = CryptoSigner.generate_ed25519()
        succinct = SuccinctRoles([], 1, bits, prefix)
        self.roles["targets"].delegations = Delegations(keys={}, roles=None, succinct_roles=succinct)
        self.roles["targets"].add_key(signer.public_key)
        for name in succinct.get_roles():
            self.roles[name] = Targets(expires=self.later)
            self.roles[name].version = 0
            self.signers[name] = [signer]
        return succinct

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve on loopback; yield the address."""
        repository = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                repository.asked.append(self.path)
                found = repository.files.get(self.path, repository.files.get(unquote(self.path), 404))
                self.send_response(found if isinstance(found, int) else 200)
                body = b"" if isinstance(found, int) else found
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
