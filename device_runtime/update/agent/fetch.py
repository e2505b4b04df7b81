"""How the agent reads a repository: static files over HTTP(S), or a folder. Bounded in bytes and time, and counted."""

from __future__ import annotations

import contextlib
import http.client
import io
import math
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError
from tuf.ngclient.fetcher import FetcherInterface

from device_runtime.update.web import open_url

CHUNK = 16_384  # bytes
TIMEOUT = 20.0  # seconds without a byte
FILE_TIME = 60.0  # seconds for one file: a server that drips is a server that is not there
FOLDER = "folder:///"  # TUF wants addresses; a folder gets one of its own
AS_IT_IS = "%/:?#[]@!$&'()*+,;=~"  # what an address may hold; anything else in a target's path is quoted


class _InMemory(FetcherInterface):
    """Takes what it fetches into memory, bounded by what is expected: no temporary file, so a full disk takes it."""

    @contextlib.contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[io.BytesIO]:
        """Download at most ``max_length`` bytes. Raises `DownloadError`."""
        data = io.BytesIO()
        for chunk in self.fetch(url):
            if data.write(chunk) and data.tell() > max_length:
                raise DownloadLengthMismatchError(f"{url}: more than {max_length} bytes")
        data.seek(0)
        yield data


class HttpFetcher(_InMemory):
    """Plain GET with the system's certificates; python-tuf bounds each download by the length it expects."""

    def __init__(self, timeout: float = TIMEOUT, file_time: float = FILE_TIME) -> None:
        self.timeout, self.file_time = timeout, file_time
        self.received = 0  # bytes of bodies
        self._until = math.inf

    def begin(self, seconds: float) -> None:
        """Set a deadline of ``seconds`` for everything fetched from now on."""
        self._until = time.monotonic() + seconds

    def _fetch(self, url: str) -> Iterator[bytes]:
        if urlsplit(url).scheme not in ("http", "https"):
            raise DownloadError(f"{url}: want http or https")
        request = urllib.request.Request(  # noqa: S310 - scheme checked
            quote(url, safe=AS_IT_IS), headers={"User-Agent": "edge-tsfm"}
        )
        return self._chunks(url, request)

    def _chunks(self, url: str, request: urllib.request.Request) -> Iterator[bytes]:
        until = min(time.monotonic() + self.file_time, self._until)
        try:
            with open_url(request, self.timeout, until=until) as response:
                # read1 returns with every packet: the clock is looked at however slowly they come.
                while chunk := response.read1(CHUNK):
                    if time.monotonic() > until:
                        raise TimeoutError
                    self.received += len(chunk)
                    yield chunk
                if time.monotonic() <= until and response.length:
                    raise DownloadError(f"{url}: {response.length} bytes are missing at the end")
        except urllib.error.HTTPError as error:
            with error:
                raise DownloadHTTPError(f"{url}: {error.code}", error.code) from error
        except (OSError, http.client.HTTPException) as error:
            raise DownloadError(f"{url}: {error}") from error


class FolderFetcher(_InMemory):
    """Reads below one folder: a USB stick or a mirror on a share."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.received = 0  # bytes
        self._until = math.inf

    def begin(self, seconds: float) -> None:
        """Set a deadline of ``seconds`` for everything fetched from now on; a file on a hanging share may exceed it."""
        self._until = time.monotonic() + seconds

    def _fetch(self, url: str) -> Iterator[bytes]:
        # TUF quotes role names once for the address and a server would unquote them once.
        root = _resolved(self.root)
        path = _resolved(root / unquote(url.removeprefix(FOLDER)))
        if not path.is_relative_to(root):
            raise DownloadError(f"{url} leads out of {self.root}")
        if time.monotonic() > self._until:
            raise DownloadError(f"{path}: not read in time")
        try:
            if not path.is_file():
                raise DownloadHTTPError(f"{path} is not there", 404)
        except OSError as error:
            raise DownloadError(f"{path}: {error.strerror or error}") from error
        return self._chunks(path)

    def _chunks(self, path: Path) -> Iterator[bytes]:
        try:
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    self.received += len(chunk)
                    yield chunk
        except OSError as error:
            raise DownloadError(f"{path}: {error.strerror or error}") from error


def _resolved(path: Path) -> Path:
    """Follow the links of a path. Raises `DownloadError` where they go round in circles, or the path is none."""
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise DownloadError(f"{path}: {error}") from error


Fetcher = HttpFetcher | FolderFetcher


def fetcher_for(repository: str) -> tuple[Fetcher, str]:
    """Return how to read ``repository`` and the address TUF shall use, ending in a slash."""
    if "://" in repository:
        return HttpFetcher(), repository.rstrip("/") + "/"
    return FolderFetcher(Path(repository)), FOLDER
