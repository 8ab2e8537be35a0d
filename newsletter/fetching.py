"""Fetches from outside: pages, feeds, links under check, remote images. Nothing else opens a URL.

Every address is resolved here, checked, and then connected to by number, so that a name cannot
point elsewhere between check and connection. Time, size and redirects are limited in total. It
does not know what the bytes are for.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit, urlunsplit

import httpx

from newsletter import __version__
from newsletter.errors import BadInput, Unreachable
from newsletter.settings import Fetch

MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_STEP_SECONDS = 5.0  # the longest silence between two bytes; the total is the settings' time-out
_AGENT = f"newsletter-pipeline/{__version__}"


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer: the address after redirects, and the body uncompressed (empty for 304)."""

    url: str
    status: int
    content_type: str
    body: bytes
    etag: str
    last_modified: str


@dataclass(frozen=True, slots=True)
class _Target:
    """A URL with the address that was checked: connect to `url`, ask for `host`."""

    url: str
    host_header: str
    server_name: str


class Fetcher:
    """Fetches within limits; one is made from the settings and handed to its users."""

    def __init__(self, settings: Fetch) -> None:
        self._settings = settings

    def fetch(self, url: str, *, etag: str = "", last_modified: str = "") -> Fetched:
        """GET the URL, following up to five redirects, each checked anew.

        With `etag` or `last_modified` the request is conditional and may answer 304. Raises
        `BadInput` for an address that must not be fetched, `Unreachable` where nothing usable
        answers: no such host, time-out, too large, an error status.
        """
        headers = {}
        if etag:
            headers["If-None-Match"] = etag
        if last_modified:
            headers["If-Modified-Since"] = last_modified
        answer = self._follow("GET", url, headers)
        if answer.status != 304 and not 200 <= answer.status < 300:
            raise Unreachable(f"{url} answered {answer.status}")
        return answer

    def probe(self, url: str) -> int:
        """The status at the end of the redirects, by HEAD, or GET where HEAD is not served.

        Raises as `fetch` does, but for error statuses, which it returns.
        """
        status = self._follow("HEAD", url, {}).status
        if status in {403, 404, 405, 500, 501, 503}:
            status = self._follow("GET", url, {}, keep_body=False).status
        return status

    def _follow(
        self, method: str, url: str, headers: dict[str, str], *, keep_body: bool = True
    ) -> Fetched:
        deadline = time.monotonic() + self._settings.timeout.total_seconds()
        for _ in range(MAX_REDIRECTS + 1):
            answer, location = self._once(method, url, headers, deadline, keep_body)
            if location is None:
                return answer
            url = location
        raise Unreachable(f"{url}: more than {MAX_REDIRECTS} redirects")

    def _once(
        self, method: str, url: str, headers: dict[str, str], deadline: float, keep_body: bool
    ) -> tuple[Fetched, str | None]:
        target = _pin(url, self._settings.allow_private, _left(deadline, url))
        step = min(_STEP_SECONDS, _left(deadline, url))
        try:
            with (
                httpx.Client(
                    trust_env=False, timeout=step, verify=_verification(url), http2=False
                ) as client,
                _Guillotine(client, _left(deadline, url)) as guillotine,
                client.stream(
                    method,
                    target.url,
                    headers={
                        "Host": target.host_header,
                        "User-Agent": _AGENT,
                        "Accept-Encoding": "gzip",
                        "Accept": "*/*",
                        **headers,
                    },
                    extensions={"sni_hostname": target.server_name},
                ) as response,
            ):
                location = response.headers.get("Location")
                if response.status_code in _REDIRECTS and location:
                    return _answer(url, response, b""), urljoin(url, location)
                wanted = keep_body and method != "HEAD" and response.status_code != 304
                body = self._read(response, url, deadline, guillotine) if wanted else b""
                return _answer(url, response, body), None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, RuntimeError) as error:
            if time.monotonic() >= deadline:
                raise _too_slow(url, self._settings) from error
            reason = str(error) or type(error).__name__
            raise Unreachable(f"{url} does not answer: {reason}") from error

    def _read(
        self, response: httpx.Response, url: str, deadline: float, guillotine: _Guillotine
    ) -> bytes:
        """The body, uncompressed as it comes, so that neither form passes the limit."""
        limit = self._settings.max_bytes
        body = bytearray()
        for chunk in _decoded(response, url, limit):
            body += chunk
            if len(body) > limit:
                raise Unreachable(
                    f"{url} is larger than {limit:,} bytes",
                    hint="fetch.max_bytes in newsletter.toml is the limit.",
                )
            if time.monotonic() >= deadline:
                raise _too_slow(url, self._settings)
        if guillotine.fell:
            raise _too_slow(url, self._settings)
        return bytes(body)


