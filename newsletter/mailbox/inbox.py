"""The web inbox: the mail of everybody, read as its recipient would, without scripts.

Values from messages are untrusted: pages escape them, and a message's HTML is shown only in a
sandboxed frame that runs nothing. Buttons do what a mail client does, from the server.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from newsletter.mailbox import outgoing
from newsletter.mailbox.acceptance import event_of
from newsletter.mailbox.api import Mailbox
from newsletter.mailbox.mime import as_eml, attachments
from newsletter.settings import is_loopback

_FOLDER = Path(__file__).parent / "templates"
_PAGE = 30
_TABS = ("html", "text", "headers", "raw")
_HUES = 8
_RAW_SHOWN = 400_000

_PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; frame-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_MAIL_POLICY = (
    "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none';"
    " style-src 'unsafe-inline'; img-src * data:; frame-ancestors 'self'"
)
_EVENTS = {
    "clicked": "A click was reported.",
    "complained": "The message was reported as spam.",
    "bounced": "A bounce was reported.",
}


def routes(mailbox: Mailbox) -> list[Route]:
    """The inbox's pages; none asks for a password."""
    inbox = _Inbox(mailbox)
    return [
        Route("/", inbox.show_list),
        Route("/inbox.css", inbox.style),
        Route("/inbox/{id}", inbox.show_message),
        Route("/inbox/{id}/html", inbox.show_html),
        Route("/inbox/{id}/cid/{cid:path}", inbox.show_image),
        Route("/inbox/{id}/unsubscribe", _same_site(inbox.unsubscribe), methods=["POST"]),
        Route("/inbox/{id}/event/{type}", _same_site(inbox.report), methods=["POST"]),
    ]


def unsubscribe_link(message: dict[str, Any]) -> str:
    """The one-click address of RFC 8058; empty where the message offers none."""
    headers = {k.lower(): v for k, v in (message.get("headers") or {}).items()}
    if "one-click" not in headers.get("list-unsubscribe-post", "").lower():
        return ""
    links = re.findall(r"<\s*(https?://[^>\s]+)\s*>", headers.get("list-unsubscribe", ""))
    return links[0] if links else ""


_Handler = Callable[[Request], Awaitable[Response]]


def _same_site(handler: _Handler) -> _Handler:
    """Refuse what another site's page sends through the reader's browser."""

    async def guard(request: Request) -> Response:
        if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
            return Response("not from another site", 403)
        return await handler(request)

    return guard


