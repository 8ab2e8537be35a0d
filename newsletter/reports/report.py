"""What became of one send: its ledger's counts, and what readers did, people apart from machines.

It only reads. Clicks at our own redirect and clicks that a provider reports are both counted, each
of them once: a provider's report of a click through our redirect is left out.
"""

from __future__ import annotations

from collections import Counter
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import ColumnElement, Connection, distinct, func, select, union

from newsletter.compiled import CompiledIssue, TrackedLink
from newsletter.delivery import status
from newsletter.store import Store
from newsletter.store.schema import clicks, events, frozen_issues, opens, sends, unsubscribes
from newsletter.workspace import Workspace


def report(workspace: Workspace, store: Store, send: str) -> dict[str, Any]:
    """`status` and `{opens, clicks, unsubscribes, links}`; `send` is its name or its issue's.

    Raises `NotFound`.
    """
    with store.read() as connection:
        state = status(connection, workspace, send)
        row = connection.execute(
            select(sends.c.id, frozen_issues.c.compiled)
            .join_from(sends, frozen_issues)
            .where(sends.c.send == state["send"])
        ).one()
        compiled = CompiledIssue.from_bytes(row.compiled)
        links = _links(connection, row, compiled.links)
        return {
            **state,
            "opens": _opens(connection, row.id),
            "clicks": _clicks(connection, row.id, links),
            "unsubscribes": _unsubscribes(connection, row.id),
            "links": links,
        }


def _opens(connection: Connection, send_id: int) -> dict[str, int]:
    """Every time the message was shown; `unique` is how many people, machines left out."""
    here = opens.c.send_id == send_id
    told = (events.c.send_id == send_id) & (events.c.type == "opened")
    own = _by_machine(connection, opens.c.machine, here)
    reported = _by_machine(connection, events.c.machine, told)
    people = union(
        select(opens.c.subscriber_id).where(here, opens.c.machine.is_(False)),
        select(events.c.subscriber_id).where(told, events.c.machine.is_(False)),
    ).subquery()
    return {
        "human": own[False] + reported[False],
        "machine": own[True] + reported[True],
        "unique": _count_distinct(connection, people.c.subscriber_id),
    }


def _clicks(
    connection: Connection, send_id: int, links: list[dict[str, Any]]
) -> dict[str, int | None]:
    """The sums over all links; `unique` people are known only where tracking is individual."""
    told = (events.c.send_id == send_id) & (events.c.type == "clicked")
    people = union(
        select(clicks.c.subscriber_id).where(
            clicks.c.send_id == send_id, clicks.c.machine.is_(False)
        ),
        select(events.c.subscriber_id).where(told, events.c.machine.is_(False)),
    ).subquery()
    unique = _count_distinct(connection, people.c.subscriber_id)
    human = sum(link["clicks"] for link in links)
    return {
        "human": human,
        "machine": sum(link["machine"] for link in links),
        "unique": unique if unique or not human else None,
    }


def _links(
    connection: Connection, send: Any, tracked: tuple[TrackedLink, ...]
) -> list[dict[str, Any]]:
    """A line a link of the frozen issue, in its order; then others that a provider reported."""
    counts: Counter[tuple[str, bool]] = Counter()
    own = (
        select(clicks.c.link, clicks.c.machine, func.count())
        .where(
            clicks.c.link.in_([link.link for link in tracked]),
            (clicks.c.send_id == send.id) | clicks.c.send_id.is_(None),
        )
        .group_by(clicks.c.link, clicks.c.machine)
    )
    for link, machine, number in connection.execute(own):
        counts[link, bool(machine)] += number
    first_of = {link.url: link.link for link in reversed(tracked)}
    others: dict[str, None] = {}
    told = (
        select(events.c.url, events.c.machine, func.count())
        .where(events.c.send_id == send.id, events.c.type == "clicked")
        .group_by(events.c.url, events.c.machine)
        .order_by(events.c.url)
    )
    for url, machine, number in connection.execute(told):
        if _is_redirect(url):
            continue
        name = first_of.get(url, url)
        if name == url:
            others[url] = None
        counts[name, bool(machine)] += number
    lines = [(link.link, link.url, link.position) for link in tracked]
    return [
        {
            "url": url,
            "position": position,
            "clicks": counts[name, False],
            "machine": counts[name, True],
        }
        for name, url, position in [*lines, *((url, url, None) for url in others)]
    ]


def _is_redirect(url: str) -> bool:
    """Whether the click went through our own redirect, which counted it."""
    return urlsplit(url).path.startswith("/r/")


def _unsubscribes(connection: Connection, send_id: int) -> int:
    query = select(func.count()).where(unsubscribes.c.send_id == send_id)
    return connection.scalar(query) or 0


def _by_machine(
    connection: Connection, machine: ColumnElement[bool], where: ColumnElement[bool]
) -> Counter[bool]:
    rows = connection.execute(select(machine, func.count()).where(where).group_by(machine))
    return Counter({bool(is_machine): number for is_machine, number in rows})


def _count_distinct(connection: Connection, column: ColumnElement[Any]) -> int:
    return connection.scalar(select(func.count(distinct(column)))) or 0
