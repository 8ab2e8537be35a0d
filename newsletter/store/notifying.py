"""Tells other processes, in the transaction that makes work for them, that there is some.

PostgreSQL delivers it at the commit (`NOTIFY`). Whoever misses it finds the work at the next look,
so nothing depends on it but speed. SQLite has nothing like it: there a change is noticed by a look.
"""

from __future__ import annotations

from typing import Literal

from sqlalchemy import Connection, func, select

CHANNEL = "newsletter"

#: What there is to do: a send goes on, mail waits in the outbox, an edition is to be looked after.
Topic = Literal["sends", "notices", "editions"]


def notify(connection: Connection, topic: Topic) -> None:
    """Wake whoever waits for work of that kind, once the transaction is committed.

    Not for what happens every batch: PostgreSQL lets transactions that notify commit one by one.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_notify(CHANNEL, topic)))
