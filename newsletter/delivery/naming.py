"""Finds the send that a person means: by its public name, or by its issue's slug."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, bindparam, select

from newsletter.errors import NotFound
from newsletter.store.schema import sends

_BY_NAME = select(sends).where(sends.c.send == bindparam("b_name"))
_LATEST_OF_ISSUE = (
    select(sends).where(sends.c.issue == bindparam("b_issue")).order_by(sends.c.id.desc()).limit(1)
)


def find_send(connection: Connection, name: str) -> Row[Any]:
    """The row of `sends` of that name, or the latest of that issue. Raises `NotFound`."""
    exact = connection.execute(_BY_NAME, {"b_name": name}).one_or_none()
    if exact is not None:
        return exact
    latest = connection.execute(_LATEST_OF_ISSUE, {"b_issue": name}).one_or_none()
    if latest is None:
        raise NotFound(
            f"no send {name!r}", hint="`newsletter status` lists the sends; an issue's slug works."
        )
    return latest
