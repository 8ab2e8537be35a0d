"""Provider events, clicks and opens against a real database, and the report made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select

from newsletter import audience
from newsletter.compiled import CompiledIssue, CompiledMessage, TrackedLink
from newsletter.errors import NotFound
from newsletter.events import ingest, record_click, record_open
from newsletter.providers.base import Event, EventType
from newsletter.providers.machines import is_machine
from newsletter.reports import report
from newsletter.store import Store
from newsletter.store.schema import (
    attempts,
    batches,
    clicks,
    deliveries,
    events,
    frozen_issues,
    links,
    sends,
    subscribers,
)
from newsletter.tokens import RecipientToken
from newsletter.workspace import Workspace

BROWSER = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15"
LINKS = tuple(
    TrackedLink(f"{number:016x}", number, f"https://example.com/{number}") for number in (1, 2, 3)
)


class Sent:
    """A send of one issue to two people, accepted."""

    def __init__(self, workspace: Workspace, store: Store, clock: Any) -> None:
        self.workspace, self.store, self.clock = workspace, store, clock
        now = clock.now()
        message = CompiledMessage((), ("S",), ("<p>",), ("t",), ())
        compiled = CompiledIssue(
            *("one", "en", "One", "", "Glow", "g@glow.example", "", "", "all", ()),
            {"": message},
            "<p>web",
            (),
            LINKS,
            (),
        )
        with store.begin() as connection:
            connection.execute(
                insert(frozen_issues).values(
                    sha256=compiled.sha256,
                    issue="one",
                    compiled=compiled.to_bytes(),
                    source_sha256="",
                    created_at=now,
                )
            )
            for link in LINKS:
                connection.execute(
                    insert(links).values(
                        link=link.link, issue="one", position=link.position, url=link.url
                    )
                )
            connection.execute(
                insert(sends).values(
                    send="one.1",
                    issue="one",
                    frozen=compiled.sha256,
                    segment="all",
                    provider="main",
                    state="sending",
                    at=now,
                    created_at=now,
                )
            )
            connection.execute(
                insert(batches).values(send_id=1, number=1, lo=1, hi=2, state="done")
            )
            connection.execute(
                insert(attempts).values(
                    id="a1",
                    send_id=1,
                    batch=1,
                    number=1,
                    provider="main",
                    positions=[[1, 2]],
                    body_sha256="",
                    state="answered",
                    started_at=now,
                )
            )
            for number, email in ((1, "rosa@example.com"), (2, "iris@example.com")):
                made = audience.subscribe(
                    connection, workspace.key, now, email=email, consent_text="yes"
                )
                assert made.subscriber_id == number
                audience.confirm(connection, number, now)
                connection.execute(
                    insert(deliveries).values(
                        send_id=1,
                        position=number,
                        subscriber_id=number,
                        email=email,
                        state="accepted",
                        attempt="a1",
                        provider_message_id=f"m{number}",
                        updated_at=now,
                    )
                )

    def take(self, *received: Event) -> int:
        return ingest(self.store, self.workspace, "main", received, self.clock.now())

    def event(self, kind: str, number: int = 1, **values: Any) -> Event:
        base = Event(
            EventType(kind),
            recipient=("rosa@example.com", "iris@example.com")[number - 1],
            provider_message_id=f"m{number}",
            at=self.clock.now(),
        )
        return replace(base, **values)

    def state(self, number: int = 1) -> str:
        with self.store.read() as connection:
            query = select(deliveries.c.state).where(deliveries.c.position == number)
            return str(connection.scalar(query))

    def person(self, number: int = 1) -> str:
        with self.store.read() as connection:
            query = select(subscribers.c.state).where(subscribers.c.id == number)
            return str(connection.scalar(query))

    def all(self, table: Any) -> list[Any]:
        with self.store.read() as connection:
            return list(connection.execute(select(table)))

    def click(self, link: int, recipient: RecipientToken | None, agent: str = BROWSER) -> None:
        with self.store.begin() as connection:
            record_click(
                connection,
                link=LINKS[link].link,
                recipient=recipient,
                user_agent=agent,
                now=self.clock.now(),
            )


@pytest.fixture
def sent(workspace: Workspace, store: Store, clock: Any) -> Sent:
    return Sent(workspace, store, clock)


def test_an_event_counts_once_however_often_it_comes(sent: Sent) -> None:
    delivered = sent.event("delivered")
    assert sent.take(delivered, delivered) == 1
    assert sent.take(delivered) == 0
    assert sent.state() == "delivered"
    with_id = replace(delivered, provider_event_id="e1")
    assert sent.take(with_id, replace(with_id, reason="told again")) == 1
    assert len(sent.all(events)) == 2


def test_a_late_earlier_event_undoes_nothing(sent: Sent) -> None:
    sent.clock.advance(minutes=5)
    sent.take(sent.event("bounced", bounce="hard"))
    sent.take(sent.event("delivered", at=sent.clock.now() - timedelta(minutes=4)))
    assert sent.state() == "bounced"


@pytest.mark.parametrize(
    ("kind", "values", "state"),
    [
        ("bounced", {"bounce": "hard"}, "bounced"),
        ("bounced", {"bounce": "soft"}, "active"),
        ("complained", {}, "complained"),
        ("unsubscribed", {}, "unsubscribed"),
        ("deferred", {}, "active"),
        ("opened", {}, "active"),
    ],
)
def test_who_must_not_be_written_to_is_not_from_now_on(
    sent: Sent, kind: str, values: dict[str, Any], state: str
) -> None:
    sent.take(sent.event(kind, **values))
    assert sent.person() == state
    with sent.store.read() as connection:
        eligible = set(connection.scalars(audience.segment_select("all")))
    assert (1 in eligible) == (state == "active")


def test_an_event_for_an_unknown_message_is_kept_and_heeded(sent: Sent) -> None:
    stranger = replace(
        sent.event("complained"), recipient="other@example.com", provider_message_id="?"
    )
    assert sent.take(stranger) == 1
    (kept,) = sent.all(events)
    assert (kept.send_id, kept.subscriber_id) == (None, None)
    with sent.store.read() as connection:
        assert audience.is_suppressed(connection, sent.workspace.key, "other@example.com")


def test_hostile_text_in_an_event_is_stored_without_harm(sent: Sent) -> None:
    odd = sent.event(
        "bounced",
        reason="a\x00b\ud800",
        recipient="no\x00 address",
        provider_message_id="\x00",
        metadata={"delivery": "9999999999.1", "attempt": "\x00", "x\x00": "y"},
        bounce="hard",
    )
    assert sent.take(odd) == 1
    assert sent.all(events)[0].event["reason"] == "ab"


def test_an_event_after_the_erasure_brings_no_address_back(sent: Sent) -> None:
    with sent.store.begin() as connection:
        audience.erase(connection, sent.workspace.key, 1, sent.clock.now())
    sent.take(sent.event("delivered", response="250 rosa@example.com taken"))
    assert sent.state() == "delivered"
    assert "rosa" not in str(sent.all(events)) + str(sent.all(deliveries))


def test_a_stored_click_does_not_hold_the_recipients_token(sent: Sent) -> None:
    sent.take(sent.event("clicked", url="http://127.0.0.1:8000/r/AbC_1.SECRET-2?x=1"))
    assert sent.all(events)[0].url == "http://127.0.0.1:8000/r/AbC_1?x=1"


@pytest.mark.parametrize(
    "agent",
    [
        *("", "Mozilla/5.0", "curl/8.1", "Googlebot/2.1", "python-httpx/0.28"),
        "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
        "Mozilla/5.0 HeadlessChrome/120.0",
    ],
)
def test_machines_name_themselves(agent: str) -> None:
    assert is_machine(agent)


@pytest.mark.parametrize(
    "agent", [BROWSER, "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"]
)
def test_people_are_no_machines(agent: str) -> None:
    assert not is_machine(agent)


def test_a_click_at_once_or_a_burst_is_a_scanners(sent: Sent) -> None:
    rosa = RecipientToken(1, 1)
    sent.click(0, rosa)
    assert [row.machine for row in sent.all(clicks)] == [True], "right after acceptance"
    sent.clock.advance(minutes=10)
    sent.click(0, rosa)
    sent.click(1, rosa)
    assert [row.machine for row in sent.all(clicks)] == [True, False, False]
    sent.click(2, rosa)
    assert all(row.machine for row in sent.all(clicks)), "three links in one moment"


def test_the_report_keeps_people_and_machines_apart(sent: Sent) -> None:
    sent.clock.advance(hours=1)
    rosa, iris = RecipientToken(1, 1), RecipientToken(1, 2)
    sent.click(0, rosa)
    sent.click(0, rosa)
    sent.click(1, None)
    sent.click(1, None, "Googlebot")
    with sent.store.begin() as connection:
        for agent in (BROWSER, BROWSER, "Mozilla/5.0"):
            record_open(connection, recipient=rosa, user_agent=agent, now=sent.clock.now())
        audience.unsubscribe(connection, 2, how="page", now=sent.clock.now(), send_id=1)
    sent.take(
        sent.event("clicked", 2, url=LINKS[2].url, user_agent=BROWSER),
        sent.event("clicked", 2, url="http://127.0.0.1:8000/r/x.y", user_agent=BROWSER),
        sent.event("clicked", 2, url="https://elsewhere.example/", machine=True),
        sent.event("opened", 2, user_agent=BROWSER),
    )
    found = report(sent.workspace, sent.store, "one.1")
    assert found["send"] == "one.1"
    assert found["counts"]["total"] == 2
    assert found["opens"] == {"human": 3, "machine": 1, "unique": 2}
    assert found["unsubscribes"] == 1
    assert [(row["url"][-1], row["clicks"], row["machine"]) for row in found["links"]] == [
        ("1", 2, 0),
        ("2", 1, 1),
        ("3", 1, 0),
        ("/", 0, 1),
    ]
    assert found["clicks"] == {"human": 4, "machine": 2, "unique": 2}
    assert iris.subscriber == 2


def test_a_report_of_nothing_is_not_found(sent: Sent) -> None:
    with pytest.raises(NotFound):
        report(sent.workspace, sent.store, "two.1")


def test_the_command_reports(
    workspace: Workspace, sqlite_store: Store, clock: Any, cli: Callable[..., Any]
) -> None:
    Sent(workspace, sqlite_store, clock).click(0, None)
    done = cli("report", "one.1", "--json", cwd=workspace)
    assert done.code == 0, done.err
    assert done.json["clicks"] == {"human": 1, "machine": 0, "unique": None}
    shown = cli("report", "one.1", cwd=workspace)
    assert "https://example.com/1" in shown.out
    missing = cli("report", "none.1", "--json", cwd=workspace)
    assert (missing.code, missing.out) == (3, "")
