"""Finds the send that a person means: by its public name, or by its issue's slug."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select

from newsletter.errors import NotFound
from newsletter.store.schema import sends


def find_send(connection: Connection, name: str) -> Row[Any]:
    """The row of `sends` of that name, or the latest of that issue. Raises `NotFound`."""
    exact = connection.execute(select(sends).where(sends.c.send == name)).one_or_none()
    if exact is not None:
        return exact
    of_issue = select(sends).where(sends.c.issue == name).order_by(sends.c.id.desc()).limit(1)
    latest = connection.execute(of_issue).one_or_none()
    if latest is None:
        raise NotFound(
            f"no send {name!r}", hint="`newsletter status` lists the sends; an issue's slug works."
        )
    return latest
