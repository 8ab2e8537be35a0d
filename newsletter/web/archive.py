"""The public side of what was sent: list, web versions, Atom feed and images.

Only issues that have left are shown, as they were frozen; nothing personal is in them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

from sqlalchemy import Connection, Select, exists, func, or_, select
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from newsletter.clock import isoformat
from newsletter.compiled import CompiledIssue
from newsletter.store.schema import attempts, frozen_issues, media, sends
from newsletter.tokens import read_timed_token
from newsletter.web.context import Site, site
from newsletter.web.trial import DRAFT, DRAFT_AGE

_PAGE = 30
_FEED = 20
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CARDS = 1_000
_cards: dict[str, tuple[str, str, str]] = {}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Published:
    """One issue as the list and the feed show it."""

    slug: str
    title: str
    summary: str
    language: str
    sent_at: datetime


def published(connection: Connection, *, limit: int, offset: int = 0) -> list[Published]:
    """Issues that have left, the newest first."""
    rows = connection.execute(_sent().limit(limit).offset(offset)).all()
    cards = [(row, _card(connection, row.frozen)) for row in rows]
    return [Published(row.issue, *card, row.at) for row, card in cards]


async def archive(request: Request) -> Response:
    """`GET /archive`."""
    text = request.query_params.get("page", "1")
    number = int(text) if re.fullmatch(r"[1-9][0-9]{0,5}", text) else 1
    return await run_in_threadpool(_archive, site(request), number)


def _archive(here: Site, number: int) -> Response:
    with here.store.read() as connection:
        found = published(connection, limit=_PAGE + 1, offset=(number - 1) * _PAGE)
    return here.pages.page(
        "archive.html.j2",
        issues=found[:_PAGE],
        newer=number - 1,
        older=number + 1 if len(found) > _PAGE else 0,
    )


async def issue(request: Request) -> Response:
    """`GET /archive/{slug}`: the web version of the frozen issue."""
    draft = request.query_params.get("draft", "")
    return await run_in_threadpool(_issue, site(request), request.path_params["slug"], draft)


def _issue(here: Site, slug: str, draft: str) -> Response:
    if not _SLUG.fullmatch(slug):
        raise HTTPException(404)
    headers = {"Content-Security-Policy": issue_policy(here.base_url)}
    with here.store.read() as connection:
        if draft:  # the link in a test message: an issue that may never be sent
            frozen = read_timed_token(here.key, DRAFT, draft, here.now(), DRAFT_AGE)
            headers |= {"X-Robots-Tag": "noindex, nofollow", "Referrer-Policy": "no-referrer"}
            headers |= {"Cache-Control": "no-store"}
        else:
            frozen = connection.scalar(
                select(_sent().where(sends.c.issue == slug).limit(1).subquery().c.frozen)
            )
        if frozen is None:
            raise HTTPException(404)
        compiled = _compiled(connection, frozen)
    if compiled.issue != slug:
        raise HTTPException(404)
    return HTMLResponse(compiled.web, headers=headers)


def issue_policy(base_url: str) -> str:
    """An issue is a mail: its styles are in it, its images under the site's address; no scripts."""
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src 'self' {base_url} data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


async def feed(request: Request) -> Response:
    """`GET /feed.xml`: Atom (RFC 4287), the same bytes for the same issues."""
    return await run_in_threadpool(_feed, site(request), request.headers)


def _feed(here: Site, asked: Mapping[str, str]) -> Response:
    with here.store.read() as connection:
        issues = published(connection, limit=_FEED)
    newest = max((item.sent_at for item in issues), default=_EPOCH)
    body = here.pages.text(
        "feed.xml.j2",
        {
            "updated": isoformat(newest),
            "issues": [
                {
                    "slug": item.slug,
                    "title": item.title,
                    "summary": item.summary,
                    "language": item.language,
                    "published": isoformat(item.sent_at),
                }
                for item in issues
            ],
        },
    ).encode()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {
        "ETag": etag,
        "Last-Modified": format_datetime(newest.replace(microsecond=0), usegmt=True),
        "Cache-Control": "public, max-age=300",
    }
    if _is_fresh(asked, etag, newest):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/atom+xml", headers=headers)


def _is_fresh(asked: Mapping[str, str], etag: str, newest: datetime) -> bool:
    """Whether the reader's copy still stands; `If-None-Match` goes before the date (RFC 9110)."""
    if "if-none-match" in asked:
        tags = {tag.strip().removeprefix("W/") for tag in asked["if-none-match"].split(",")}
        return etag in tags or "*" in tags
    try:
        since = parsedate_to_datetime(asked.get("if-modified-since", ""))
    except ValueError:
        return False
    return since.tzinfo is not None and newest.replace(microsecond=0) <= since


async def media_file(request: Request) -> Response:
    """`GET /media/{sha256}.{ext}`: an image; named by its content, it never changes."""
    return await run_in_threadpool(_media, site(request), request.path_params["name"])


def _media(here: Site, name: str) -> Response:
    sha256, _, extension = name.partition(".")
    if not _SHA256.fullmatch(sha256):
        raise HTTPException(404)
    with here.store.read() as connection:
        row = connection.execute(select(media).where(media.c.sha256 == sha256)).first()
    if row is None or row.extension != extension:
        raise HTTPException(404)
    return Response(
        row.bytes,
        headers={
            "Content-Type": row.content_type,
            "Cache-Control": "public, max-age=31536000, immutable",
            "Cross-Origin-Resource-Policy": "cross-origin",  # webmail shows it on its own pages
            "Content-Security-Policy": "default-src 'none'; sandbox",
        },
    )


def _sent() -> Select[tuple[str, str, datetime]]:
    """One row an issue, its latest send that was finished or of which something may have left."""
    left = exists().where(attempts.c.send_id == sends.c.id, attempts.c.state != "not_accepted")
    shown = or_(sends.c.state == "sent", left)
    latest = select(func.max(sends.c.id)).where(shown).group_by(sends.c.issue)
    return (
        select(sends.c.issue, sends.c.frozen, sends.c.at)
        .where(sends.c.id.in_(latest))
        .order_by(sends.c.at.desc(), sends.c.id.desc())
    )


def _card(connection: Connection, sha256: str) -> tuple[str, str, str]:
    """Title, summary and language; a frozen issue never changes, so they are remembered."""
    if sha256 not in _cards:
        compiled = _compiled(connection, sha256)
        while len(_cards) >= _CARDS:
            _cards.pop(next(iter(_cards)), None)
        _cards[sha256] = (compiled.title, compiled.summary, compiled.language)
    return _cards[sha256]


def _compiled(connection: Connection, sha256: str) -> CompiledIssue:
    query = select(frozen_issues.c.compiled).where(frozen_issues.c.sha256 == sha256)
    return CompiledIssue.from_bytes(connection.execute(query).scalar_one())
