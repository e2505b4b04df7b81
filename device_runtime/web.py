"""HTTP(S) by the standard library, and nothing else that its openers would follow: no files, no FTP, no downgrade."""

from __future__ import annotations

import http.client
import urllib.request
from urllib.parse import urlsplit

from device_runtime.errors import FormatError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class _SaferRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a moved file, but never from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: object, code: int, msg: str, headers: object, newurl: str
    ) -> urllib.request.Request | None:
        """Say where to go next, or None to take the answer for an error."""
        if urlsplit(req.full_url).scheme == "https" and urlsplit(newurl).scheme != "https":
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]  # as given to us


def _opener(*, redirects: bool) -> urllib.request.OpenerDirector:
    """Make an opener of the handlers for HTTP(S) alone."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    if redirects:
        opener.add_handler(_SaferRedirects())
    return opener


def open_url(request: urllib.request.Request, timeout: float, *, redirects: bool = True) -> http.client.HTTPResponse:
    """Send a request; ``timeout`` is in seconds without a byte. Raises `OSError`, `http.client.HTTPException`."""
    response = _opener(redirects=redirects).open(request, timeout=timeout)
    assert isinstance(response, http.client.HTTPResponse)
    return response


def check_address(what: str, address: str, *, secret: bool = False) -> None:
    """Refuse an address that the agent could not or should not use. ``secret``: something secret is sent there.

    Raises `FormatError`.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise FormatError(f"{what}: want a folder, or an address of http or https")
    if parts.username is not None or parts.password is not None:
        raise FormatError(f"{what}: no name or password in an address: addresses are written to logs")
    if secret and parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise FormatError(f"{what}: a token goes over https only", hint="everybody on the way could read it")
