"""The web app: its routes, and what becomes of errors. A page is in the module named after it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

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

_WORDS = {
    400: ("That did not arrive whole", "The form could not be read. Go back and try once more."),
    403: ("That came from elsewhere", "Please use the form on our own page."),
    404: ("Nothing here", "The address is not complete, or what was here has gone."),
    405: ("Not this way", "This page cannot be asked in that way."),
    410: ("This link has expired", "Use the link in a newer email, or start anew."),
    413: ("Too much at once", "What you sent is larger than we take."),
    500: ("Something went wrong", "The fault is ours and was noted. Please try again later."),
    503: ("Back in a moment", "We cannot reach our records just now. Please try again shortly."),
}


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
    title, text = _WORDS.get(status, (HTTPStatus(status).phrase, "Please go back and try again."))
    return site(request).pages.page(
        "notice.html.j2",
        status=status,
        headers=headers,
        code=str(status),
        title=title,
        paragraphs=(text,),
        links=(("/", "To the first page"), ("/archive", "Past issues")),
    )
