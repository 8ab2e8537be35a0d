"""A person's copy of their data, and their erasure from everywhere."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select

from newsletter.audience import (
    add,
    confirm,
    erase,
    find,
    forget,
    is_suppressed,
    mark_complained,
    personal_data,
    show,
    subscribe,
    suppress,
)
from newsletter.errors import Conflict, NotFound
from newsletter.store import Store
from newsletter.store.schema import (
    clicks,
    deliveries,
    events,
    frozen_issues,
    links,
    metadata,
    opens,
    outbox,
    sends,
    suppressions,
    unsubscribes,
)
from support.site import FakeClock

KEY = b"k" * 32
EMAIL = "Secret.Person@example.com"


def add_traces(connection: Connection, subscriber_id: int, clock: FakeClock) -> None:
    """What a send and its events leave behind about a person, two deliveries in all."""
    now = clock.now()
    connection.execute(
        insert(frozen_issues).values(
            sha256="f" * 64, issue="one", compiled=b"", source_sha256="0" * 64, created_at=now
        )
    )
    person = {"subscriber_id": subscriber_id, "email": EMAIL, "first_name": "Secret"}
    for number, state in ((1, "delivered"), (2, "pending")):
        connection.execute(
            insert(sends).values(
                id=number,
                send=f"one{number}.1",
                issue=f"one{number}",
                frozen="f" * 64,
                segment="all",
                provider="main",
                state="sending",
                at=now,
                created_at=now,
            )
        )
        connection.execute(
            insert(deliveries).values(
                send_id=number, position=1, state=state, reason="", updated_at=now, **person
            )
        )
    shared, own = "https://x", "https://y/?to=secret"
    for number, known, url in ((1, subscriber_id, shared), (2, None, own)):
        connection.execute(
            insert(events).values(
                provider="main",
                provider_event_id=f"e{number}",
                type="delivered",
                machine=False,
                url=url,
                recipient=EMAIL,
                send_id=1,
                subscriber_id=known,
                at=now,
                received_at=now,
                event={"response": f"250 {EMAIL}"},
            )
        )
    connection.execute(insert(links).values(link="ab", issue="one", position=1, url="https://x"))
    personal: dict[str, Any] = {"send_id": 1, "subscriber_id": subscriber_id, "at": now}
    connection.execute(insert(clicks).values(link="ab", machine=False, **personal))
    connection.execute(insert(opens).values(machine=False, **personal))
    connection.execute(insert(unsubscribes).values(**personal))
    for state in ("pending", "accepted"):
        connection.execute(
            insert(outbox).values(
                kind="confirmation",
                cause=state,
                to_email=EMAIL,
                subject="Confirm",
                html=EMAIL,
                text=EMAIL,
                state=state,
                not_before=now,
                created_at=now,
                updated_at=now,
            )
        )


@pytest.fixture
def person(store: Store, clock: FakeClock) -> int:
    with store.begin() as connection:
        made = add(
            connection,
            KEY,
            EMAIL,
            now=clock.now(),
            first_name="Secret",
            last_name="Person",
            topics=["spf"],
            fields={"Skin type": "dry"},
            consent="fair 2026",
            segment="vip",
        )
        add_traces(connection, made, clock)
    return made


def everything(connection: Connection) -> str:
    """The text of every row of every table."""
    rows = [row for table in metadata.sorted_tables for row in connection.execute(select(table))]
    return repr(rows)


def test_the_copy_holds_everything(store: Store, person: int) -> None:
    with store.read() as connection:
        data = personal_data(connection, person)
    assert json.loads(json.dumps(data)) == data
    assert data["email"] == "Secret.Person@example.com"
    assert data["fields"] == {"skin_type": "dry"}
    assert data["segments"] == ["vip"]
    assert data["consent"][0]["text"] == "fair 2026"
    assert [entry["event"] for entry in data["history"]] == ["added"]
    assert {entry["send"] for entry in data["deliveries"]} == {"one1.1", "one2.1"}
    assert data["events"][0]["event"] == {"response": f"250 {EMAIL}"}
    assert data["clicks"] == [{"url": "https://x", "machine": False, "at": "2026-11-24T09:00:00Z"}]
    assert len(data["opens"]) == len(data["unsubscribes"]) == 1


def test_erasure_leaves_a_keyed_hash_and_nothing_that_tells_who_it_was(
    store: Store, clock: FakeClock, person: int
) -> None:
    with store.begin() as connection:
        connection.execute(deliveries.delete().where(deliveries.c.state == "pending"))
        connection.execute(outbox.delete().where(outbox.c.state == "pending"))
        assert "secret.person" in everything(connection).lower()
        assert erase(connection, KEY, person, clock.now())
        left = everything(connection).lower()
        assert "secret" not in left
        assert "example.com" not in left
        assert "dry" not in left
        assert "forgotten" in left
        assert connection.scalars(select(events.c.url).order_by(events.c.id)).all() == [
            "https://x",
            "",
        ]
        assert connection.scalar(select(suppressions.c.kind)) == "forgotten"
        assert is_suppressed(connection, KEY, EMAIL)
        assert not is_suppressed(connection, b"x" * 32, EMAIL)
        assert not erase(connection, KEY, person, clock.now())


def test_a_delivery_under_way_keeps_its_copy_and_a_waiting_confirmation_is_not_sent(
    store: Store, clock: FakeClock, person: int
) -> None:
    with store.begin() as connection:
        erase(connection, KEY, person, clock.now())
        copies = connection.execute(select(deliveries.c.state, deliveries.c.email)).all()
        mails = connection.execute(select(outbox.c.state, outbox.c.to_email, outbox.c.html)).all()
    assert sorted(map(tuple, copies)) == [("delivered", ""), ("pending", EMAIL)]
    assert sorted(map(tuple, mails)) == [("accepted", "", ""), ("failed", "", "")]


def test_erased_people_are_not_added_by_others_but_may_sign_up_themselves(
    store: Store, clock: FakeClock, person: int
) -> None:
    with store.begin() as connection:
        forget(connection, KEY, EMAIL.upper(), clock.now())
    with store.begin() as connection, pytest.raises(Conflict, match="suppressed"):
        add(connection, KEY, EMAIL, now=clock.now(), consent="bought list")
    with store.begin() as connection:
        made = subscribe(connection, KEY, clock.now(), email=EMAIL, consent_text="yes")
        assert made.confirm
        assert made.subscriber_id not in (None, person)
        assert is_suppressed(connection, KEY, EMAIL)
        assert confirm(connection, made.subscriber_id, clock.now())
        assert not is_suppressed(connection, KEY, EMAIL)
        assert show(connection, EMAIL)["state"] == "active"


def test_erasing_somebody_who_complained_keeps_them_out_for_good(
    store: Store, clock: FakeClock, person: int
) -> None:
    with store.begin() as connection:
        mark_complained(connection, person, reason="", now=clock.now())
        erase(connection, KEY, person, clock.now())
        again = subscribe(connection, KEY, clock.now(), email=EMAIL, consent_text="yes")
    assert (again.subscriber_id, again.confirm) == (None, False)


def test_an_editors_suppression_outlives_the_erasure(
    store: Store, clock: FakeClock, person: int
) -> None:
    with store.begin() as connection:
        suppress(connection, KEY, EMAIL, reason="by phone", now=clock.now())
        erase(connection, KEY, person, clock.now())
        again = subscribe(
            connection, KEY, clock.now() + timedelta(days=9), email=EMAIL, consent_text="yes"
        )
    assert not again.confirm


def test_nobody_is_found_under_an_erased_or_unknown_address(
    store: Store, clock: FakeClock, person: int
) -> None:
    with store.begin() as connection:
        erase(connection, KEY, person, clock.now())
        for email in (EMAIL, "who@example.com"):
            with pytest.raises(NotFound):
                find(connection, email)
            with pytest.raises(NotFound):
                forget(connection, KEY, email, clock.now())


def test_an_address_is_added_once(store: Store, clock: FakeClock, person: int) -> None:
    with store.begin() as connection, pytest.raises(Conflict, match="already"):
        add(connection, KEY, EMAIL.upper(), now=clock.now())
