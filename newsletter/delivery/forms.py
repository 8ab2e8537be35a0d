"""Forms left at a provider while a send lasts: made before the first request that uses them, and
removed once the send is over.

Each is written down before it is made there, so that what a crash leaves behind is removed later.
Where one cannot be kept, whole messages go instead: no send waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, bindparam, delete, exists, or_, select, update

from newsletter.audience.sql import insert_into
from newsletter.delivery.composing import Letter
from newsletter.delivery.runtime import DeliveryRuntime
from newsletter.delivery.transitions import OVER, in_states
from newsletter.errors import NewsletterError
from newsletter.providers.base import (
    Answered,
    Deferred,
    Denied,
    Form,
    KeepsForms,
    Kept,
    Outcome,
    Provider,
)
from newsletter.store.schema import batches, kept_forms, sends
from newsletter.store.types import Instant

_log = logging.getLogger(__name__)

#: From so many bytes of a batch's whole messages on a form is worth the requests that keep it.
WORTH = 1_000_000
_AGAIN = timedelta(minutes=5)  # after a failure to make or to remove one
_WORKING = exists().where(batches.c.send_id == sends.c.id, batches.c.state == "leased")
#: The forms of sends that are over, which may be removed at `b_now`.
TO_REMOVE = (
    select(kept_forms.c.provider, kept_forms.c.name, kept_forms.c.retry_at)
    .join(sends, sends.c.id == kept_forms.c.send_id)
    .where(in_states(sends.c.state, tuple(sorted(OVER))), ~_WORKING)
    .where(
        or_(
            kept_forms.c.retry_at.is_(None),
            kept_forms.c.retry_at <= bindparam("b_now", type_=Instant()),
        )
    )
    .order_by(kept_forms.c.provider, kept_forms.c.name)
)


def standing(
    runtime: DeliveryRuntime, provider: Provider, letter: Letter, variant: str, recipients: int
) -> Literal["kept", "whole", "to make"]:
    """How the next request of a variant says its form: as one kept, or whole; or whether to `make`
    it first."""
    if not _keeps(provider):
        return "whole"
    form = letter.form(variant)
    if (provider.settings.name, form.name) in letter.kept:
        return "kept"
    query = select(kept_forms.c.state, kept_forms.c.retry_at).where(_this(provider, form))
    with runtime.store.read() as connection:
        row = connection.execute(query).one_or_none()
    if row is None:
        return "to make" if form.size * recipients >= WORTH else "whole"
    if row.state == "kept":
        letter.kept.add((provider.settings.name, form.name))
        return "kept"
    if row.state == "refused":
        return "whole"
    waits = row.retry_at is not None and row.retry_at > runtime.clock.now()
    return "whole" if waits else "to make"


async def make(runtime: DeliveryRuntime, provider: Provider, letter: Letter, variant: str) -> bool:
    """Leave the form at the provider, once for all batches that ask; whether it is there."""
    form = letter.form(variant)
    key = (provider.settings.name, form.name)
    making = letter.making.get(key)
    if making is None:
        making = asyncio.ensure_future(_make(runtime, provider, letter, form))
        letter.making[key] = making
        making.add_done_callback(lambda _: letter.making.pop(key, None))
    return await asyncio.shield(making)


async def _make(runtime: DeliveryRuntime, provider: Provider, letter: Letter, form: Form) -> bool:
    assert isinstance(provider, KeepsForms)
    with runtime.store.begin() as connection:
        _ask(connection, provider, letter, form)
    outcome = await provider.keep(form)
    told: dict[str, Any] = {"state": "kept", "reason": "", "retry_at": None}
    if not isinstance(outcome, Kept):
        _log.warning("send %s goes as whole messages: %s", letter.send, outcome.reason)
        told["reason"] = outcome.reason
        told["state"] = "refused" if isinstance(outcome, Denied) else "asked"
        told["retry_at"] = runtime.clock.now() + _AGAIN
    with runtime.store.begin() as connection:
        asked = (_this(provider, form), kept_forms.c.state == "asked")
        if not connection.execute(update(kept_forms).where(*asked).values(**told)).rowcount:
            # Where it was removed before it was made, it is to be removed once more.
            _ask(connection, provider, letter, form)
    return isinstance(outcome, Kept)


def _ask(connection: Connection, provider: Provider, letter: Letter, form: Form) -> None:
    row = insert_into(connection, kept_forms).values(
        provider=provider.settings.name, name=form.name, send_id=letter.send_id, state="asked"
    )
    connection.execute(row.on_conflict_do_nothing())


def note_outcome(
    connection: Connection, provider: Provider, letter: Letter, outcome: Outcome
) -> None:
    """Where the provider says that a form is gone, the send goes on with whole messages."""
    if not _keeps(provider):
        return
    told = outcome.outcomes if isinstance(outcome, Answered) else (outcome,)
    if any(isinstance(each, Deferred) and each.form_gone for each in told):
        letter.kept.clear()
        kept = (
            kept_forms.c.provider == provider.settings.name,
            kept_forms.c.send_id == letter.send_id,
            kept_forms.c.state == "kept",
        )
        values = {"state": "refused", "reason": "the provider says that it is gone"}
        connection.execute(update(kept_forms).where(*kept).values(**values))


def removal(
    runtime: DeliveryRuntime, provider_of: Callable[[str], Provider]
) -> Coroutine[Any, Any, None] | None:
    """The work of removing the forms of sends that are over, claimed for this worker; None if there
    is nothing to remove now."""
    now = runtime.clock.now()
    with runtime.store.read() as connection:
        due = [tuple(row) for row in connection.execute(TO_REMOVE, {"b_now": now})]
    if not due:
        return None
    with runtime.store.begin() as connection:
        mine = [row[:2] for row in due if _claim(connection, *row, until=now + _AGAIN)]
    return _remove(runtime, provider_of, mine) if mine else None


def _claim(
    connection: Connection, provider: str, name: str, retry_at: datetime | None, *, until: datetime
) -> bool:
    as_read = kept_forms.c.retry_at.is_not_distinct_from(retry_at)
    statement = update(kept_forms).where(_row(provider, name), as_read)
    return connection.execute(statement.values(retry_at=until)).rowcount == 1


async def _remove(
    runtime: DeliveryRuntime, provider_of: Callable[[str], Provider], mine: list[tuple[str, str]]
) -> None:
    for of, name in mine:
        try:
            provider = provider_of(of)
            if not isinstance(provider, KeepsForms) or not await provider.drop(name):
                _log.warning("a form could not be removed from %s yet", of)
                continue
            with runtime.store.begin() as connection:
                connection.execute(delete(kept_forms).where(_row(of, name)))
        except NewsletterError as error:  # no such provider any more, or the database is away
            _log.warning("a form could not be removed from %s yet: %s", of, error)


def _keeps(provider: Provider) -> bool:
    return provider.capabilities.keeps_forms and isinstance(provider, KeepsForms)


def _this(provider: Provider, form: Form) -> ColumnElement[bool]:
    return _row(provider.settings.name, form.name)


def _row(provider: str, name: str) -> ColumnElement[bool]:
    return (kept_forms.c.provider == provider) & (kept_forms.c.name == name)
