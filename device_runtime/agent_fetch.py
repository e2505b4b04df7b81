"""How the agent reads a repository: static files over HTTP(S), or a folder. Bounded and counted."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tuf.api.exceptions import DownloadError, DownloadHTTPError
from tuf.ngclient.fetcher import FetcherInterface

CHUNK = 16_384  # bytes
TIMEOUT = 20.0  # seconds without a byte
FOLDER = "folder:///"  # TUF wants addresses; a folder gets one of its own


class HttpFetcher(FetcherInterface):
    """Plain GET with the system's certificates; python-tuf bounds each download by the length it expects."""

    def __init__(self, timeout: float = TIMEOUT) -> None:
        self.timeout = timeout
        self.received = 0  # bytes of bodies

    def _fetch(self, url: str) -> Iterator[bytes]:
        if urlsplit(url).scheme not in ("http", "https"):
            raise DownloadError(f"{url}: want http or https")
        request = urllib.request.Request(url, headers={"User-Agent": "edge-tsfm"})  # noqa: S310 - scheme checked
        try:
            response = urllib.request.urlopen(request, timeout=self.timeout)  # noqa: S310 - scheme checked
        except urllib.error.HTTPError as error:
            with error:
                raise DownloadHTTPError(f"{url}: {error.code}", error.code) from error
        return self._chunks(url, response)

    def _chunks(self, url: str, response: object) -> Iterator[bytes]:
        import http.client

        assert isinstance(response, http.client.HTTPResponse)
        with response:
            try:
                while chunk := response.read(CHUNK):
                    self.received += len(chunk)
                    yield chunk
            except (OSError, http.client.HTTPException) as error:
                raise DownloadError(f"{url}: {error}") from error


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
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                self.received += len(chunk)
                yield chunk


Fetcher = HttpFetcher | FolderFetcher


def fetcher_for(repository: str) -> tuple[Fetcher, str]:
    """Return how to read ``repository`` and the address TUF shall use, ending in a slash."""
    if "://" in repository:
        return HttpFetcher(), repository.rstrip("/") + "/"
    return FolderFetcher(Path(repository)), FOLDER
