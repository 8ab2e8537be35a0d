"""Sign-up with double opt-in, leaving, coming back, and what no sign-up brings back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select

from newsletter.audience import (
    BadAddress,
    Signup,
    confirm,
    is_suppressed,
    mark_bounced,
    mark_complained,
    normalise_address,
    segment_select,
    subscribe,
    suppress,
    unsubscribe,
    update_preferences,
)
from newsletter.audience.addresses import address_hash
from newsletter.audience.suppression import keep_hash
from newsletter.errors import BadInput
from newsletter.store import Store
from newsletter.store.schema import consents, subscriber_history, subscribers, unsubscribes
from support.site import FakeClock

KEY = b"k" * 32
WORDING = "Yes, send me the letter."


@pytest.fixture
def sign_up(store: Store, clock: FakeClock) -> Callable[..., Signup]:
    def run(email: str = "ann@example.com", **more: Any) -> Signup:
        with store.begin() as connection:
            return subscribe(
                connection, KEY, clock.now(), email=email, consent_text=WORDING, **more
            )

    return run


@pytest.fixture
def subscriber(store: Store, clock: FakeClock, sign_up: Callable[..., Signup]) -> int:
    """Somebody who signed up and confirmed."""
    made = sign_up().subscriber_id
    assert made is not None
    with store.begin() as connection:
        assert confirm(connection, made, clock.now())
    clock.advance(days=1)
    return made


def state(store: Store, subscriber_id: int | None) -> str:
    with store.read() as connection:
        return str(
            connection.scalar(select(subscribers.c.state).where(subscribers.c.id == subscriber_id))
        )


def eligible(store: Store) -> list[int]:
    with store.read() as connection:
        return list(connection.scalars(segment_select("all")))


def consent_records(store: Store) -> list[tuple[str, str]]:
    with store.read() as connection:
        rows = connection.execute(select(consents.c.how, consents.c.text).order_by(consents.c.id))
        return [(row.how, row.text) for row in rows]


def test_a_sign_up_counts_only_once_it_is_confirmed(
    store: Store, clock: FakeClock, sign_up: Callable[..., Signup]
) -> None:
    made = sign_up("Ann@EXAMPLE.com", first_name=" Ann ", topics=["SPF", "spf"])
    assert made.confirm
    assert made.email == "Ann@example.com"
    assert made.subscriber_id is not None
    assert eligible(store) == []
    with store.begin() as connection:
        assert confirm(connection, made.subscriber_id, clock.now())
        assert confirm(connection, made.subscriber_id, clock.now())
    assert eligible(store) == [made.subscriber_id]
    assert consent_records(store) == [("form", WORDING), ("confirmed", WORDING)]
    with store.read() as connection:
        row = connection.execute(select(subscribers)).one()
    assert (row.first_name, row.topics, row.email_key) == ("Ann", ["spf"], "ann@example.com")


def test_a_repeated_sign_up_sends_a_confirmation_now_and_then_only(
    clock: FakeClock, sign_up: Callable[..., Signup]
) -> None:
    asked = []
    for _ in range(60):
        asked.append(sign_up().confirm)
        clock.advance(minutes=5)
    assert asked[:4] == [True, False, False, True]
    assert sum(asked) == 4
    clock.advance(days=1)
    assert sign_up().confirm


def test_a_sign_up_of_somebody_known_changes_nothing_about_them(
    store: Store, subscriber: int, sign_up: Callable[..., Signup]
) -> None:
    again = sign_up("ANN@example.com", first_name="Eve")
    assert again == Signup(subscriber, confirm=False, email="ann@example.com")
    assert state(store, subscriber) == "active"
    with store.read() as connection:
        assert connection.scalar(select(subscribers.c.first_name)) == ""


def test_leaving_is_at_once_and_counts_once(
    store: Store, clock: FakeClock, subscriber: int
) -> None:
    with store.begin() as connection:
        left = [
            unsubscribe(connection, subscriber, how="one-click", send_id=7, now=clock.now())
            for _ in range(2)
        ]
        counted = connection.scalar(select(func.count()).select_from(unsubscribes))
    assert left == [True, False]
    assert counted == 1
    assert eligible(store) == []
    assert consent_records(store)[-1] == ("withdrawn", "one-click")


def test_an_old_confirmation_brings_nobody_back_who_left(
    store: Store, clock: FakeClock, subscriber: int
) -> None:
    with store.begin() as connection:
        unsubscribe(connection, subscriber, how="page", now=clock.now())
        assert not confirm(connection, subscriber, clock.now())
    assert state(store, subscriber) == "unsubscribed"


def test_who_left_comes_back_by_signing_up_and_confirming_anew(
    store: Store, clock: FakeClock, subscriber: int, sign_up: Callable[..., Signup]
) -> None:
    with store.begin() as connection:
        unsubscribe(connection, subscriber, how="page", send_id=7, now=clock.now())
        assert is_suppressed(connection, KEY, "ann@example.com")
    assert sign_up().confirm
    assert state(store, subscriber) == "unsubscribed"
    with store.begin() as connection:
        assert confirm(connection, subscriber, clock.now())
        assert not is_suppressed(connection, KEY, "ann@example.com")
        assert unsubscribe(connection, subscriber, how="page", send_id=7, now=clock.now())


@pytest.mark.parametrize("mark", [mark_bounced, mark_complained])
def test_no_sign_up_brings_back_who_bounced_or_complained(
    store: Store,
    clock: FakeClock,
    subscriber: int,
    sign_up: Callable[..., Signup],
    mark: Callable[..., bool],
) -> None:
    with store.begin() as connection:
        assert mark(connection, subscriber, reason="550", now=clock.now())
        assert not mark(connection, subscriber, reason="550", now=clock.now())
        assert is_suppressed(connection, KEY, "ann@example.com")
    assert eligible(store) == []
    assert not sign_up().confirm
    with store.begin() as connection:
        assert not confirm(connection, subscriber, clock.now())


def test_a_complaint_outranks_a_bounce_and_never_the_other_way(
    store: Store, clock: FakeClock, subscriber: int
) -> None:
    with store.begin() as connection:
        assert mark_bounced(connection, subscriber, reason="", now=clock.now())
        assert mark_complained(connection, subscriber, reason="", now=clock.now())
        assert not mark_bounced(connection, subscriber, reason="", now=clock.now())
        assert not unsubscribe(connection, subscriber, how="page", now=clock.now())
    assert state(store, subscriber) == "complained"


def test_whom_an_editor_suppressed_is_not_written_to_whatever_they_do(
    store: Store, clock: FakeClock, sign_up: Callable[..., Signup]
) -> None:
    known = sign_up("ann@example.com")
    assert known.subscriber_id is not None
    with store.begin() as connection:
        suppress(connection, KEY, "ANN@example.com", reason="asked by phone", now=clock.now())
        suppress(connection, KEY, "never@example.com", reason="asked by phone", now=clock.now())
        assert not confirm(connection, known.subscriber_id, clock.now())
        assert is_suppressed(connection, KEY, "Never@Example.com")
        assert not is_suppressed(connection, KEY, "other@example.com")
    clock.advance(days=2)
    assert not sign_up("ann@example.com").confirm
    assert sign_up("NEVER@example.com") == Signup(None, confirm=False, email="NEVER@example.com")
    assert eligible(store) == []


def test_every_change_is_in_the_history(store: Store, clock: FakeClock, subscriber: int) -> None:
    with store.begin() as connection:
        update_preferences(
            connection,
            subscriber,
            now=clock.now(),
            first_name="Ann",
            last_name="Lee",
            topics=["spf"],
            frequency="monthly",
        )
        unsubscribe(connection, subscriber, how="page", now=clock.now())
        events = connection.scalars(
            select(subscriber_history.c.event).order_by(subscriber_history.c.id)
        ).all()
    assert events == ["signed up", "confirmed", "preferences", "unsubscribed"]


@pytest.mark.parametrize(
    "typed",
    [{"first_name": "x" * 201}, {"first_name": "a\x00b"}, {"topics": ["t" * 101]}],
)
def test_what_a_visitor_types_is_limited(
    sign_up: Callable[..., Signup], typed: dict[str, Any]
) -> None:
    with pytest.raises(BadInput):
        sign_up(**typed)


def test_a_bad_address_is_refused(sign_up: Callable[..., Signup]) -> None:
    with pytest.raises(BadAddress):
        sign_up("nobody")


def test_a_frequency_that_there_is_not_is_refused(
    store: Store, clock: FakeClock, subscriber: int
) -> None:
    with store.begin() as connection, pytest.raises(BadInput, match="every, monthly"):
        update_preferences(
            connection,
            subscriber,
            now=clock.now(),
            first_name="",
            last_name="",
            topics=[],
            frequency="hourly",
        )


def test_an_erasure_never_weakens_a_suppression(
    store: Store, clock: FakeClock, sign_up: Callable[..., Signup]
) -> None:
    address = normalise_address("never@example.com")
    with store.begin() as connection:
        suppress(connection, KEY, address.email, reason="asked by phone", now=clock.now())
        keep_hash(connection, address_hash(KEY, address.key), "forgotten", "", clock.now())
    assert not sign_up(address.email).confirm
