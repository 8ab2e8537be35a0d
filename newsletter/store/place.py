"""Where a database lives, so that a copy of it can be told from the database itself.

A place is a small JSON object; `{}` says that it cannot be known. Nothing in it changes when the
machine or the database server is started again.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.exc import NotSupportedError, ProgrammingError

Place = Mapping[str, str]

# The database's oid is its own as long as it lives; the system identifier is the cluster's, and a
# physical replica's too. A clone of the cluster's files, not promoted, has all of it: it cannot be
# told by its place. The timeline is a new one after each fail-over or recovery to a point in
# time: https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-CONTROLDATA
_CLUSTER = text(
    "SELECT (SELECT system_identifier FROM pg_control_system())::text AS system,"
    " substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) AS timeline"
)
_DATABASE = text("SELECT oid::text FROM pg_database WHERE datname = current_database()")


def locate(connection: Connection) -> Place:
    """The place of the connection's database."""
    if connection.dialect.name == "postgresql":
        database = connection.execute(_DATABASE).scalar_one()
        try:
            with connection.begin_nested():
                system, timeline = connection.execute(_CLUSTER).one()
        except (ProgrammingError, NotSupportedError):  # a service that does not let us, or a cousin
            system = timeline = ""
        return {
            "kind": "postgresql",
            "system": system,
            "database": database,
            "timeline": timeline,
        }
    try:
        path = os.path.realpath(connection.engine.url.database or "", strict=True)
        file = os.stat(path)
    except OSError:
        return {}
    if not stat.S_ISREG(file.st_mode):
        return {}
    # Not the device's number: it may be another one after a restart.
    return {"kind": "sqlite", "machine": _machine(), "path": path, "inode": str(file.st_ino)}


def moved(known: Place, now: Place) -> str:
    """How a database's place differs from the one that it knows; '' if it is the same database."""
    if not known or not now:
        return ""
    if known["kind"] != now["kind"]:
        return f"it was a {known['kind']} database and is a {now['kind']} one"
    if now["kind"] == "postgresql":
        if known["system"] and now["system"] and known["system"] != now["system"]:
            return "it is in another PostgreSQL cluster"
        if known["database"] != now["database"]:
            return "it is another database of the cluster"
        return ""
    if known["machine"] != now["machine"]:
        return f"its file is on another machine, as {now['path']}"
    if known["inode"] != now["inode"] or _stands_beside(known["path"], now["path"]):
        was = "" if known["path"] == now["path"] else f", and was {known['path']}"
        return f"its file is another one: {now['path']}{was}"
    return ""


def same_path(known: Place, now: Place) -> bool:
    """Whether both are files of one path on one machine, so that one has replaced the other."""
    named = ("kind", "machine", "path")
    return now.get("kind") == "sqlite" and all(known.get(name) == now[name] for name in named)


def other_timeline(known: Place, now: Place) -> bool:
    """Whether the cluster was failed over, or recovered to a point in time, since it was met."""
    was, is_now = known.get("timeline"), now.get("timeline")
    return bool(was and is_now and was != is_now)


def _stands_beside(known: str, now: str) -> bool:
    """Whether the file at the known path is there still, and is another one than ours."""
    try:
        return known != now and not Path(known).samefile(now)
    except OSError:  # it was renamed, not copied
        return False


@cache
def _machine() -> str:
    """This machine, whatever it is called; '' where it has no identity.

    Hashed, as machine-id(5) asks of whoever gives it away.
    """
    try:
        identity = Path("/etc/machine-id").read_bytes().strip()
    except OSError:
        return ""
    return hashlib.sha256(b"newsletter ledger\0" + identity).hexdigest()[:16] if identity else ""
