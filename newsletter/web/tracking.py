"""Click redirects and the open pixel. They count as much as `[tracking]` says, and no more.

A redirect goes only where a link of a frozen issue went: its token is signed and its target is in
the database, so the site is no open redirect.
"""

from __future__ import annotations

import base64
import logging

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from newsletter.errors import Unreachable
from newsletter.events import record_click, record_open, target_of
from newsletter.tokens import RecipientToken, read_link_token, read_recipient_token
from newsletter.web.context import Site, site

_log = logging.getLogger(__name__)

# The smallest transparent GIF: 43 bytes.
_PIXEL = base64.b64decode("R0lGODlhAQABAIAAAP///wAAACH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==")


async def click(request: Request) -> Response:
    """`GET /r/{token}`: to the link's target; the recipient's part of the token may be missing."""
    here = site(request)
    link_part, _, recipient_part = request.path_params["token"].partition(".")
    link = read_link_token(here.key, link_part).hex()
    recipient = read_recipient_token(here.key, recipient_part) if recipient_part else None
    url = await run_in_threadpool(_target, here, link)
    if request.method == "GET":
        await run_in_threadpool(_count_click, here, link, recipient, _agent(request))
    return RedirectResponse(url, 302, headers={"Cache-Control": "no-store"})


def _target(here: Site, link: str) -> str:
    with here.store.read() as connection:
        url = target_of(connection, link)
    if url is None:
        raise HTTPException(404)
    return url


def _count_click(here: Site, link: str, recipient: RecipientToken | None, agent: str) -> None:
    tracking = here.settings.tracking.clicks
    if tracking == "none":
        return
    try:
        with here.store.begin() as connection:
            record_click(
                connection,
                link=link,
                recipient=recipient if tracking == "individual" else None,
                user_agent=agent,
                now=here.now(),
            )
    except Unreachable as error:  # the reader's way on does not depend on our counting
        _log.warning("a click was not counted: %s", error)


async def pixel(request: Request) -> Response:
    """`GET /o/{token}.gif`: always one picture; an open counts only where opens are tracked."""
    here = site(request)
    recipient = read_recipient_token(here.key, request.path_params["token"])
    if request.method == "GET" and here.settings.tracking.opens == "individual":
        await run_in_threadpool(_count_open, here, recipient, _agent(request))
    return Response(
        _PIXEL,
        media_type="image/gif",
        headers={"Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "cross-origin"},
    )


def _count_open(here: Site, recipient: RecipientToken, agent: str) -> None:
    try:
        with here.store.begin() as connection:
            record_open(connection, recipient=recipient, user_agent=agent, now=here.now())
    except Unreachable as error:
        _log.warning("an open was not counted: %s", error)


def _agent(request: Request) -> str:
    return request.headers.get("user-agent", "")
