"""Failover: who surely has not got the issue from one provider gets it from another, and nobody
from both."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from newsletter.delivery import breaker, export_rows
from newsletter.errors import BadInput
from newsletter.events import ingest
from newsletter.providers.base import Answered, Deferred, Denied, Event, EventType, Unknown
from newsletter.settings import ProviderSettings
from newsletter.store.schema import attempts, batches, outbox
from support.ledger import RecordingProvider, everybody, lost_after, lost_before, make_world

TWO = """failover = "other"
[[providers]]
name = "other"
kind = "mailbox"
base_url = "http://127.0.0.1:8026"
api_key = "local-key"
"""


class Pair:
    """A send through `main`, and `other`, which stands in for it."""

    def __init__(self, workspace, store, clock, people, **capabilities):
        self.world = make_world(workspace, store, clock, people, **capabilities)
        self.main = self.world.provider
        self.other = RecordingProvider(
            settings=ProviderSettings(name="other", kind="mailbox"),
            capabilities=replace(self.main.capabilities, batch_size=3),
            clock=clock,
        )

    def run(self, **changes):
        of = {"main": self.main, "other": self.other}
        return self.world.run(open_provider=of.__getitem__, **changes)

    @property
    def received(self):
        return self.main.received + self.other.received


@pytest.fixture
def pair(make_workspace, store, clock):
    def make(people=40, **capabilities):
        return Pair(make_workspace(TWO), store, clock, people, **capabilities)

    return make


@pytest.fixture
def on_sqlite(make_workspace, sqlite_store, clock):
    def make(people=40, **capabilities):
        return Pair(make_workspace(TWO), sqlite_store, clock, people, **capabilities)

    return make


def dead(_provider, _prepared):
    return Deferred("no connection")


def providers_of_attempts(store):
    with store.read() as connection:
        return Counter(connection.execute(select(attempts.c.provider)).scalars())


def test_the_other_takes_over_what_the_first_has_surely_not_got(pair, store):
    two = pair(settings={"in_flight": 2})
    two.main.faults = [None, None, *[dead] * 10_000]
    two.run()
    assert two.received == everybody(40)
    assert 0 < len(two.main.kept) < len(two.other.kept)
    assert all(len(prepared.recipients) <= 3 for prepared in two.other.requests)
    assert two.world.status()["state"] == "sent"
    assert two.world.verify() == []
    with store.read() as connection:
        notices = connection.execute(select(outbox)).all()
    assert [notice.subject for notice in notices] == ["The provider main keeps failing"]
    assert "*other* takes over" in notices[0].text
    main, other = two.world.status()["providers"]
    assert (main["name"], main["accepted"]) == ("main", len(two.main.kept))
    assert (other["name"], other["accepted"]) == ("other", len(two.other.kept))
    assert (main["breaker"], other["breaker"]) == ("open", "closed")
    through = {row["email"]: row["provider"] for row in export_rows(store, "milia.1")}
    assert {email for email, name in through.items() if name == "other"} == {
        address for _, address in two.other.kept
    }


def test_what_is_in_doubt_stays_with_its_provider_until_it_is_settled_there(pair, store):
    two = pair(people=24, settings={"in_flight": 1})
    two.main.faults = [lost_after, lost_before, *[dead] * 10_000]
    two.run()
    assert two.received == everybody(24)
    found = {address for _, address in two.main.kept}
    assert len(found) == 4, "the look-up found whom the first had accepted"
    assert two.other.lookups == []
    assert two.world.status()["state"] == "sent"
    assert two.world.verify() == []


def test_wrong_credentials_hand_the_send_over_at_once(pair, store):
    two = pair()
    two.main.faults = [lambda *_: Denied("401: see providers.main.api_key")] * 10_000
    two.run()
    assert two.other.received == everybody(40)
    assert two.world.status()["state"] == "sent"
    with store.read() as connection:
        notice = connection.execute(select(outbox)).one()
    assert "api_key" in notice.text


def test_the_first_gets_back_what_has_not_moved_once_it_works_again(on_sqlite, sqlite_store):
    two = on_sqlite(people=200, settings={"in_flight": 1})
    two.other.settings = two.other.settings.model_copy(update={"in_flight": 1, "rate": 1.0})
    two.world.workspace.settings.providers[1].__dict__["rate"] = 1.0
    two.main.faults = [dead] * 5
    two.run()
    assert two.received == everybody(200)
    assert two.other.kept
    assert len(two.main.kept) > len(two.other.kept)
    with sqlite_store.read() as connection:
        moved = set(connection.execute(select(batches.c.provider)).scalars())
        assert not breaker.is_open(connection, "main")
    assert moved == {None, "other"}


def test_when_both_fail_the_send_is_held_and_nobody_is_lost(on_sqlite):
    two = on_sqlite(people=8)
    two.world.policy = replace(two.world.policy, poll=timedelta(seconds=30))
    two.main.faults = [dead] * 10_000
    two.other.faults = [dead] * 10_000
    two.run()
    assert two.world.status()["state"] == "held"
    assert two.world.counts() == {"total": 8, "pending": 8}


def test_events_are_of_the_provider_that_carried_the_message(pair, store):
    two = pair(people=4)
    two.main.faults = [dead] * 10_000
    two.run()
    row = next(iter(export_rows(store, "milia.1")))
    event = Event(
        type=EventType.DELIVERED,
        recipient=row["email"],
        provider_message_id=row["provider_message_id"],
        at=two.world.clock.now(),
        metadata={"delivery": "1.1", "attempt": row["attempt"]},
    )
    for provider, state in (("main", "accepted"), ("other", "delivered")):
        ingest(store, two.world.workspace, provider, [event], two.world.clock.now())
        assert next(iter(export_rows(store, "milia.1")))["state"] == state


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_whatever_the_first_does_before_it_dies_each_gets_it_once(pair, seed):
    rng = random.Random(seed)
    people = rng.randint(40, 90)
    two = pair(people=people, settings={"in_flight": rng.randint(1, 4)})
    two.world.policy = replace(two.world.policy, poll=timedelta(seconds=10))

    def some(provider, prepared):
        answer = provider.accept(prepared)
        for key, address in [kept for kept in provider.kept if kept[0] == prepared.key][1::2]:
            provider.kept.remove((key, address))
        assert isinstance(answer, Answered)
        return Unknown("502")

    def put_off(provider, prepared):
        provider.put_off.update(prepared.recipients[::2])
        return provider.accept(prepared)

    living = [None, None, lost_before, lost_after, some, put_off, dead]
    dying = [dead, dead, lost_before]
    two.main.faults = rng.choices(living, k=rng.randint(0, 20))
    two.main.faults += rng.choices(dying, k=rng.choice([30, 10_000]))
    two.main.failing_lookups = rng.choice([0, 3])
    two.other.faults = rng.choices([None, None, None, lost_after, lost_before], k=20)
    two.run(rng=random.Random(seed))
    assert two.received == everybody(people)
    assert two.world.counts() == {"total": people, "accepted": people}
    assert two.world.status()["state"] == "sent"
    assert two.world.verify() == []


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ('failover = "nobody"\n', "no provider is named 'nobody'"),
        ('failover = "main"\n', "it leads back to 'main'"),
        (TWO + 'failover = "main"\n', "it leads back to 'main'"),
    ],
)
def test_a_failover_that_leads_nowhere_is_refused(make_workspace, told, problem):
    with pytest.raises(BadInput, match=problem):
        make_workspace(told)
