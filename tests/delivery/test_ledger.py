"""The ledger as people and scripts see it: states, events, proof, export, commands."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import delete, insert, select, update

from newsletter.delivery import apply_event, export_rows
from newsletter.delivery.transitions import (
    ATTEMPT,
    DELIVERY,
    FINAL,
    LEFT,
    OVER,
    SEND,
    move_send,
    sources,
    target,
)
from newsletter.providers.base import Event, EventType
from newsletter.store import open_store
from newsletter.store.schema import attempts, batches, deliveries, eligible, sends
from support.ledger import NOON, World, lost_after, make_world
from support.site import ROOT


@pytest.fixture
def world(workspace, store, clock):
    return partial(make_world, workspace, store, clock)


@pytest.fixture
def here(workspace, sqlite_store, clock):
    """A send that is sent to eight people in two batches, in the workspace's own database."""
    made = make_world(workspace, sqlite_store, clock, 8)
    made.run()
    return made


# --- transitions --------------------------------------------------------------------------------


def test_an_attempt_ends_in_a_state_that_its_machine_knows():
    assert {to for events in ATTEMPT.values() for to in events.values()} <= set(ATTEMPT)


@pytest.mark.parametrize("machine", [SEND, DELIVERY])
def test_an_event_leads_to_one_state_that_the_machine_knows(machine):
    for event in {event for events in machine.values() for event in events}:
        assert target(machine, event) in machine
        assert sources(machine, event)


def test_the_states_are_the_contracts():
    assert set(SEND) == {"scheduled", "sending", "sent", "paused", "held", "cancelled"}
    assert {"sent", "cancelled"} == OVER
    assert set(DELIVERY) == {
        "pending",
        "sending",
        "accepted",
        "delivered",
        "bounced",
        "complained",
        "rejected",
        "skipped",
        "in_doubt",
    }
    assert set(DELIVERY) - FINAL == {"pending", "sending", "in_doubt"}


def test_what_the_provider_has_is_never_sent_again():
    for state in LEFT:
        reachable, todo = set(), {state}
        while todo:
            now = todo.pop()
            reachable.add(now)
            todo |= set(DELIVERY[now].values()) - reachable
        assert not reachable & {"pending", "sending", "in_doubt"}, state


def test_a_move_from_another_state_changes_nothing(world):
    here = world(people=1)
    with here.store.begin() as connection:
        assert not move_send(connection, 1, "finish")
        assert move_send(connection, 1, "cancel")
        assert not move_send(connection, 1, "start")


# --- events -------------------------------------------------------------------------------------


def happen(here, kind, position=1, minutes=0, key=None, message_id="", recipient=None):
    with here.store.read() as connection:
        row = connection.execute(
            select(deliveries).where(deliveries.c.send_id == 1, deliveries.c.position == position)
        ).one()
    event = Event(
        type=EventType(kind),
        recipient=recipient or row.email,
        provider_message_id=message_id,
        at=NOON + timedelta(minutes=minutes),
        reason=f"it {kind}",
        metadata={} if message_id else {"attempt": row.attempt, "delivery": f"1.{position}"},
    )
    with here.store.begin() as connection:
        return apply_event(connection, event, provider="main", now=here.clock.now())


def state_of(here, position=1):
    return list(export_rows(here.store, "milia.1"))[position - 1]["state"]


@pytest.mark.parametrize(
    ("events", "state"),
    [
        (["delivered"], "delivered"),
        (["delivered", "delivered"], "delivered"),
        (["bounced"], "bounced"),
        (["delivered", "complained"], "complained"),
        (["complained", "delivered"], "complained"),
        (["bounced", "delivered"], "bounced"),
        (["delivered", "bounced"], "bounced"),
        (["opened"], "accepted"),
        (["rejected"], "rejected"),
    ],
)
def test_events_move_an_accepted_delivery(world, events, state):
    here = world(people=4)
    here.run()
    for minute, kind in enumerate(events):
        happen(here, kind, minutes=minute)
    assert state_of(here) == state
    assert here.verify() == []


def test_an_earlier_event_that_comes_late_undoes_nothing(world):
    here = world(people=4)
    here.run()
    assert happen(here, "delivered", minutes=10).changed
    assert not happen(here, "bounced", minutes=5).changed
    assert state_of(here) == "delivered"
    assert happen(here, "complained", minutes=1).changed, "a complaint stands whenever it comes"


