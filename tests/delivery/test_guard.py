"""A database that is behind what was sent, or a copy, sends nothing; and no false alarms."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text, update

from newsletter.delivery import DeliveryRuntime, resume
from newsletter.delivery.mark import FileMark, MemoryMark, Position
from newsletter.errors import Unreachable
from newsletter.providers.base import Found, Outcome, Prepared, may_leave
from newsletter.providers.transport import HttpxTransport, NeverLeft, Response
from newsletter.store import Store
from newsletter.store.place import other_timeline
from newsletter.store.schema import batches, ledger, outbox, sends
from newsletter.workspace import Workspace
from support.ledger import RecordingProvider, World, everybody, make_world
from support.site import ROOT
from support.snapshots import Database

PROBES = 3  # of the send as it is here: its open batches
Made = Callable[..., World]


@pytest.fixture
def world(workspace: Workspace, store: Store, clock: Any) -> World:
    return make_world(workspace, store, clock, people=20)


@pytest.fixture
def database(world: World, tmp_path: Path) -> Iterator[Database]:
    yield Database(world.store, tmp_path)
    world.store.close()


def mark_of(world: World) -> FileMark:
    return FileMark(world.workspace.var / "ledger.mark")


def run(world: World, *, requests: int | None = None, **changes: Any) -> str:
    """Send until done, or until so many requests were made; returns why nothing may be sent."""
    stop = asyncio.Event()
    began = len(world.provider.requests)

    def during(_prepared: Prepared) -> None:
        if requests is not None and len(world.provider.requests) - began >= requests:
            stop.set()

    world.provider.during = during
    values = {"mark": mark_of(world), "stop": stop, **changes}
    return world.run(**values).quarantine


def one_at_a_time(world: World) -> None:
    world.provider.settings = world.provider.settings.model_copy(update={"in_flight": 1})


def cause(store: Store) -> str:
    with store.read() as connection:
        return str(connection.execute(select(ledger.c.cause)).scalar_one())


def notices(store: Store) -> int:
    with store.read() as connection:
        query = select(func.count()).where(outbox.c.cause.startswith("ledger:"))
        return int(connection.execute(query).scalar_one())


# --- alarms ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_place", [True, False])
def test_an_older_state_put_back_in_mid_send_sends_nothing(
    world: World, database: Database, in_place: bool
) -> None:
    one_at_a_time(world)
    assert run(world, requests=2) == ""
    dump = database.dump(world.store)
    assert run(world, requests=2) == ""
    received = world.provider.received
    world.store = database.put_back(world.store, dump, in_place=in_place)
    assert "at least 2 requests are missing" in run(world)
    assert "missing" in run(world)
    assert world.provider.received == received
    assert cause(world.store) == "behind"
    assert notices(world.store) == 1
    assert world.status()["reason"].startswith("quarantined: the database was restored")


def test_a_copy_started_beside_the_original_sends_nothing(world: World, database: Database) -> None:
    """The workspace was copied too, its mark with it."""
    one_at_a_time(world)
    assert run(world, requests=2) == ""
    copy = World(world.workspace, database.beside(world.store), world.clock, world.provider)
    mark = FileMark(database.folder / "ledger.mark")
    shutil.copy(mark_of(world).path, mark.path)
    received = world.provider.received
    assert "a copy, or was moved" in run(copy, mark=mark)
    assert cause(copy.store) == "moved"
    assert world.provider.received == received
    assert run(world) == ""  # the original goes on
    assert world.provider.received == everybody(20)
    assert world.verify() == []
    database.drop(copy.store)


def test_a_copy_elsewhere_without_a_mark_sends_nothing(world: World, database: Database) -> None:
    """It was restored before anything was sent, and has been sent meanwhile."""
    world.clock.advance(hours=-1)
    assert run(world) == ""
    copy = World(world.workspace, database.beside(world.store), world.clock, world.provider)
    world.clock.advance(hours=1)
    assert run(world) == ""
    assert "a copy, or was moved" in run(copy, mark=FileMark(database.folder / "ledger.mark"))
    assert world.provider.received == everybody(20)
    database.drop(copy.store)


def test_another_database_under_the_same_workspace_sends_nothing(
    world: World, clock: Any, tmp_path: Path
) -> None:
    assert run(world) == ""
    (tmp_path / "other").mkdir()
    from newsletter.store import open_store

    store = open_store(f"sqlite:///{tmp_path / 'other' / 'new.db'}", tmp_path)
    other = make_world(world.workspace, store, clock, people=3)
    assert "another database" in run(other)
    assert other.provider.kept == []
    store.close()


def test_on_sqlite_a_mark_that_is_gone_stops_the_sending(
    workspace: Workspace, sqlite_store: Store, clock: Any
) -> None:
    world = make_world(workspace, sqlite_store, clock, people=20)
    one_at_a_time(world)
    assert run(world, requests=2) == ""
    mark_of(world).path.unlink()
    assert "ledger.mark is gone" in run(world)
    assert len(world.provider.requests) == 2


def test_a_database_put_back_under_a_running_worker_makes_no_attempt(
    world: World, database: Database
) -> None:
    """Not even before the next look at the house: the count itself must pass the mark."""
    one_at_a_time(world)
    mark = MemoryMark()

    def later(prepared: Prepared) -> None:
        if len(world.provider.requests) == 2:  # as if a third had been counted by then
            assert mark.position is not None
            mark.note(Position(mark.position.database, mark.position.sequence + 1))

    world.provider.during = later
    report = world.run(mark=mark, policy=replace(world.policy, poll=timedelta(hours=1)))
    assert len(world.provider.requests) == 2
    assert cause(world.store) == "behind"
    assert report.sent == []


def test_what_the_provider_was_told_shows_a_machine_put_back_as_a_whole(
    world: World, database: Database
) -> None:
    one_at_a_time(world)
    assert run(world, requests=2) == ""
    dump, mark = database.dump(world.store), mark_of(world).path.read_bytes()
    assert run(world, requests=2) == ""
    received = world.provider.received
    world.store = database.put_back(world.store, dump)
    if not database.is_sqlite:  # the cluster was put back too: the place is the same
        with world.store.begin() as connection:
            connection.execute(update(ledger).values(place={}))
    mark_of(world).path.write_bytes(mark)
    world.clock.advance(minutes=5)
    assert "knows nothing of" in run(world)
    assert cause(world.store) == "told"
    assert world.provider.received == received


def put_back_as_a_whole(world: World, database: Database) -> None:
    """The machine is an older one, mark and all, when two more requests had been made."""
    one_at_a_time(world)
    assert run(world, requests=2) == ""
    dump, mark = database.dump(world.store), mark_of(world).path.read_bytes()
    assert run(world, requests=2) == ""
    world.store = database.put_back(world.store, dump)
    if not database.is_sqlite:  # the cluster was put back too: the place is the same
        with world.store.begin() as connection:
            connection.execute(update(ledger).values(place={}))
    mark_of(world).path.write_bytes(mark)
    world.clock.advance(minutes=5)


def test_a_provider_that_does_not_answer_at_first_is_asked_again_before_anything_leaves(
    world: World, database: Database
) -> None:
    """The network is not there yet when a machine that was put back starts."""
    put_back_as_a_whole(world, database)
    received = world.provider.received
    world.provider.failing_lookups = 2 * PROBES
    asked = len(world.provider.lookups)
    assert "knows nothing of" in run(world)
    assert len(world.provider.lookups) == asked + 3 * PROBES
    assert world.provider.received == received


def test_a_send_of_which_a_provider_never_answers_waits_for_a_person_and_then_goes_on(
    world: World, database: Database
) -> None:
    one_at_a_time(world)
    assert run(world, requests=2) == ""
    world.provider.failing_lookups = 10**6
    began, asked = world.clock.now(), len(world.provider.lookups)
    assert run(world) == ""
    assert world.status()["state"] == "held"
    assert "main cannot be asked whether" in world.status()["reason"]
    assert timedelta(minutes=30) < world.clock.now() - began < timedelta(minutes=40)
    assert len(world.provider.lookups) - asked < 20 * PROBES  # it did not spin
    assert len(world.provider.requests) == 2
    with world.store.begin() as connection:
        resume(connection, "milia.1", world.clock.now())
    assert run(world) == ""
    assert world.provider.received == everybody(20)


# --- no false alarms ------------------------------------------------------------------------------


def test_a_process_killed_between_the_commit_and_the_mark(world: World) -> None:
    one_at_a_time(world)

    class Killed(FileMark):
        def note(self, position: Position) -> None:
            if position.sequence == 2:
                raise KeyboardInterrupt
            super().note(position)

    with pytest.raises(KeyboardInterrupt):
        run(world, mark=Killed(mark_of(world).path))
    world.clock.advance(minutes=10)
    assert run(world) == ""
    assert world.provider.received == everybody(20)


def test_a_second_machine_joins_on_postgresql(
    workspace: Workspace, postgres_url: str, tmp_path: Path, clock: Any
) -> None:
    from newsletter.store import open_store

    store = open_store(postgres_url, tmp_path)
    world = make_world(workspace, store, clock, people=20)
    one_at_a_time(world)
    assert run(world, requests=2) == ""
    elsewhere = FileMark(tmp_path / "elsewhere.mark")
    assert run(world, mark=elsewhere) == ""
    assert world.provider.received == everybody(20)
    assert elsewhere.read() is not None
    store.close()


def test_a_database_of_the_first_version_goes_on_after_its_upgrade(world: World) -> None:
    one_at_a_time(world)
    assert run(world, requests=2) == ""
    mark_of(world).path.unlink()
    with world.store.begin() as connection:  # as the migration leaves it
        connection.execute(update(ledger).values(sequence=0, place={}))
    assert run(world) == ""
    assert world.provider.received == everybody(20)


def test_put_back_though_nothing_was_sent_since(
    workspace: Workspace, sqlite_store: Store, clock: Any, tmp_path: Path
) -> None:
    world = make_world(workspace, sqlite_store, clock, people=20)
    one_at_a_time(world)
    assert run(world, requests=2) == ""
    database = Database(world.store, tmp_path)
    for in_place in (True, False):
        dump = database.dump(world.store)
        world.store = database.put_back(world.store, dump, in_place=in_place)
        assert run(world, requests=1) == ""
    assert run(world) == ""
    assert world.provider.received == everybody(20)
    world.store.close()


def test_vacuumed_and_renamed_it_is_the_same_database(
    workspace: Workspace, sqlite_store: Store, clock: Any, tmp_path: Path
) -> None:
    world = make_world(workspace, sqlite_store, clock, people=20)
    one_at_a_time(world)
    assert run(world, requests=2) == ""
    with sqlite_store.engine.connect() as connection:
        connection.connection.driver_connection.execute("VACUUM")  # type: ignore[union-attr]
    world.store = Database(world.store, tmp_path).moved(world.store, tmp_path / "renamed.db")
    assert run(world) == ""
    assert world.provider.received == everybody(20)
    world.store.close()


def test_failed_over_with_everything_in_it_postgresql_goes_on(
    workspace: Workspace, postgres_url: str, tmp_path: Path, clock: Any
) -> None:
    from newsletter.store import open_store

    store = open_store(postgres_url, tmp_path)
    world = make_world(workspace, store, clock, people=20)
    one_at_a_time(world)
    assert run(world, requests=2) == ""
    with store.begin() as connection:
        place = connection.execute(select(ledger.c.place)).scalar_one()
        assert not other_timeline(place, place)
        older = {**place, "timeline": "0000002A"}
        assert other_timeline(older, place)
        connection.execute(update(ledger).values(place=older))
    assert run(world, requests=1) == ""
    with store.begin() as connection:
        connection.execute(update(ledger).values(place=older))
    # Nobody who has a mark has seen it since: it may be a copy that was recovered to a point.
    assert "failed over or recovered" in run(world, mark=FileMark(tmp_path / "new.mark"))
    store.close()


def test_a_user_who_may_not_ask_for_the_cluster_still_has_a_place(
    postgres_url: str, tmp_path: Path
) -> None:
    from newsletter.store import open_store
    from newsletter.store.place import locate, moved

    store = open_store(postgres_url, tmp_path)
    with store.begin() as connection:
        whole = locate(connection)
    # Functions belong to a database, so that nobody else's test sees it.
    revoke = "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC"
    with store.begin() as connection:
        connection.execute(text(revoke))
        connection.execute(text("SET LOCAL ROLE pg_read_all_data"))
        partly = locate(connection)
        connection.execute(text("SELECT 1"))  # the transaction goes on
    assert whole["system"]
    assert partly == {**whole, "system": "", "timeline": ""}
    assert moved(whole, partly) == ""
    assert not other_timeline(whole, partly)
    store.close()


def test_what_another_worker_does_meanwhile_is_no_evidence(world: World) -> None:
    """The other's attempt is committed after the question was made, and before it was answered."""
    one_at_a_time(world)
    assert run(world, requests=2) == ""
    asked = []

    class Busy(RecordingProvider):
        async def find(self, key: str, *, since: Any) -> Found:
            asked.append(key)
            with world.store.begin() as connection:
                connection.execute(update(batches).where(batches.c.state == "open").values(tries=1))
            return Found({"reader9@example.com": "1"}, conclusive=True)

    provider = world.provider
    busy = Busy(provider.settings, provider.capabilities, provider.clock)
    with world.store.read() as connection:
        rest = connection.execute(select(sends.c.id)).scalar_one()
    runtime: DeliveryRuntime = world.runtime(
        open_provider=lambda _name: busy, mark=mark_of(world), began=world.clock.now()
    )
    from newsletter.delivery import guard

    questions = guard.Questions(runtime, lambda _name: busy)
    assert asyncio.run(questions.ask())
    assert asked
    assert questions.allow(rest)
    assert cause(world.store) == ""