class _Guillotine:
    """Closes a client at its deadline: a server that sends a byte a second cannot hold a thread.

    httpx times each read alone and has no limit in total.
    """

    def __init__(self, client: httpx.Client, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._fall)
        self._timer.daemon = True
        self._client = client
        self.fell = False

    def _fall(self) -> None:
        self.fell = True
        self._client.close()

    def __enter__(self) -> _Guillotine:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


def _decoded(response: httpx.Response, url: str, limit: int) -> Iterator[bytes]:
    """The body's chunks; gzip is undone at most `limit` bytes at a time (a bomb stays small)."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in {"", "identity"}:
        yield from response.iter_raw()
        return
    if encoding not in {"gzip", "x-gzip"}:
        raise Unreachable(f"{url} is encoded as {encoding}, which was not asked for")
    unpack = zlib.decompressobj(wbits=31)
    try:
        for chunk in response.iter_raw():
            yield unpack.decompress(chunk, limit + 1)
            while unpack.unconsumed_tail:
                yield unpack.decompress(unpack.unconsumed_tail, limit + 1)
    except zlib.error as error:
        raise Unreachable(f"{url} answered gzip that is broken") from error
    if not unpack.eof:
        raise Unreachable(f"{url} ended too early")


def _answer(url: str, response: httpx.Response, body: bytes) -> Fetched:
    return Fetched(
        url=url,
        status=response.status_code,
        content_type=response.headers.get("Content-Type", ""),
        body=body,
        etag=response.headers.get("ETag", ""),
        last_modified=response.headers.get("Last-Modified", ""),
    )


def _left(deadline: float, url: str) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise Unreachable(f"{url} took too long")
    return left


def _too_slow(url: str, settings: Fetch) -> Unreachable:
    return Unreachable(
        f"{url} took longer than {settings.timeout.total_seconds():g} s",
        hint="fetch.timeout in newsletter.toml is the limit.",
    )


def _verification(url: str) -> ssl.SSLContext | bool:
    return httpx.create_ssl_context(trust_env=False) if url.startswith("https:") else True


def _pin(url: str, allow_private: bool, seconds: float) -> _Target:
    """Resolve and check an address. The URL returned has the number in place of the name."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode("ascii") if parts.hostname else ""
    except (ValueError, UnicodeError) as error:
        raise BadInput(f"{url!r} is not a web address") from error
    if parts.scheme not in {"http", "https"} or not host:
        raise BadInput(f"{url!r} is not an http or https address")
    if parts.username is not None or parts.password is not None:
        raise BadInput("an address with a user name in it is not fetched")
    address = _resolve(host, port or (443 if parts.scheme == "https" else 80), url, seconds)
    if not allow_private and not _is_public(address):
        raise BadInput(
            f"{url} leads to {address}, which is not on the public network",
            hint="fetch.allow_private = true in newsletter.toml allows it.",
        )
    number = f"[{address}]" if address.version == 6 else str(address)
    netloc = number if port is None else f"{number}:{port}"
    shown = f"[{host}]" if ":" in host else host
    pinned = urlunsplit((parts.scheme, netloc, parts.path or "/", parts.query, ""))
    return _Target(pinned, shown if port is None else f"{shown}:{port}", host)


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _resolve(host: str, port: int, url: str, seconds: float) -> _Address:
    """The name's first address, by the system's resolver, which has no time-out of its own."""
    found: list[str] = []
    failed: list[OSError | UnicodeError] = []

    def look_up() -> None:
        try:
            found.extend(
                str(entry[4][0])
                for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            )
        except (OSError, UnicodeError) as error:
            failed.append(error)

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(seconds)
    if not found:
        reason = f": {failed[0]}" if failed else ""
        raise Unreachable(f"{url}: there is no host {host}{reason}")
    return ipaddress.ip_address(found[0].partition("%")[0])


def _is_public(address: _Address) -> bool:
    """Whether an address is on the public network; forms of IPv6 that carry an IPv4 are opened."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return _is_public(inner)
        # Reserved is ::/8 too, with older forms that carry an IPv4, such as ::127.0.0.1.
        if address.is_site_local or address.is_reserved:
            return False
    return address.is_global and not address.is_multicast