def test_an_event_is_matched_by_message_id_and_an_unknown_one_by_nothing(world):
    here = world(people=4)
    here.run()
    ids = [row["provider_message_id"] for row in export_rows(here.store, "milia.1")]
    matched = happen(here, "delivered", position=3, message_id=ids[2])
    assert (matched.position, matched.subscriber_id) == (3, 3)
    assert happen(here, "delivered", message_id="nobody") is None
    with here.store.begin() as connection:
        stray = Event(EventType.DELIVERED, "x@example.com", "", NOON, metadata={"delivery": "9.9"})
        assert apply_event(connection, stray, provider="main", now=NOON) is None


def test_an_event_that_is_faster_than_the_answer_is_kept(world):
    here = world(people=4)

    def deliver(prepared):
        happen(here, "delivered", position=2)

    here.provider.during = deliver
    here.run()
    assert here.counts() == {"total": 4, "accepted": 3, "delivered": 1}
    assert all(row["provider_message_id"] for row in export_rows(here.store, "milia.1"))
    assert here.verify() == []


def test_an_event_that_settles_one_of_several_doubts_leaves_the_others(world):
    here = world(people=4, idempotency=None, lookup=False)
    here.provider.faults = [lost_after]
    here.run()
    happen(here, "bounced", position=3)
    assert here.counts() == {"total": 4, "bounced": 1, "in_doubt": 3}
    assert here.status()["state"] == "held"
    assert here.verify() == []


# --- verify -------------------------------------------------------------------------------------


def tamper(statement):
    def change(here):
        with here.store.begin() as connection:
            assert connection.execute(statement).rowcount

    return change


ROW = deliveries.c.position == 3
SECOND_IS_FIRST = update(attempts).values(batch=1, positions=[[1, 4]]).where(attempts.c.batch == 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (tamper(delete(deliveries).where(ROW)), "position 3 is missing"),
        (tamper(delete(batches).where(batches.c.number == 1)), "batch 2 is 5..8"),
        (tamper(update(batches).where(batches.c.number == 2).values(hi=9)), "end at 9"),
        (tamper(update(deliveries).where(ROW).values(state="pending")), "is pending in a batch"),
        (tamper(update(deliveries).where(ROW).values(state="pending")), "was accepted for it"),
        (tamper(update(deliveries).where(ROW).values(state="sending")), "its attempt is answered"),
        (tamper(update(deliveries).where(ROW).values(attempt="x")), "does not contain it"),
        (tamper(update(deliveries).where(ROW).values(provider_message_id=None)), "message id"),
        (tamper(update(deliveries).where(ROW).values(state="skipped")), "without a reason"),
        (tamper(update(attempts).values(not_accepted=[[1, 8]])), "no attempt was accepted"),
        (tamper(update(attempts).values(state="started")), "nobody holds its batch"),
        (tamper(update(attempts).values(positions=[[1, 8]])), "beyond its batch"),
        (tamper(SECOND_IS_FIRST), "two attempts"),
        (tamper(update(deliveries).where(ROW).values(state="odd")), "'odd', which is no state"),
        (tamper(update(deliveries).where(ROW).values(state="delivered")), "batch 1 counts"),
        (tamper(update(batches).where(batches.c.number == 2).values(counts={})), "batch 2 counts"),
        (tamper(update(sends).values(unfilled=1)), "0 are eligible without a row"),
        (tamper(insert(eligible).values(send_id=1, subscriber_id=9)), "1 have no row in a send"),
    ],
)  # fmt: skip
def test_verify_finds_what_was_tampered_with(workspace, sqlite_store, clock, change, words):
    here = make_world(workspace, sqlite_store, clock, 8)
    here.run()
    assert here.verify() == []
    if "two attempts" in words:
        with here.store.begin() as connection:
            connection.execute(update(attempts).values(number=attempts.c.batch))
    change(here)
    violations = here.verify()
    assert any(words in violation for violation in violations), violations


# --- commands -----------------------------------------------------------------------------------


