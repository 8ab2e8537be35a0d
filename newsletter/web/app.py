"""The web app: its routes, and what becomes of errors. A page is in the module named after it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from newsletter.clock import Clock
from newsletter.errors import BadInput, NewsletterError, NotFound, Unreachable
from newsletter.providers.base import Provider
from newsletter.store import Store
from newsletter.tokens import BadToken, ExpiredToken
from newsletter.web import (
    archive,
    health,
    preferences,
    signup,
    tracking,
    unsubscribe,
    webhooks,
)
from newsletter.web.context import Site, site, trusted_networks
from newsletter.web.limits import BodyLimit
from newsletter.web.pages import Pages
from newsletter.web.security import SecurityHeaders, TrustedProxies, protect
from newsletter.web.topics import Topics
from newsletter.workspace import Workspace

_log = logging.getLogger(__name__)


def create_app(
    workspace: Workspace,
    store: Store,
    clock: Clock,
    *,
    provider: Callable[[str], Provider],
    flush: Callable[[], Awaitable[object]],
) -> Starlette:
    """The site of a workspace. Raises `BadInput` for settings it cannot be run with.

    `provider` opens one by its name (`NotFound` if there is none), for webhooks; `flush` sends
    the outbox, after a sign-up was answered.
    """
    app = Starlette(
        routes=routes(),
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(TrustedProxies, networks=trusted_networks(workspace.settings)),
            Middleware(BodyLimit),
        ],
        exception_handlers={
            HTTPException: _http_error,
            NewsletterError: _our_error,
            Exception: _unexpected,
        },
    )
    # A link with a stray slash is a bad link; a one-click POST must never be redirected.
    app.router.redirect_slashes = False
    app.state.site = Site(
        workspace=workspace,
        store=store,
        clock=clock,
        pages=Pages(workspace.settings),
        provider=provider,
        flush=flush,
        topics=Topics(workspace),
    )
    return app


def routes() -> list[Route]:
    """Every path of the site; starlette answers HEAD wherever GET is, and 405 with `Allow`."""
    both = ["GET", "POST"]
    return [
        Route("/", signup.show),
        Route("/subscribe", signup.subscribe, methods=["POST"]),
        Route("/confirm/{token}", signup.confirm, methods=both),
        Route("/unsubscribe/{token}", unsubscribe.unsubscribe, methods=both),
        Route("/preferences/{token}", preferences.preferences, methods=both),
        Route("/archive", archive.archive),
        Route("/archive/{slug}", archive.issue),
        Route("/feed.xml", archive.feed),
        Route("/media/{name}", archive.media_file),
        Route("/assets/{name}", _asset),
        Route("/webhooks/{provider}", webhooks.webhook, methods=["POST"]),
        Route("/r/{token}", tracking.click),
        Route("/o/{token}.gif", tracking.pixel),
        Route("/healthz", health.healthz),
        Route("/readyz", health.readyz),
        Route("/metrics", health.metrics),
    ]


async def _asset(request: Request) -> Response:
    pages = site(request).pages
    assets = {
        pages.style_address: (pages.style_sheet, "text/css"),
        pages.icon_address: (pages.icon, "image/svg+xml"),
    }
    found = assets.get(request.url.path)
    if found is None:
        raise HTTPException(404)
    return Response(
        found[0],
        media_type=found[1],
        headers={"Cache-Control": "public, max-age=31536000, immutable"},
    )


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return error_page(request, error.status_code, dict(error.headers or {}))


async def _our_error(request: Request, error: Exception) -> Response:
    match error:
        case ExpiredToken():
            return error_page(request, 410)
        case BadToken() | NotFound():
            return error_page(request, 404)
        case BadInput():
            return error_page(request, 400)
        case Unreachable():
            _log.error("%s", error)
            return error_page(request, 503, {"Retry-After": "30"})
    return await _unexpected(request, error)


async def _unexpected(request: Request, error: Exception) -> Response:
    """The server's own log has the traceback; the visitor gets a page."""
    response = error_page(request, 500)
    protect(response.headers, request.url.path)  # this answer goes past the middleware
    return response


def error_page(request: Request, status: int, headers: dict[str, str] | None = None) -> Response:
    """A page for a status that is no success, in the words of the site."""
    pages = site(request).pages
    frame = pages.words.frame
    said = pages.words.errors.get(status, pages.words.other_error)
    return pages.notice(
        replace(said, links=(frame.home, frame.past_issues)),
        "/",
        "/archive",
        status=status,
        code=str(status),
        headers=headers,
    )
