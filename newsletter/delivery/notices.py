"""What needs a person: a send is held with its reason, and the editors are told once a cause."""

from __future__ import annotations

import logging

from sqlalchemy import Connection, select

from newsletter.delivery.runtime import DeliveryRuntime
from newsletter.delivery.transitions import move_send
from newsletter.outbox import notify_editors
from newsletter.store.schema import sends
from newsletter.store.types import to_microseconds

_log = logging.getLogger(__name__)


def hold(
    connection: Connection, runtime: DeliveryRuntime, send_id: int, reason: str, *, cause: str
) -> bool:
    """Hold a send for a person; false when it was over, paused or held already."""
    if not move_send(connection, send_id, "hold", reason=reason):
        return False
    name = tell_editors(
        connection,
        runtime,
        send_id,
        cause=cause,
        subject="The send {send} is held",
        text="The send **{send}** is held and needs a person.\n\n"
        f"Reason: {reason}\n\n"
        "Nobody who got it will get it again. Once the cause is gone, go on with\n"
        "`newsletter resume {send}`, or end it with `newsletter cancel {send}`.",
    )
    _log.warning("send %s is held: %s", name, reason)
    return True


def tell_editors(
    connection: Connection,
    runtime: DeliveryRuntime,
    send_id: int,
    *,
    cause: str,
    subject: str,
    text: str,
) -> str:
    """Queue a notice, once for each cause until somebody resumes the send; `{send}` is its name."""
    query = select(sends.c.send, sends.c.released_at).where(sends.c.id == send_id)
    name, released = connection.execute(query).one()
    round_of = to_microseconds(released) if released else 0
    notify_editors(
        connection,
        runtime.workspace,
        runtime.clock.now(),
        cause=f"send:{name}:{cause}:{round_of}",
        subject=subject.replace("{send}", name),
        text=text.replace("{send}", name),
    )
    return str(name)