def test_status_has_the_contracts_shape(here, cli):
    told = cli("status", "milia.1", "--json", cwd=here.workspace).json
    assert list(told)[:10] == [
        "send",
        "issue",
        "state",
        "reason",
        "at",
        "started_at",
        "finished_at",
        "provider",
        "file_differs",
        "counts",
    ]
    assert told["counts"] == {
        "total": 8,
        "pending": 0,
        "sending": 0,
        "accepted": 8,
        "delivered": 0,
        "bounced": 0,
        "complained": 0,
        "rejected": 0,
        "skipped": 0,
        "in_doubt": 0,
    }
    assert told["at"] == "2026-11-24T12:00:00Z"
    assert cli("status", "milia", "--json", cwd=here.workspace).json == told, "by its issue"
    (listed,) = cli("status", "--json", cwd=here.workspace).json
    assert list(listed)[:10] == list(told)[:10]
    assert {name: told[name] for name in listed} == listed, "with a send it tells more"
    assert "milia.1  sent" in cli("status", "milia.1", cwd=here.workspace).out


def test_verify_says_ok_or_exits_1(here, cli):
    ran = cli("ledger", "verify", "milia.1", "--json", cwd=here.workspace)
    assert ran.code == 0
    assert ran.json == {"send": "milia.1", "ok": True, "recipients": 8, "violations": []}
    tamper(update(deliveries).where(ROW).values(state="pending"))(here)
    ran = cli("ledger", "verify", "milia.1", "--json", cwd=here.workspace)
    assert ran.code == 1
    assert ran.json["violations"]


def test_export_has_a_line_a_recipient_and_defuses_cells(here, cli):
    tamper(update(deliveries).where(ROW).values(email="=cmd()@example.com"))(here)
    lines = cli("ledger", "export", "milia.1", cwd=here.workspace).out.splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 8
    assert list(rows[0]) == [
        "subscriber",
        "email",
        "state",
        "provider",
        "provider_message_id",
        "attempt",
        "reason",
        "updated_at",
    ]
    assert rows[2]["email"] == "=cmd()@example.com"
    ran = cli("ledger", "export", "milia.1", "--format", "csv", "--json", cwd=here.workspace)
    table = list(csv.DictReader(io.StringIO(ran.out)))
    assert len(table) == 8
    assert table[2]["email"] == "'=cmd()@example.com"


@pytest.mark.parametrize(
    "command",
    [
        ("status", "nope"),
        ("pause", "nope"),
        ("resume", "nope"),
        ("cancel", "nope"),
        ("ledger", "export", "nope"),
        ("ledger", "verify", "nope"),
        ("ledger", "resolve", "nope", "--in-doubt", "abandon"),
    ],
)
def test_an_unknown_send_is_exit_3_and_prints_nothing(here, cli, command):
    ran = cli(*command, "--json", cwd=here.workspace)
    assert (ran.code, ran.out) == (3, "")
    assert "nope" in ran.err


@pytest.mark.parametrize("command", ["pause", "resume", "cancel"])
def test_a_send_that_is_over_is_exit_4(here, cli, command):
    ran = cli(command, "milia.1", "--json", cwd=here.workspace)
    assert (ran.code, ran.out) == (4, "")
    assert "it is sent" in ran.err


def test_pause_resume_and_cancel_answer_as_status(workspace, clock, cli):
    store = open_store(workspace.settings.database.url, workspace.root)
    here = make_world(workspace, store, clock, 3)
    assert isinstance(here, World)
    steps = [
        ("pause", "paused"),
        ("pause", "paused"),
        ("resume", "scheduled"),
        ("cancel", "cancelled"),
    ]
    for command, state in steps:
        ran = cli(command, "milia.1", "--json", cwd=workspace)
        assert ran.code == 0, ran.err
        assert ran.json["state"] == state
    with store.read() as connection:
        assert connection.execute(select(sends.c.finished_at)).scalar_one() is not None
    store.close()


def test_resolve_needs_a_decision(here, cli):
    ran = cli("ledger", "resolve", "milia.1", "--in-doubt", "perhaps", cwd=here.workspace)
    assert ran.code == 2
    ran = cli("ledger", "resolve", "milia.1", "--in-doubt", "abandon", cwd=here.workspace)
    assert ran.code == 4


def test_the_page_on_delivery_has_every_transition():
    page = (ROOT / "docs" / "delivery.md").read_text(encoding="utf-8")
    for title, machine in {"Sends": SEND, "Deliveries": DELIVERY, "Attempts": ATTEMPT}.items():
        section = page.split(f"### {title}\n")[1].split("###")[0]
        rows = {tuple(re.findall(r"`(\w+)`", line)) for line in section.splitlines()} - {()}
        assert rows == {(a, event, b) for a, to in machine.items() for event, b in to.items()}