class _Inbox:
    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._storage = mailbox.storage
        self._templates = Environment(
            loader=FileSystemLoader(_FOLDER), autoescape=True, trim_blocks=True, lstrip_blocks=True
        )
        self._templates.filters.update(when=_when, short=_short, hue=_hue, initial=_initial)

    # --- pages ----------------------------------------------------------------------------------

    async def style(self, request: Request) -> Response:
        return Response((_FOLDER / "inbox.css").read_bytes(), media_type="text/css")

    async def show_list(self, request: Request) -> Response:
        return await self._page(request, None)

    async def show_message(self, request: Request) -> Response:
        message = await self._message(request)
        if message is None:
            return self._missing()
        return await self._page(request, message)

    async def _page(self, request: Request, message: dict[str, Any] | None) -> Response:
        query = request.query_params
        search, to = query.get("q", "").strip()[:200], query.get("to", "").strip()[:320]
        number = query.get("page", "1")
        page = int(number) if number.isdecimal() and len(number) < 9 else 1
        page = max(page, 1)
        found = await asyncio.to_thread(
            self._storage.page, to=to, search=search, limit=_PAGE, offset=(page - 1) * _PAGE
        )
        tab = query.get("tab", "html")
        kept = {k: v for k, v in (("q", search), ("to", to)) if v}
        html = self._templates.get_template("inbox.html.j2").render(
            found=found,
            message=message,
            search=search,
            to=to,
            page=page,
            now=self._mailbox.now(),
            pages=max((found.total + _PAGE - 1) // _PAGE, 1),
            tab=tab if tab in _TABS else "html",
            tabs=_TABS,
            query=lambda **more: _query({**kept, **more}),
            address=lambda m, **more: f"/inbox/{quote(m['id'])}{_query({**kept, **more})}",
            notice=_notice(query.get("done", "")),
            unsubscribe=unsubscribe_link(message) if message else "",
            raw=_raw(message) if message and tab == "raw" else "",
            waiting=await asyncio.to_thread(self._storage.waiting_events),
        )
        return _html(html, _PAGE_POLICY)

    def _missing(self) -> Response:
        html = self._templates.get_template("missing.html.j2").render()
        return _html(html, _PAGE_POLICY, 404)

    async def show_html(self, request: Request) -> Response:
        """The message's HTML for the frame; a first look at it is an opening."""
        message = await self._message(request)
        if message is None:
            return self._missing()
        if request.method == "GET" and not message["opened"]:
            now = self._mailbox.now()
            agent = request.headers.get("user-agent", "")
            event = event_of(message, "opened", now, user_agent=agent)
            await asyncio.to_thread(
                self._storage.mark,
                message["id"],
                "opened",
                self._posted(event),
                self._mailbox.due(),
            )
            self._mailbox.poster.wake()
        html = message.get("html") or f"<pre>{_escape(message.get('text') or '')}</pre>"
        root = f"/inbox/{quote(message['id'])}/cid/"
        html = re.sub(r"(?<=[\"'(=])cid:", root, html)
        # Links open in a tab of their own: the frame may not navigate the page around it.
        return _html(f'<base target="_blank">{html}', _MAIL_POLICY)

    async def show_image(self, request: Request) -> Response:
        message = await self._message(request)
        for cid, kind, _, content in attachments(message or {}):
            if cid == request.path_params["cid"] and kind.startswith("image/"):
                return Response(
                    content,
                    media_type=kind,
                    headers={
                        "X-Content-Type-Options": "nosniff",
                        "Content-Security-Policy": "default-src 'none'; sandbox",
                    },
                )
        return self._missing()

    # --- what a mail client does ----------------------------------------------------------------

    async def unsubscribe(self, request: Request) -> Response:
        """Send the one-click request of RFC 8058, as a mail client's server would."""
        message = await self._message(request)
        if message is None:
            return self._missing()
        link = unsubscribe_link(message)
        if not link:
            return self._done(request, "no-link")
        if not is_loopback(link) and not self._mailbox.options.unsubscribe_anywhere:
            return self._done(request, "elsewhere")
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        try:
            status = await asyncio.to_thread(
                outgoing.post, link, headers, b"List-Unsubscribe=One-Click"
            )
        except OSError:
            return self._done(request, "unreachable")
        return self._done(request, f"unsubscribed-{status}")

    async def report(self, request: Request) -> Response:
        """Make the event happen that a button stands for."""
        message = await self._message(request)
        kind = request.path_params["type"]
        if message is None or kind not in _EVENTS:
            return self._missing()
        now, due = self._mailbox.now(), self._mailbox.due()
        if kind == "clicked":
            event = event_of(message, kind, now, url=_first_link(message))
            await asyncio.to_thread(
                self._storage.mark, message["id"], kind, self._posted(event), due
            )
        else:
            more = (
                {"bounce": "hard", "reason": "reported in the inbox"} if kind == "bounced" else {}
            )
            event = event_of(message, kind, now, **more)
            await asyncio.to_thread(
                self._storage.set_state, message["id"], kind, self._posted(event), due
            )
        self._mailbox.poster.wake()
        return self._done(request, kind)

    def _done(self, request: Request, what: str) -> Response:
        kept = {k: v for k, v in request.query_params.items() if k in {"q", "to", "page", "tab"}}
        address = f"/inbox/{quote(request.path_params['id'])}{_query({**kept, 'done': what})}"
        return RedirectResponse(address, 303)

    def _posted(self, event: bytes) -> bytes | None:
        """The event if there is somewhere to post it."""
        return event if self._mailbox.options.webhook_url else None

    async def _message(self, request: Request) -> dict[str, Any] | None:
        return await asyncio.to_thread(self._storage.message, request.path_params["id"])


def _notice(done: str) -> tuple[str, str]:
    """(good or bad, text) of what a button led to; empty text for none."""
    if done in _EVENTS:
        return "good", _EVENTS[done]
    if done.startswith("unsubscribed-"):
        status = done.removeprefix("unsubscribed-")[:3]
        if status.startswith("2"):
            return "good", f"Unsubscribed: the sender answered {status}."
        return "bad", f"Not unsubscribed: the sender answered {status}."
    return "bad", {
        "no-link": "This message offers no one-click unsubscribe (RFC 8058).",
        "elsewhere": "The address is not on this machine;"
        " start the mailbox with --unsubscribe-anywhere to allow it.",
        "unreachable": "Not unsubscribed: the sender's address does not answer.",
    }.get(done, "")


def _html(text: str, policy: str, status: int = 200) -> Response:
    return Response(
        text,
        status,
        {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        },
        media_type="text/html",
    )


def _raw(message: dict[str, Any]) -> str:
    return as_eml(message)[:_RAW_SHOWN].decode("utf-8", "replace")


def _first_link(message: dict[str, Any]) -> str:
    found = re.search(r'href="(https?://[^"]+)"', message.get("html") or "")
    return found[1] if found else ""


def _query(values: dict[str, Any]) -> str:
    kept = {k: v for k, v in values.items() if v not in {"", None} and (k, v) != ("page", 1)}
    return f"?{urlencode(kept)}" if kept else ""


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _when(at: str) -> str:
    """A time as a list shows it, in UTC."""
    moment = datetime.fromisoformat(at).astimezone(UTC)
    return f"{moment.day} {moment:%b %Y, %H:%M}"


def _short(at: str, now: datetime) -> str:
    """The hour of today, else the day, in UTC."""
    moment = datetime.fromisoformat(at).astimezone(UTC)
    if moment.date() == now.astimezone(UTC).date():
        return f"{moment:%H:%M}"
    return f"{moment.day} {moment:%b}" + ("" if moment.year == now.year else f" {moment.year}")


def _hue(text: str) -> int:
    return zlib.crc32(text.lower().encode()) % _HUES


def _initial(text: str) -> str:
    return next((c.upper() for c in text if c.isalnum()), "?")
