"""Takes in providers' events: verified first, and answered 2xx only once they are stored."""

from __future__ import annotations

import logging

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from newsletter.errors import BadInput, NewsletterError, NotFound
from newsletter.events import ingest
from newsletter.providers.base import Event, VerificationError, WebhookRequest
from newsletter.web.context import Site, site

_log = logging.getLogger(__name__)


async def webhook(request: Request) -> Response:
    """`POST /webhooks/{provider}`: 404 unknown, 401 unverified, 400 unreadable, 503 not stored."""
    here = site(request)
    name = request.path_params["provider"]
    try:
        provider = here.provider(name)
    except NotFound:
        return JSONResponse({"error": "unknown provider"}, 404)
    except NewsletterError as error:  # its secrets cannot be read: the provider shall try again
        _log.error("the provider %s cannot be used: %s", name, error)
        return JSONResponse({"error": "not ready"}, 503)
    asked = WebhookRequest(
        method=request.method,
        headers={key.lower(): value for key, value in request.headers.items()},
        body=await request.body(),
        query=dict(request.query_params),
    )
    try:
        events = provider.events(asked, now=here.now())
    except VerificationError:
        _log.warning("a webhook for %s did not verify", name)
        return JSONResponse(
            {"error": "not verified"}, 401, headers={"WWW-Authenticate": 'Basic realm="webhooks"'}
        )
    except BadInput as error:
        _log.warning("a webhook for %s cannot be read: %s", name, error)
        return JSONResponse({"error": "unreadable"}, 400)
    stored = await run_in_threadpool(_store, here, name, events)
    return JSONResponse({"received": len(events), "new": stored})


def _store(here: Site, name: str, events: list[Event]) -> int:
    return ingest(here.store, here.workspace, name, events, here.now())
