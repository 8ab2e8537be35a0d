"""Headers that protect the reader, and whom a request may claim to come from.

The pages run no script at all; their one style sheet is the site's own. Token pages are neither
indexed nor stored, and tell nobody where the reader came from.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from newsletter.web.context import Network

TOKEN_PATHS = ("/confirm/", "/unsubscribe/", "/preferences/", "/r/", "/o/")

PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)


class SecurityHeaders:
    """Adds the headers that a response has not set for itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                protect(MutableHeaders(scope=message), scope["path"])
            await send(message)

        await self.app(scope, receive, protected)


def protect(headers: MutableHeaders, path: str) -> None:
    """Set the headers that an answer for `path` lacks."""
    private = path.startswith(TOKEN_PATHS)
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Content-Security-Policy", PAGE_POLICY)
    headers.setdefault("X-Frame-Options", "DENY")
    headers.setdefault("Referrer-Policy", "no-referrer" if private else "same-origin")
    if private:
        headers.setdefault("X-Robots-Tag", "noindex, nofollow")
        headers.setdefault("Cache-Control", "no-store")


class TrustedProxies:
    """Takes the visitor's address and scheme from forwarded headers of the proxies named."""

    def __init__(self, app: ASGIApp, networks: tuple[Network, ...]) -> None:
        self.app = app
        self.networks = networks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        if scope["type"] == "http" and client and self._trusts(client[0]):
            headers = Headers(scope=scope)
            scope["client"] = (self._visitor(client[0], headers.getlist("x-forwarded-for")), 0)
            if headers.get("x-forwarded-proto") in {"http", "https"}:
                scope["scheme"] = headers["x-forwarded-proto"]
        await self.app(scope, receive, send)

    def _trusts(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self.networks)

    def _visitor(self, proxy: str, forwarded: list[str]) -> str:
        """The last address that is no proxy of ours: what stands before it, anybody wrote."""
        found = proxy
        for part in reversed(",".join(forwarded).split(",")):
            try:
                found = str(ipaddress.ip_address(part.strip()))
            except ValueError:
                return found
            if not self._trusts(found):
                return found
        return found


def refuse_other_sites(request: Request, base_url: str) -> None:
    """Raise 403 when a browser says that another site's page sent this form.

    A page without referrer sends `Origin: null`; there `Sec-Fetch-Site` decides, and where a
    browser has neither, the token in the form's address is what proves the visitor.
    """
    fetch_site = request.headers.get("sec-fetch-site")
    if fetch_site is not None:
        if fetch_site not in {"same-origin", "none"}:
            raise HTTPException(403)
        return
    origin = request.headers.get("origin", "null")
    if origin == "null":
        return
    known = {urlsplit(base_url).netloc, request.headers.get("host", "")}
    if urlsplit(origin).netloc not in known:
        raise HTTPException(403)