# --- the mark, and the last moment ----------------------------------------------------------------


def test_the_mark_never_goes_back_and_survives_a_killed_creation(tmp_path: Path) -> None:
    mark = FileMark(tmp_path / "var" / "ledger.mark")
    assert mark.read() is None
    mark.note(Position("a" * 32, 7))
    mark.note(Position("a" * 32, 5))
    assert mark.read() == Position("a" * 32, 7)
    mark.note(Position("b" * 32, 1))
    assert mark.read() == Position("b" * 32, 1)
    os.truncate(mark.path, 0)
    assert mark.read() is None


def test_marks_of_many_processes_at_once(tmp_path: Path) -> None:
    mark = FileMark(tmp_path / "ledger.mark")
    children = []
    for child in range(4):
        pid = os.fork()
        if not pid:
            for number in range(200):
                mark.note(Position("a" * 32, number * 4 + child))
                seen = mark.read()
                if seen is None or seen.sequence < number * 4 + child:
                    os._exit(1)
            os._exit(0)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0, 0]
    assert mark.read() == Position("a" * 32, 799)


def test_a_damaged_mark_says_what_its_removal_leads_to(tmp_path: Path) -> None:
    mark = FileMark(tmp_path / "ledger.mark")
    mark.path.write_text("{", encoding="ascii")
    with pytest.raises(Unreachable) as caught:
        mark.read()
    assert "over SQLite nothing is sent then" in caught.value.hint


