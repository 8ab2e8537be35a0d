"""What a reader can see and change about themselves: name, topics, frequency, copy, erasure.

The link in a mail opens it for a year after its send; erasure asks once more before it happens.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import orjson
from sqlalchemy import Row
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from newsletter import audience
from newsletter.tokens import (
    BadToken,
    ExpiredToken,
    read_recipient_token,
    read_timed_token,
    recipient_token,
)
from newsletter.web.context import Site, site
from newsletter.web.forms import Form, read_form
from newsletter.web.people import find_person, masked, sent_at
from newsletter.web.security import refuse_other_sites
from newsletter.web.signup import PREFERENCES_AGE

MAIL_AGE = timedelta(days=365)


async def preferences(request: Request) -> Response:
    """`GET` and `POST /preferences/{token}`; a form's `action` says what is wanted."""
    here = site(request)
    token = request.path_params["token"]
    person = await run_in_threadpool(_person, here, token)
    if request.method != "POST":
        return await run_in_threadpool(_page, here, person, False)
    refuse_other_sites(request, here.base_url)
    form = await read_form(request)
    match form.text("action"):
        case "save":
            return await run_in_threadpool(_save, here, person, form)
        case "export":
            return await run_in_threadpool(_export, here, person)
        case "erase":
            return here.pages.page(
                "erase.html.j2", address=masked(person.email), preferences=f"/preferences/{token}"
            )
        case "erase-now":
            return await run_in_threadpool(_erase, here, person)
    raise HTTPException(400)


def _person(here: Site, token: str) -> Row[Any]:
    """Who the token opens for. Raises `BadToken` or `ExpiredToken`."""
    if "." in token:  # the link on the page after a confirmation
        subscriber = int(
            read_timed_token(here.key, "preferences", token, here.now(), PREFERENCES_AGE)
        )
    else:
        recipient = read_recipient_token(here.key, token)
        at = sent_at(here, recipient.send)
        if at is not None and here.now() > at + MAIL_AGE:
            raise ExpiredToken("this link is over a year old")
        subscriber = recipient.subscriber
    person = find_person(here, subscriber)
    if person is None:
        if subscriber == 0:
            raise BadToken("this link came with a test message")
        raise ExpiredToken("this person was erased")
    return person


def _page(here: Site, person: Row[Any], saved: bool) -> Response:
    topics = here.topics.offered()
    return here.pages.page(
        "preferences.html.j2",
        saved=saved,
        active=person.state in {"active", "pending"},
        address=masked(person.email),
        first_name=person.first_name,
        topics=tuple(dict.fromkeys((*topics, *person.topics))),
        chosen=person.topics,
        frequency=person.frequency,
        frequencies=audience.FREQUENCIES,
        unsubscribe=f"/unsubscribe/{recipient_token(here.key, 0, person.id)}",
    )


def _save(here: Site, person: Row[Any], form: Form) -> Response:
    known = {*here.topics.offered(), *person.topics}
    frequency = form.text("frequency")
    with here.store.begin() as connection:
        audience.update_preferences(
            connection,
            person.id,
            now=here.now(),
            first_name=form.text("first_name", 100),
            last_name=person.last_name,
            topics=[topic for topic in form.all("topics", 100) if topic in known],
            frequency=frequency if frequency in audience.FREQUENCIES else person.frequency,
        )
    changed = find_person(here, person.id)
    if changed is None:
        raise ExpiredToken("this person was erased")
    return _page(here, changed, True)


def _export(here: Site, person: Row[Any]) -> Response:
    with here.store.read() as connection:
        data = audience.personal_data(connection, person.id)
    return Response(
        orjson.dumps(data, option=orjson.OPT_INDENT_2),
        media_type="application/json",
        headers={"Content-Disposition": 'attachment; filename="my-data.json"'},
    )


def _erase(here: Site, person: Row[Any]) -> Response:
    with here.store.begin() as connection:
        audience.erase(connection, here.key, person.id, here.now())
    return here.pages.notice(here.pages.words.erase.done, "/")
