"""Connections to PostgreSQL: set so that either end notices in seconds that the other is gone.

A worker whose machine vanished would keep its row locks until the system gave up after hours; one
that was stopped in the middle of a transaction would keep them for ever.
"""

from __future__ import annotations

from typing import Any

import psycopg
from sqlalchemy import Engine
from sqlalchemy.engine import URL

#: Options of libpq, for this end. Seconds; `tcp_user_timeout` in milliseconds. Unix sockets need
#: none of them and ignore them.
_OPTIONS: dict[str, Any] = {
    "application_name": "newsletter",
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 15_000,
}
#: The same for the server's end, in its settings (milliseconds where they have no unit).
_SERVER = (
    "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 2; "
    "SET tcp_user_timeout = 15000; SET idle_in_transaction_session_timeout = '60s'"
)


def connect_options(url: URL) -> dict[str, Any]:
    """What a connection is opened with; the address itself overrides any of it."""
    return {name: value for name, value in _OPTIONS.items() if name not in url.query}


def set_up(connection: psycopg.Connection[Any]) -> None:
    """Have the server watch over a new connection as well."""
    connection.autocommit = True
    connection.execute(_SERVER)
    connection.autocommit = False


async def open_session(engine: Engine, name: str) -> psycopg.AsyncConnection[Any]:
    """A session beside the pool, in autocommit, under a name that `pg_stat_activity` shows.

    Raises `psycopg.Error`.
    """
    arguments, options = engine.dialect.create_connect_args(engine.url)
    options = {**connect_options(engine.url), **options, "application_name": name}
    connection: psycopg.AsyncConnection[Any] = await psycopg.AsyncConnection.connect(
        *arguments, autocommit=True, **options
    )
    try:
        await connection.execute(_SERVER)
    except BaseException:
        await connection.close()
        raise
    return connection