def test_a_process_that_is_stopped_with_the_mark_in_its_hands_stops_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("newsletter.delivery.mark._LOCK_WITHIN", 0.2)
    mark = FileMark(tmp_path / "ledger.mark")
    mark.note(Position("a" * 32, 1))
    with mark.path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for use in (mark.read, lambda: mark.note(Position("a" * 32, 2))):
            with pytest.raises(Unreachable, match="another process has kept it") as caught:
                use()
            assert "which process" in caught.value.hint
    mark.note(Position("a" * 32, 2))
    assert mark.read() == Position("a" * 32, 2)


def test_who_slept_past_the_lease_right_before_the_request_lets_nothing_leave(
    workspace: Workspace, sqlite_store: Store, clock: Any
) -> None:
    world = make_world(workspace, sqlite_store, clock, people=4)
    said = []

    class Sleepy(RecordingProvider):
        async def send(self, prepared: Prepared) -> Outcome:
            said.append(may_leave.get()())
            self.clock.advance(minutes=10)
            said.append(may_leave.get()())
            return await super().send(prepared)

    provider = world.provider
    world.provider = Sleepy(provider.settings, provider.capabilities, clock)
    run(world)
    assert said == [True, False]


def test_a_request_that_may_not_leave_any_more_does_not() -> None:
    arrived = bytearray()

    async def go() -> tuple[Any, Any]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while chunk := await reader.read(65536):
                arrived.extend(chunk)
                if arrived.endswith(b"letter"):
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        transport = HttpxTransport()
        ask: dict[str, Any] = {"headers": {}, "body": b"letter", "timeout": timedelta(seconds=20)}
        token = may_leave.set(lambda: False)
        refused = await transport.request("POST", url, **ask)
        await asyncio.sleep(0.05)
        before = bytes(arrived)
        may_leave.reset(token)
        made = await transport.request("POST", url, **ask)
        await transport.close()
        server.close()
        assert b"letter" not in before
        return refused, made

    refused, made = asyncio.run(go())
    assert isinstance(refused, NeverLeft)
    assert isinstance(made, Response)


# --- the promise ----------------------------------------------------------------------------------


def test_every_test_that_the_promise_names_is_there() -> None:
    page = (ROOT / "docs" / "delivery.md").read_text(encoding="utf-8")
    promise = page[page.index("### What may go wrong") : page.index("## Restore guard")]
    named = set(re.findall(r"`(test_\w+)`", promise))
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))
    }
    assert len(named) > 20
    assert named <= there, named - there
