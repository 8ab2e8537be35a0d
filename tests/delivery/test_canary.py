"""The canary: a sample gets the issue first; its bounces and complaints decide about the rest."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from newsletter.delivery import pause, resume
from newsletter.delivery.canary import Figures, chance, verdict
from newsletter.events import ingest
from newsletter.providers.base import Event, EventType
from newsletter.settings import Delivery
from newsletter.store.schema import deliveries, outbox, sends, subscribers
from support.ledger import NOON, everybody, make_world

ON = "[delivery]\ncanary = '10%'\n"
WAIT = timedelta(minutes=30)


def maker(make_workspace, store, clock):
    def make(people=1000, extra=ON, **capabilities):
        here = make_world(
            make_workspace(extra), store, clock, people, **{"batch_size": 50, **capabilities}
        )
        here.policy = replace(here.policy, poll=timedelta(minutes=5))
        return here

    return make


@pytest.fixture
def world(sqlite_store, make_workspace, clock):
    return maker(make_workspace, sqlite_store, clock)


@pytest.fixture
def on_both(store, make_workspace, clock):
    """The same on each database, where the question is one of SQL."""
    return maker(make_workspace, store, clock)


def tell(here, people, kind, *, bounce="", at=None):
    """The provider tells of messages that left: 'bounced', 'complained' and so on."""
    with here.store.read() as connection:
        query = (
            select(deliveries.c.email, deliveries.c.provider_message_id)
            .where(deliveries.c.state == "accepted")
            .order_by(deliveries.c.position)
            .limit(people)
        )
        rows = connection.execute(query).all()
    assert len(rows) == people
    events = [
        Event(
            type=EventType(kind),
            recipient=row.email,
            provider_message_id=row.provider_message_id,
            at=here.clock.now(),
            bounce=bounce,
            reason=kind,
        )
        for row in rows
    ]
    ingest(here.store, here.workspace, "main", events, here.clock.now())


def after_sample(here, action):
    """Do something as soon as the whole sample has left."""
    asked_at, done = [], []
    sleep = here.clock.sleep

    async def sleeping(seconds):
        if not done:
            done.append(1)
            action()
        await sleep(seconds)

    here.clock.sleep = sleeping
    here.provider.during = lambda _prepared: asked_at.append(here.clock.now())
    here.run()
    here.clock.sleep = sleep
    return asked_at


def sample_of(here):
    with here.store.read() as connection:
        return connection.execute(select(sends.c.canary, sends.c.canary_passed)).one()


def test_the_sample_goes_first_and_the_rest_after_the_wait(on_both):
    here = on_both()
    asked_at = after_sample(here, lambda: tell(here, 1, "complained"))
    assert here.provider.received == everybody(1000)
    assert here.status()["state"] == "sent"
    first = [at for at in asked_at if at - NOON < timedelta(minutes=1)]
    assert 2 <= len(first) <= 3
    assert min(at for at in asked_at if at not in first) - NOON >= WAIT
    sent_first = sum(len(p.recipients) for p in here.provider.requests[: len(first)])
    assert 90 <= sent_first <= 110
    assert sample_of(here).canary_passed
    assert here.verify() == []


def test_the_sample_is_spread_over_old_and_new_subscribers_and_over_domains(on_both):
    here = on_both(people=3000, batch_size=1000)
    with here.store.begin() as connection:
        for number, domain in enumerate(("gmail.com", "outlook.com", "yahoo.com")):
            connection.execute(
                update(subscribers)
                .where(subscribers.c.id % 3 == number)
                .values(email=subscribers.c.first_name + f"@{domain}")
            )
    here.run()
    sample = here.provider.requests[0].recipients
    assert 280 <= len(sample) <= 320
    domains = Counter(address.partition("@")[2] for address in sample)
    assert all(80 <= count <= 120 for count in domains.values()), domains
    numbers = sorted(int(address.partition("@")[0].removeprefix("Ada")) for address in sample)
    thirds = Counter((number - 1) // 1000 for number in numbers)
    assert all(80 <= count <= 120 for count in thirds.values()), thirds


def test_too_many_bounces_hold_the_send_with_the_figures_and_resume_overrules(on_both):
    here = on_both()
    after_sample(here, lambda: tell(here, 12, "bounced", bounce="hard"))
    told = here.status()
    assert told["state"] == "held"
    assert "12 bounced or were refused" in told["reason"]
    assert "the limit is 5 %" in told["reason"]
    assert 90 <= sum(here.provider.received.values()) <= 110
    with here.store.read() as connection:
        (notice,) = connection.execute(select(outbox)).all()
    assert notice.subject == "The send milia.1 is held"
    assert "12 bounced" in notice.text
    here.run()
    assert here.status()["state"] == "held", "nobody goes on without a person"
    with here.store.begin() as connection:
        resume(connection, "milia.1", here.clock.now())
    here.run()
    assert here.status()["state"] == "sent"
    assert here.provider.received == everybody(1000)
    assert here.verify() == []


def test_complaints_hold_it_and_so_do_recipients_that_the_provider_refuses(world):
    here = world()
    after_sample(here, lambda: tell(here, 3, "complained"))
    assert "3 complained" in here.status()["reason"]
    assert here.status()["state"] == "held"


def test_refused_recipients_count_as_bounced(world):
    here = world()
    here.provider.refuse = {f"reader{number}@example.com" for number in range(1, 1001, 4)}
    here.run()
    assert here.status()["state"] == "held"
    assert len(here.provider.requests) <= 3


def test_soft_bounces_say_nothing(world):
    here = world()
    after_sample(here, lambda: tell(here, 40, "bounced", bounce="soft"))
    assert here.status()["state"] == "sent"


def test_what_is_no_accident_is_judged_at_once_and_what_may_be_one_at_the_end(world):
    here = world()
    after_sample(here, lambda: tell(here, 30, "bounced", bounce="hard"))
    assert here.status()["state"] == "held"
    assert here.clock.now() - NOON < timedelta(minutes=15)


def test_a_rate_that_may_be_an_accident_is_judged_at_the_end(world):
    here = world()
    after_sample(here, lambda: tell(here, 8, "bounced", bounce="hard"))
    assert here.status()["state"] == "held"
    assert here.clock.now() - NOON >= WAIT


@pytest.mark.parametrize(
    "extra", ["", "[delivery]\ncanary = '1%'\n", "[delivery]\ncanary = 1000\n"]
)
def test_without_one_or_with_too_few_recipients_all_go_at_once(world, extra):
    here = world(extra=extra)
    here.run()
    assert here.clock.now() == NOON
    assert sample_of(here).canary is None
    assert here.status()["state"] == "sent"


def test_a_number_of_recipients_can_be_told(world):
    here = world(extra="[delivery]\ncanary = 50\ncanary_wait = '2h'\n")
    here.run()
    assert here.clock.now() - NOON >= timedelta(hours=2)
    assert 40 <= len(here.provider.requests[0].recipients) <= 60 or len(here.provider.requests) > 20


def test_a_resume_for_another_reason_does_not_overrule_the_sample(world):
    here = world()

    def stop_and_go():
        for change in (pause, resume):
            with here.store.begin() as connection:
                change(connection, "milia.1", here.clock.now())
        tell(here, 30, "bounced", bounce="hard")

    after_sample(here, stop_and_go)
    assert here.status()["state"] == "held"


@pytest.mark.parametrize(
    ("found", "early", "held"),
    [
        (Figures(1000, 50, 0), False, False),  # 5 % is not above 5 %
        (Figures(1000, 51, 0), False, True),
        (Figures(1000, 51, 0), True, False),
        (Figures(1000, 90, 0), True, True),
        (Figures(1000, 0, 3), False, False),
        (Figures(1000, 0, 4), False, True),
        (Figures(1000, 0, 4), True, False),
        (Figures(1000, 0, 13), True, True),
        (Figures(20, 1, 1), False, False),  # one alone is no rate
        (Figures(0, 0, 0), False, False),
    ],
)
def test_the_verdict_on_figures(found, early, held):
    assert bool(verdict(Delivery(), found, early=early)) is held


def test_the_chance_of_so_many_is_the_binomial_tail():
    assert chance(10, 1, 0.5) == pytest.approx(1 - 0.5**10)
    assert chance(4, 2, 0.25) == pytest.approx(0.26171875)
    assert chance(100_000, 300, 0.003) == pytest.approx(0.51, abs=0.02)
    assert chance(5, 6, 0.5) == 0.0
    assert chance(5, 0, 0.5) == 1.0
    assert chance(5, 1, 0.0) == 0.0
