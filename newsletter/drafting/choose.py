"""What a new issue is made of: unsent content, newest and most different first.

It reads which content was sent or is spoken for, and writes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, exists, or_, select

from newsletter.clock import Clock
from newsletter.content import (
    ContentItem,
    Tip,
    excerpt,
    find_tips,
    is_blocked,
    load_items,
    most_different,
)
from newsletter.drafting.files import list_issues, read_issue
from newsletter.errors import NewsletterError
from newsletter.store import Store
from newsletter.store.schema import attempts, edition_items, editions, send_sources, sends
from newsletter.workspace import Workspace

EXCERPTS = 3
TIPS = 2
REPEAT_AFTER = timedelta(days=180)

_WINDOW = 4  # candidates looked at for each place that is to be filled


@dataclass(frozen=True, slots=True)
class Chosen:
    """Articles to take an excerpt from, and tips: whole items, or found in an article.

    `unsent` are the ids of all the content that could have been chosen, newest first.
    """

    articles: tuple[ContentItem, ...]
    tips: tuple[ContentItem | Tip, ...]
    unsent: tuple[str, ...]


def choose_content(
    workspace: Workspace,
    store: Store,
    clock: Clock,
    *,
    excerpts: int = EXCERPTS,
    tips: int = TIPS,
    topics: Collection[str] = (),
    repeat_after: timedelta = REPEAT_AFTER,
    exclude: Collection[str] = (),
) -> Chosen:
    """Choose unsent content for one issue.

    Left out: what is recalled or past its review, what a send of the last `repeat_after` or a
    later one has, what another draft or edition uses, and `exclude`. `topics` keeps content with
    one of them. Raises `BadInput` for a content file that cannot be read.
    """
    today = clock.now().astimezone(workspace.settings.site.zone).date()
    taken = used_content(workspace, store, clock, repeat_after) | set(exclude)
    wanted = {topic.casefold() for topic in topics}
    free = [
        item
        for item in load_items(workspace)
        if item.id not in taken
        and not is_blocked(item, today)
        and (not wanted or wanted & {topic.casefold() for topic in item.topics})
    ]
    free.sort(key=lambda item: item.id)
    free.sort(key=_age, reverse=True)
    articles = _pick(free, "article", excerpts)
    found: list[ContentItem | Tip] = list(_pick(free, "tip", tips))
    found += _found_tips(articles, tips - len(found))
    return Chosen(tuple(articles), tuple(found), tuple(item.id for item in free))


def _age(item: ContentItem) -> datetime:
    """When it was published, or else came into the workspace."""
    if item.published:
        return datetime.combine(item.published, datetime.min.time(), UTC)
    return datetime.fromtimestamp(item.path.stat().st_mtime, UTC).replace(
        hour=0, minute=0, second=0, microsecond=0
    )


def _pick(free: Sequence[ContentItem], kind: str, count: int) -> list[ContentItem]:
    """The newest of a kind, then those of the next newest that are least like the others."""
    candidates = [item for item in free if item.kind == kind]
    return most_different(candidates[: count * _WINDOW], count)


def _found_tips(articles: Sequence[ContentItem], count: int) -> list[Tip]:
    """Tips of the chosen articles, one of each in turn: no other article is used up for a tip."""
    if count <= 0:
        return []
    found = [
        [tip for tip in find_tips(article) if tip.text not in excerpt(article).text]
        for article in articles
    ]
    turns = max((len(tips) for tips in found), default=0)
    in_turn = [tips[turn] for turn in range(turns) for tips in found if turn < len(tips)]
    return in_turn[:count]


def used_content(
    workspace: Workspace, store: Store, clock: Clock, repeat_after: timedelta
) -> set[str]:
    """The content that is not to be used now: sent lately, or spoken for by a draft or edition."""
    since = clock.now() - repeat_after
    with store.read() as connection:
        used = _sent(connection, since) | _in_editions(connection, since)
        settled = _scheduled_issues(connection) | _skipped_issues(connection)
    for slug in list_issues(workspace):
        if slug not in settled:
            used |= _named_in(workspace, slug)
    return used


def _sent(connection: Connection, since: datetime) -> set[str]:
    """What sends have; one that was cancelled counts if something of it may have left."""
    left = exists().where(attempts.c.send_id == sends.c.id, attempts.c.state != "not_accepted")
    return set(
        connection.scalars(
            select(send_sources.c.content)
            .join(sends, sends.c.id == send_sources.c.send_id)
            .where(or_(sends.c.state != "cancelled", left), sends.c.at > since)
        )
    )


def _in_editions(connection: Connection, since: datetime) -> set[str]:
    return set(
        connection.scalars(
            select(edition_items.c.content)
            .join(
                editions,
                (editions.c.name == edition_items.c.name)
                & (editions.c.date == edition_items.c.date),
            )
            .where(editions.c.state != "skipped", editions.c.send_at > since)
        )
    )


def _scheduled_issues(connection: Connection) -> set[str]:
    """Issues that have a send: what they use is told by their sends."""
    return set(connection.scalars(select(sends.c.issue).distinct()))


def _skipped_issues(connection: Connection) -> set[str]:
    """Drafts of editions that did not go out: the next edition may use their content."""
    return set(connection.scalars(select(editions.c.issue).where(editions.c.state == "skipped")))


def _named_in(workspace: Workspace, slug: str) -> set[str]:
    """What a draft uses; one that cannot be read yet speaks for nothing."""
    try:
        return set(read_issue(workspace, slug).sources)
    except NewsletterError:
        return set()
