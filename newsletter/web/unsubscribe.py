"""Leaving: the page with one button, and the one-click POST that mail programs send (RFC 8058).

No login, no question, no redirect, and the link never expires: it must work from any old mail.
"""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from newsletter import audience
from newsletter.tokens import RecipientToken, read_recipient_token
from newsletter.web.context import Site, site
from newsletter.web.people import find_person, masked


async def unsubscribe(request: Request) -> Response:
    """`GET` and `POST /unsubscribe/{token}`; any `POST` is a wish to leave, whatever its body."""
    here = site(request)
    text = request.path_params["token"]
    token = read_recipient_token(here.key, text)
    if request.method != "POST":
        return await run_in_threadpool(_ask, here, token, text)
    await request.body()  # for its size alone: a wish to leave does not depend on how it is put
    return await run_in_threadpool(_leave, here, token, text)


def _ask(here: Site, token: RecipientToken, text: str) -> Response:
    person = find_person(here, token.subscriber)
    if person is None:
        return _gone(here)
    if person.state not in {"active", "pending"}:
        return _left(here, text)
    return here.pages.page(
        "unsubscribe.html.j2", address=masked(person.email), preferences=f"/preferences/{text}"
    )


def _leave(here: Site, token: RecipientToken, text: str) -> Response:
    with here.store.begin() as connection:
        audience.unsubscribe(
            connection, token.subscriber, how="one-click", now=here.now(), send_id=token.send
        )
    if find_person(here, token.subscriber) is None:
        return _gone(here)
    return _left(here, text)


def _left(here: Site, text: str) -> Response:
    return here.pages.notice(here.pages.words.unsubscribe.left, "/", f"/preferences/{text}")


def _gone(here: Site) -> Response:
    """For an erased address, and for a test message to somebody who is no subscriber."""
    return here.pages.notice(here.pages.words.unsubscribe.gone, "/archive")
