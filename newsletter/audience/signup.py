"""What a person does about their own subscription: sign up, confirm, leave, change preferences.

Nothing here sends mail or knows a web page. Whoever asks learns nothing about who is subscribed:
the callers answer the same whatever `subscribe` returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, ScalarSelect, exists, func, insert, select, update

from newsletter.audience.addresses import Address, address_hash, normalise_address
from newsletter.audience.sql import insert_into
from newsletter.audience.suppression import ENDED_BY_SIGN_UP, kept_kind
from newsletter.audience.transitions import TRANSITIONS, move, write_history
from newsletter.audience.values import FREQUENCIES, clean_name, clean_topic_list
from newsletter.errors import BadInput
from newsletter.store.schema import consents, subscribers, unsubscribes

# A stranger can type anybody's address: they must not be able to fill that person's inbox.
CONFIRMATION_PAUSE = timedelta(minutes=15)
CONFIRMATIONS_A_DAY = 4


@dataclass(frozen=True, slots=True)
class Signup:
    """`confirm`: whether a confirmation mail is to go out, to `email`."""

    subscriber_id: int | None
    confirm: bool
    email: str


def subscribe(
    connection: Connection,
    key: bytes,
    now: datetime,
    *,
    email: str,
    first_name: str = "",
    topics: list[str] | None = None,
    consent_text: str,
    details: dict[str, Any] | None = None,
) -> Signup:
    """Note a sign-up; it counts only once it is confirmed through the mail to that address.

    `key` is the workspace's; `consent_text` is the wording that was shown. What a stranger typed
    changes nothing about somebody who is known already. Raises `BadAddress` or `BadValue`.
    """
    address = normalise_address(email)
    name = clean_name(first_name, "first name")
    wanted = clean_topic_list(topics or [])
    row = connection.execute(
        select(
            subscribers.c.id, subscribers.c.email, subscribers.c.state, subscribers.c.suppressed
        ).where(subscribers.c.email_key == address.key)
    ).first()
    kept = kept_kind(connection, address_hash(key, address.key))
    if kept is not None and kept not in ENDED_BY_SIGN_UP:
        return Signup(None, confirm=False, email=address.email)
    if row is None:
        made = _insert_pending(connection, address, name, wanted, now)
        if made is None:  # the same form was sent twice at once, and the other was first
            return Signup(None, confirm=False, email=address.email)
        subscriber_id, shown = made, address.email
    elif row.suppressed == "" and _may_confirm(connection, row.id, row.state, now):
        subscriber_id, shown = row.id, row.email
    else:
        return Signup(row.id, confirm=False, email=row.email)
    record_consent(
        connection, subscriber_id, now=now, how="form", text=consent_text, details=details or {}
    )
    return Signup(subscriber_id, confirm=True, email=shown)


def confirm(connection: Connection, subscriber_id: int, now: datetime) -> bool:
    """The person's own yes: whether they are subscribed now. Doing it again changes nothing.

    Somebody who left comes back only by a sign-up made after they left, not by an old mail.
    """
    came_back = exists().where(
        consents.c.subscriber_id == subscriber_id,
        consents.c.how == "form",
        consents.c.id > _last_withdrawal(subscriber_id),
    )
    allowed = (subscribers.c.suppressed == "") & ((subscribers.c.state == "pending") | came_back)
    if move(connection, subscriber_id, "confirmed", now=now, only_if=allowed):
        text = _last_wording(connection, subscriber_id)
        record_consent(connection, subscriber_id, now=now, how="confirmed", text=text)
        return True
    state = connection.scalar(select(subscribers.c.state).where(subscribers.c.id == subscriber_id))
    return state == "active"


def unsubscribe(
    connection: Connection, subscriber_id: int, *, how: str, now: datetime, send_id: int = 0
) -> bool:
    """Withdraw consent at once, for good. False when they had left already (or are unknown).

    `how`: page, one-click, provider, preferences or editor; `send_id` is the send whose link was
    used, 0 if none.
    """
    if not move(connection, subscriber_id, "unsubscribed", now=now, detail=how):
        return False
    record_consent(connection, subscriber_id, now=now, how="withdrawn", text=how)
    if send_id > 0:
        # They can have come back and left again by the same mail.
        connection.execute(
            insert_into(connection, unsubscribes)
            .values(send_id=send_id, subscriber_id=subscriber_id, at=now)
            .on_conflict_do_nothing()
        )
    return True


def update_preferences(
    connection: Connection,
    subscriber_id: int,
    *,
    now: datetime,
    first_name: str,
    last_name: str,
    topics: list[str],
    frequency: str,
) -> bool:
    """Change what a person said about themselves. False if they are unknown or erased.

    `frequency` is one of `FREQUENCIES`. Raises `BadInput`.
    """
    if frequency not in FREQUENCIES:
        raise BadInput(f"no such frequency: choose one of {', '.join(FREQUENCIES)}")
    changed = connection.execute(
        update(subscribers)
        .where(subscribers.c.id == subscriber_id, subscribers.c.state != "forgotten")
        .values(
            first_name=clean_name(first_name, "first name"),
            last_name=clean_name(last_name, "last name"),
            topics=clean_topic_list(topics),
            frequency=frequency,
            updated_at=now,
        )
    ).rowcount
    if changed:
        write_history(connection, subscriber_id, "preferences", now=now)
    return changed == 1


def record_consent(
    connection: Connection,
    subscriber_id: int,
    *,
    now: datetime,
    how: str,
    text: str,
    details: dict[str, Any] | None = None,
) -> None:
    """Keep the proof of a consent or its withdrawal: who, when, how and the wording shown."""
    connection.execute(
        insert(consents).values(
            subscriber_id=subscriber_id, at=now, how=how, text=text, details=details or {}
        )
    )


def _last_withdrawal(subscriber_id: int) -> ScalarSelect[int]:
    return (
        select(func.coalesce(func.max(consents.c.id), 0))
        .where(consents.c.subscriber_id == subscriber_id, consents.c.how == "withdrawn")
        .scalar_subquery()
    )


def _last_wording(connection: Connection, subscriber_id: int) -> str:
    """The wording that the person was shown when they signed up, '' if they never did."""
    shown = (
        select(consents.c.text)
        .where(consents.c.subscriber_id == subscriber_id, consents.c.how == "form")
        .order_by(consents.c.id.desc())
        .limit(1)
    )
    return connection.scalar(shown) or ""


def _insert_pending(
    connection: Connection, address: Address, name: str, topics: list[str], now: datetime
) -> int | None:
    subscriber_id: int | None = connection.scalar(
        insert_into(connection, subscribers)
        .values(
            email=address.email,
            email_key=address.key,
            first_name=name,
            topics=topics,
            state="pending",
            created_at=now,
            updated_at=now,
        )
        .on_conflict_do_nothing()
        .returning(subscribers.c.id)
    )
    if subscriber_id is not None:
        write_history(connection, subscriber_id, "signed up", now=now)
    return subscriber_id


def _may_confirm(connection: Connection, subscriber_id: int, state: str, now: datetime) -> bool:
    """Whether a known person gets (another) confirmation mail for this sign-up."""
    if state not in TRANSITIONS["confirmed"].sources:
        return False
    recent = connection.scalars(
        select(consents.c.at).where(
            consents.c.subscriber_id == subscriber_id,
            consents.c.how == "form",
            consents.c.at > now - timedelta(days=1),
        )
    ).all()
    return len(recent) < CONFIRMATIONS_A_DAY and all(
        at <= now - CONFIRMATION_PAUSE for at in recent
    )
