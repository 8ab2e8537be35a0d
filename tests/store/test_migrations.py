"""The migrations make the schema that the code knows, whoever opens the database first."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect, text

from newsletter import store as store_package
from newsletter.delivery import verify
from newsletter.errors import Unreachable
from newsletter.store import Store, open_store
from newsletter.store.database import HEAD, schema_is_current
from newsletter.store.schema import metadata
from newsletter.workspace import Workspace

FOLDER = Path(store_package.__file__).parent


def described(connection: Connection) -> dict[str, Any]:
    """Everything that the database says of its tables, checks and partial indexes among it."""
    inspector = inspect(connection)

    def by_name(items: list[Any]) -> list[str]:
        return sorted(json.dumps(item, default=str, sort_keys=True) for item in items)

    return {
        name: {
            "columns": [
                (c["name"], str(c["type"]), c["nullable"], c["default"])
                for c in inspector.get_columns(name)
            ],
            "key": inspector.get_pk_constraint(name),
            "checks": by_name(inspector.get_check_constraints(name)),
            "foreign": by_name(inspector.get_foreign_keys(name)),
            "unique": by_name(inspector.get_unique_constraints(name)),
            "indexes": by_name(inspector.get_indexes(name)),
        }
        for name in inspector.get_table_names()
        if name != "alembic_version"
    }


def test_the_migrated_schema_is_the_one_of_the_code(store: Store) -> None:
    with store.begin() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        migrated = described(connection)
        tables = inspect(connection).get_table_names()
        connection.execute(text("DROP TABLE alembic_version"))
        metadata.drop_all(connection)
        metadata.create_all(connection)
        assert migrated == described(connection)
    assert set(tables) == {*metadata.tables, "alembic_version"}


def test_rows_number_themselves_and_no_number_is_given_twice(store: Store) -> None:
    """On SQLite a deleted subscriber's number would else go to the next one, with old links."""
    insert = text(
        "INSERT INTO subscribers (email, email_key, state, created_at, updated_at)"
        " VALUES ('a@b.example', 'a@b.example', 'active', 0, 0) RETURNING id"
    )
    with store.begin() as connection:
        first = connection.execute(insert).scalar_one()
        connection.execute(text("DELETE FROM subscribers"))
        assert connection.execute(insert).scalar_one() > first


def test_the_newest_migration_is_the_one_that_the_code_expects() -> None:
    config = Config()
    config.set_main_option("script_location", str(FOLDER / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_a_ledger_of_the_first_version_keeps_every_row(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "var").mkdir(exist_ok=True)
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    config = Config()
    config.set_main_option("script_location", str(FOLDER / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for statement in LEDGER_OF_0001:
            connection.execute(text(statement))
        before = rows_of(connection)
    engine.dispose()
    store = open_store(database_url, tmp_path)
    with store.begin() as connection:
        assert schema_is_current(store)
        after = rows_of(connection)
        for table, rows in before.items():
            assert len(rows) == len(after[table]) > 0
            for old, new in zip(rows, after[table], strict=True):
                assert {name: new[name] for name in old} == old
        assert [part["counts"] for part in after["batches"]] == [None, None]
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    report = verify(store, "milia.1")
    assert (report["violations"], report["recipients"]) == ([], 3)
    store.close()


def rows_of(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    tables = ("subscribers", "sends", "deliveries", "batches", "attempts", "events")
    return {
        table: [
            dict(row)
            for row in connection.execute(text(f"SELECT * FROM {table} ORDER BY 1, 2")).mappings()
        ]
        for table in tables
    }


#: Three people, of whom one was accepted, one refused, and one waits.
LEDGER_OF_0001 = (
    *(
        "INSERT INTO subscribers (email, email_key, state, created_at, updated_at)"
        f" VALUES ('{name}@b.example', '{name}@b.example', 'active', 1, 2)"
        for name in ("ada", "bea", "cleo")
    ),
    "INSERT INTO frozen_issues VALUES ('f', 'milia', 'x', 's', 3)",
    "INSERT INTO sends (send, issue, frozen, segment, provider, state, at, created_at, started_at,"
    " filled_at) VALUES ('milia.1', 'milia', 'f', 'all', 'main', 'paused', 4, 3, 5, 5)",
    *(
        "INSERT INTO deliveries (send_id, position, subscriber_id, email, first_name, fields,"
        " state, reason, attempt, provider_message_id, updated_at) VALUES"
        f" (1, {place}, {place}, '{place}@b.example', 'Ada', '{{\"city\":\"York\"}}', {rest}, 6)"
        for place, rest in (
            (1, "'accepted', '', 'a1', 'm1'"),
            (2, "'rejected', 'inactive', 'a1', NULL"),
            (3, "'pending', '', NULL, NULL"),
        )
    ),
    "INSERT INTO batches (send_id, number, lo, hi, state, tries) VALUES (1, 1, 1, 2, 'done', 1)",
    "INSERT INTO batches (send_id, number, lo, hi, state) VALUES (1, 2, 3, 3, 'open')",
    "INSERT INTO attempts (id, send_id, batch, number, provider, positions, not_accepted,"
    " body_sha256, state, started_at, finished_at) VALUES"
    " ('a1', 1, 1, 1, 'main', '[[1,2]]', '[[2,2]]', 'd', 'answered', 6, 7)",
    "INSERT INTO events (provider, provider_event_id, type, recipient, machine, url, at,"
    " received_at, event) VALUES ('main', 'e1', 'delivered', 'x', false, '', 8, 9, '{}')",
)


@pytest.mark.slow
def test_processes_that_open_a_fresh_database_at_once_all_find_it_ready(
    database_url: str, tmp_path: Path
) -> None:
    script = (
        "import sys; from pathlib import Path; from newsletter.store import open_store;"
        "from newsletter.store.database import schema_is_current;"
        "sys.stdin.readline();"
        "print(schema_is_current(open_store(sys.argv[1], Path(sys.argv[2]))))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, database_url, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:  # all have imported by the time the last one is told to go on
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60)[0] for process in processes] == ["True\n"] * 4


def test_a_database_of_a_newer_version_is_left_alone(database_url: str, tmp_path: Path) -> None:
    first = open_store(database_url, tmp_path)
    with first.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    first.close()
    with pytest.raises(Unreachable, match=r"not one that this version can read.*9999"):
        open_store(database_url, tmp_path)


def test_a_database_of_another_program_is_left_alone(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "var").mkdir(exist_ok=True)
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE subscribers (name TEXT)"))
    with pytest.raises(Unreachable, match="another program"):
        open_store(database_url, tmp_path)
    with engine.begin() as connection:
        assert inspect(connection).get_table_names() == ["subscribers"]
    engine.dispose()


def test_the_command_says_so_with_exit_5(cli: Callable[..., Any], workspace: Workspace) -> None:
    assert cli("audience", "segments", cwd=workspace).code == 0
    store = open_store(workspace.settings.database.url, workspace.root)
    with store.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    store.close()
    ran = cli("audience", "segments", "--json", cwd=workspace)
    assert (ran.code, ran.out) == (5, "")
    assert "A newer newsletter has changed it" in ran.err
