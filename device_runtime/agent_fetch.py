"""How the agent reads a repository: static files over HTTP(S), or a folder. Bounded in bytes and time, and counted."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from tuf.api.exceptions import DownloadError, DownloadHTTPError
from tuf.ngclient.fetcher import FetcherInterface

from device_runtime.web import open_url

CHUNK = 16_384  # bytes
TIMEOUT = 20.0  # seconds without a byte
FILE_TIME = 60.0  # seconds for one file: a server that drips is a server that is not there
FOLDER = "folder:///"  # TUF wants addresses; a folder gets one of its own
AS_IT_IS = "%/:?#[]@!$&'()*+,;=~"  # what an address may hold; anything else in a target's path is quoted


class HttpFetcher(FetcherInterface):
    """Plain GET with the system's certificates; python-tuf bounds each download by the length it expects."""

    def __init__(self, timeout: float = TIMEOUT, file_time: float = FILE_TIME) -> None:
        self.timeout, self.file_time = timeout, file_time
        self.received = 0  # bytes of bodies

    def _fetch(self, url: str) -> Iterator[bytes]:
        if urlsplit(url).scheme not in ("http", "https"):
            raise DownloadError(f"{url}: want http or https")
        request = urllib.request.Request(  # noqa: S310 - scheme checked
            quote(url, safe=AS_IT_IS), headers={"User-Agent": "edge-tsfm"}
        )
        until = time.monotonic() + self.file_time
        try:
            response = open_url(request, self.timeout)
        except urllib.error.HTTPError as error:
            with error:
                raise DownloadHTTPError(f"{url}: {error.code}", error.code) from error
        return self._chunks(url, response, until)

    def _chunks(self, url: str, response: http.client.HTTPResponse, until: float) -> Iterator[bytes]:
        with response:
            try:
                # read1 returns with every packet: the clock is looked at however slowly they come.
                while chunk := response.read1(CHUNK):
                    if time.monotonic() > until:
                        raise DownloadError(f"{url}: not whole after {self.file_time:g} s")
                    self.received += len(chunk)
                    yield chunk
            except (OSError, http.client.HTTPException) as error:
                raise DownloadError(f"{url}: {error}") from error
            if response.length:
                raise DownloadError(f"{url}: {response.length} bytes are missing at the end")


class FolderFetcher(FetcherInterface):
    """Reads below one folder: a USB stick or a mirror on a share."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.received = 0  # bytes

    def _fetch(self, url: str) -> Iterator[bytes]:
        # TUF quotes role names once for the address and a server would unquote them once.
        path = (self.root / unquote(url.removeprefix(FOLDER))).resolve()
        if not path.is_relative_to(self.root):
            raise DownloadError(f"{url} leads out of {self.root}")
        if not path.is_file():
            raise DownloadHTTPError(f"{path} is not there", 404)
        return self._chunks(path)

    def _chunks(self, path: Path) -> Iterator[bytes]:
        try:
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    self.received += len(chunk)
                    yield chunk
        except OSError as error:
            raise DownloadError(f"{path}: {error.strerror or error}") from error


Fetcher = HttpFetcher | FolderFetcher


def fetcher_for(repository: str) -> tuple[Fetcher, str]:
    """Return how to read ``repository`` and the address TUF shall use, ending in a slash."""
    if "://" in repository:
        return HttpFetcher(), repository.rstrip("/") + "/"
    return FolderFetcher(Path(repository)), FOLDER
