"""Sign-up with double opt-in: the form, the mail it causes, and the confirmation.

The answer is the same, and takes as long, whether or not the address is known. The mail repeats
nothing that the visitor typed: nobody can make the site write words of theirs to a stranger.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from newsletter import audience, outbox, rendering
from newsletter.errors import BadInput
from newsletter.tokens import read_timed_token, timed_token
from newsletter.web.archive import published
from newsletter.web.context import Site, site
from newsletter.web.forms import Form, read_form
from newsletter.web.limits import visitor
from newsletter.web.security import refuse_other_sites
from newsletter.web.wording import confirmation
from newsletter.web.words import SignUp

CONFIRM_AGE = timedelta(days=7)
PREFERENCES_AGE = timedelta(days=1)
_ANSWER_SECONDS = 0.2  # longer than noting a sign-up takes, so that its length tells nothing
_LATEST = 3


def consent_wording(here: Site) -> str:
    """What a visitor agrees to; the consent record keeps these words."""
    return here.pages.named(here.pages.words.signup.consent)


async def show(request: Request) -> Response:
    """`GET /`: the sign-up page."""
    values = {"email": "", "first_name": "", "topics": [], "consent": False}
    return await run_in_threadpool(_form_page, site(request), values, {}, 200)


async def subscribe(request: Request) -> Response:
    """`POST /subscribe`."""
    here = site(request)
    loop = asyncio.get_running_loop()
    answer_at = loop.time() + _ANSWER_SECONDS
    refuse_other_sites(request, here.base_url)
    form = await read_form(request)
    address = visitor(request.client.host if request.client else "")
    if not here.signups.allow(address, here.now()):
        return here.pages.notice(
            here.pages.words.signup.wait,
            status=429,
            headers={"Retry-After": str(int(here.signups.span.total_seconds()))},
        )
    values = _values(form)
    errors = _errors(values, here.pages.words.signup)
    if not errors and not form.text("website"):
        errors = await run_in_threadpool(_note, here, values)
    await asyncio.sleep(answer_at - loop.time())
    if errors:
        return await run_in_threadpool(_form_page, here, values, errors, 400)
    return here.pages.notice(
        here.pages.words.signup.check_inbox, "/archive", background=BackgroundTask(here.flush)
    )


async def confirm(request: Request) -> Response:
    """`GET` and `POST /confirm/{token}`: only the `POST` changes anything, and twice is as once."""
    here = site(request)
    data = read_timed_token(
        here.key, "confirm", request.path_params["token"], here.now(), CONFIRM_AGE
    )
    if request.method != "POST":
        return here.pages.page("confirm.html.j2")
    await read_form(request)
    return await run_in_threadpool(_confirm, here, int(data))


def _confirm(here: Site, subscriber: int) -> Response:
    now = here.now()
    with here.store.begin() as connection:
        subscribed = audience.confirm(connection, subscriber, now)
    if not subscribed:
        return here.pages.notice(here.pages.words.confirm.used, "/", status=410)
    token = timed_token(here.key, "preferences", subscriber, now)
    return here.pages.notice(here.pages.words.confirm.welcome, "/archive", f"/preferences/{token}")


def _values(form: Form) -> dict[str, Any]:
    return {
        "email": form.text("email", 600),
        "first_name": form.text("first_name", 100),
        "topics": form.all("topics", 100)[:50],
        "consent": bool(form.text("consent")),
    }


def _errors(values: dict[str, Any], words: SignUp) -> dict[str, str]:
    errors = {}
    try:
        audience.normalise_address(values["email"])
    except BadInput:
        errors["email"] = words.email_fault
    if not values["consent"]:
        errors["consent"] = words.consent_fault
    return errors


def _note(here: Site, values: dict[str, Any]) -> dict[str, str]:
    """Note the sign-up and queue its mail, in one transaction."""
    now = here.now()
    offered = here.topics.offered()
    with here.store.begin() as connection:
        signup = audience.subscribe(
            connection,
            here.key,
            now,
            email=values["email"],
            first_name=values["first_name"],
            topics=[topic for topic in values["topics"] if topic in offered],
            consent_text=consent_wording(here),
            details={"page": "/"},
        )
        if signup.confirm and signup.subscriber_id is not None:
            subject, html, text = _confirmation(here, signup.subscriber_id)
            outbox.enqueue(
                connection,
                kind="confirmation",
                # The audience decides how often; a window per minute only rules out a repeat.
                cause=f"confirm:{signup.subscriber_id}:{int(now.timestamp() // 60)}",
                to=signup.email,
                subject=subject,
                html=html,
                text=text,
                now=now,
            )
    return {}


def _confirmation(here: Site, subscriber: int) -> tuple[str, str, str]:
    """Subject, HTML and text of the mail: the site's words and a link, nothing of the visitor's."""
    link = f"{here.base_url}/confirm/{timed_token(here.key, 'confirm', subscriber, here.now())}"
    settings = here.settings.site
    subject, body = confirmation(settings.language, settings.name, link)
    html, text = rendering.render_notice(here.workspace, subject, body)
    return subject, html, text


def _form_page(here: Site, values: dict[str, Any], errors: dict[str, str], status: int) -> Response:
    with here.store.read() as connection:
        latest = published(connection, limit=_LATEST)
    return here.pages.page(
        "signup.html.j2",
        status=status,
        values=values,
        errors=errors,
        topics=here.topics.offered(),
        consent=consent_wording(here),
        issues=latest,
    )
