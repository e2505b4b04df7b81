"""A small part of the Hugging Face hub's HTTP API on 127.0.0.1: repositories are made, committed to and fetched from.

As the hub does, it takes large or binary files by Git LFS, apart from the commit that names them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlparse

TOKEN = "hf_stub"  # noqa: S105 - opens nothing
BINARY = (".safetensors", ".onnx", ".etsa", ".bin", ".data")


@dataclass
class Hub:
    """What the stub holds."""

    url: str = ""
    private: dict[str, bool] = field(default_factory=dict)  # repository → whether it is
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)  # repository → path → content
    uploaded: dict[str, bytes] = field(default_factory=dict)  # SHA-256 → content, by LFS
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    by_lfs: list[str] = field(default_factory=list)

    def commit(self, repo: str) -> str:
        """Name a repository's state."""
        listed = sorted((name, hashlib.sha256(data).hexdigest()) for name, data in self.files[repo].items())
        return hashlib.sha1(json.dumps(listed).encode(), usedforsecurity=False).hexdigest()


@contextmanager
def hub() -> Iterator[Hub]:
    """Serve an empty hub until the ``with`` ends."""
    state = Hub()

    class Handler(_Handler):
        held = state

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    held: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self._path()
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._json({"error": "Invalid username or password."}, status=401)
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path.endswith(".git/info/lfs/objects/batch"):
            return self._lfs(json.loads(body))
        repo, verb = path.removeprefix("/api/models/").removesuffix("/main").rsplit("/", 1)
        if verb == "preupload":
            modes = [
                {"path": one["path"], "uploadMode": "lfs" if one["path"].endswith(BINARY) else "regular",
                 "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]  # fmt: skip
            return self._json({"files": modes})
        if verb == "commit":
            return self._commit(repo, body)
        return self._json({"error": "not here"}, status=404)

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        name = self._path().removeprefix("/lfs/")
        assert hashlib.sha256(data).hexdigest() == name
        self.held.uploaded[name] = data
        self._json({})

    def do_HEAD(self) -> None:
        self._file(head=True)

    def do_GET(self) -> None:
        path = self._path()
        if "/resolve/" in path:
            return self._file(head=False)
        repo = path.removeprefix("/api/models/").split("/revision/")[0].split("/tree/")[0]
        if repo not in self.held.files:
            return self._json({"error": "Repository not found"}, status=404, code="RepoNotFound")
        if "/tree/" in path:
            return self._json(
                [
                    {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha256(data).hexdigest()}
                    for name, data in sorted(self.held.files[repo].items())
                ]
            )
        listed = [{"rfilename": name} for name in sorted(self.held.files[repo])]
        return self._json({"id": repo, "sha": self.held.commit(repo), "siblings": listed, "tags": [],
                           "private": self.held.private[repo], "downloads": 0, "likes": 0})  # fmt: skip

    def _create(self, asked: dict[str, Any]) -> None:
        repo = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else f"me/{asked['name']}"
        if repo in self.held.files:
            made = {"error": "You already created this model repo", "url": f"{self.held.url}/{repo}"}
            return self._json(made, status=409)
        self.held.files[repo], self.held.private[repo] = {}, asked["private"]
        return self._json({"url": f"{self.held.url}/{repo}"})

    def _lfs(self, asked: dict[str, Any]) -> None:
        objects = [
            {"oid": one["oid"], "size": one["size"], "authenticated": True,
             "actions": {"upload": {"href": f"{self.held.url}/lfs/{one['oid']}"}}}
            for one in asked["objects"]
        ]  # fmt: skip
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, repo: str, body: bytes) -> None:
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                self.held.messages.append(value["summary"])
            elif line["key"] == "file":
                self.held.files[repo][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.held.files[repo][value["path"]] = self.held.uploaded[value["oid"]]
                self.held.by_lfs.append(value["path"])
            elif line["key"] == "deletedFile":
                del self.held.files[repo][value["path"]]
        sha = self.held.commit(repo)
        self._json({"success": True, "commitOid": sha, "commitUrl": f"{self.held.url}/{repo}/commit/{sha}"})

    def _file(self, *, head: bool) -> None:
        repo, rest = self._path().lstrip("/").split("/resolve/")
        name = rest.split("/", 1)[1]
        data = self.held.files.get(repo, {}).get(name)
        if data is None:
            return self._json({"error": "Entry not found"}, status=404, code="EntryNotFound", head=head)
        self.send_response(200)
        self.send_header("X-Repo-Commit", self.held.commit(repo))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if not head:
            self.wfile.write(data)
        return None

    def _path(self) -> str:
        path = unquote(urlparse(self.path).path)
        self.held.requests.append(f"{self.command} {path}")
        return path

    def _json(self, value: Any, *, status: int = 200, code: str = "", head: bool = False) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", value["error"])
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if not head:
            self.wfile.write(data)
