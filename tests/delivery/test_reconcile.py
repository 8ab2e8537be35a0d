"""After a restore the ledger catches up with its providers: nobody twice, nobody missing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from newsletter.clock import SystemClock
from newsletter.delivery import Reconciled, cancel, quarantine, reconcile, resolve, resume
from newsletter.delivery.mark import FileMark
from newsletter.providers import open_provider, provider_named
from newsletter.providers.base import Found, FoundSend, Outcome, Prepared, SentMessage
from newsletter.store import Store, open_store
from newsletter.store.schema import attempts, batches, deliveries, ledger, sends
from newsletter.workspace import Workspace
from support.crashing import QUICK
from support.ledger import (
    RecordingProvider,
    World,
    add_people,
    everybody,
    lost_after,
    make_world,
    schedule_send,
)
from support.mailboxes import TOKEN, running_mailbox
from support.postmark_server import PostmarkServer
from support.site import SETTINGS
from support.snapshots import Database

PEOPLE = 40
BATCH = 5
Received = Callable[[], Counter[str]]


@dataclass
class Real:
    """A workspace whose provider is a real server, and who that server says has got it."""

    world: World
    database: Database
    received: Received
    set_faults: Callable[..., Any]

    def run(self, *, requests: int | None = None) -> str:
        stop = asyncio.Event()
        mark = FileMark(self.world.workspace.var / "ledger.mark")
        opened = self.opener(stop, requests)
        report = self.world.run(mark=mark, stop=stop, open_provider=opened, policy=QUICK)
        return report.quarantine

    def opener(self, stop: asyncio.Event, requests: int | None) -> Callable[[str], Any]:
        """The real provider, in small batches, that sets `stop` after some requests."""
        world = self.world

        def opened(name: str) -> Any:
            settings = provider_named(world.workspace, name)
            provider: Any = open_provider(world.workspace, settings, world.clock)
            provider.capabilities = replace(provider.capabilities, batch_size=BATCH)
            send, left = provider.send, [requests]

            async def counted(prepared: Prepared) -> Outcome:
                if left[0] is not None:
                    left[0] -= 1
                    if left[0] <= 0:
                        stop.set()
                outcome: Outcome = await send(prepared)
                return outcome

            provider.send = counted
            return provider

        return opened

    def reconcile(self, **options: Any) -> Reconciled:
        world = self.world
        mark = FileMark(world.workspace.var / "ledger.mark")
        opened = self.opener(asyncio.Event(), None)
        runtime = world.runtime(mark=mark, open_provider=opened)
        return asyncio.run(reconcile(runtime, **options))

    def put_back(self, dump: str) -> None:
        self.world.store = self.database.put_back(self.world.store, dump)


def kept_by(server: PostmarkServer) -> Counter[str]:
    """How many messages the server itself has kept for each address."""
    query = "SELECT recipient, count(*) FROM messages GROUP BY recipient"
    with server._lock:
        return Counter(dict(server._db.execute(query)))


ENTRY = """
timeout = "1s"
lookup_lag = "0s"
in_flight = 1
"""


def settings_for(kind: str, url: str, key: str) -> str:
    entry = SETTINGS.replace('kind = "mailbox"', f'kind = "{kind}"')
    entry = entry.replace("http://127.0.0.1:8025", url).replace("local-key", key)
    return entry.replace("local-hook", "user:password" if kind == "postmark" else "hook") + ENTRY


@pytest.fixture(params=["mailbox", "postmark"])
def real(
    request: pytest.FixtureRequest,
    make_workspace: Callable[..., Workspace],
    store: Store,
    tmp_path: Path,
) -> Iterator[Real]:
    with ExitStack() as stack:
        if request.param == "mailbox":
            mailbox = stack.enter_context(running_mailbox(tmp_path / "mailbox"))
            workspace = make_workspace(settings=settings_for("mailbox", mailbox.url, TOKEN))
            received: Received = lambda: mailbox.received("example.com")  # noqa: E731
            set_faults: Any = mailbox.set_faults
        else:
            server = stack.enter_context(PostmarkServer())
            workspace = make_workspace(settings=settings_for("postmark", server.url, server.token))
            received = lambda: kept_by(server)  # noqa: E731
            set_faults = lambda **faults: server.faults.change(faults)  # noqa: E731
        add_people(store, PEOPLE)
        world = World(workspace, store, SystemClock(), None)
        yield Real(world, Database(store, tmp_path), received, set_faults)
        world.store.close()


def check_everybody(real: Real) -> None:
    assert real.received() == everybody(PEOPLE)
    assert real.world.verify() == []
    assert real.world.status()["state"] == "sent"


@pytest.mark.slow
def test_restored_in_mid_send_nobody_gets_it_twice_and_nobody_is_missed(real: Real) -> None:
    schedule_send(real.world.store, at=datetime.now(UTC))
    assert real.run(requests=2) == ""
    dump = real.database.dump(real.world.store)
    assert real.run(requests=3) == ""
    real.put_back(dump)
    assert "missing" in real.run()
    assert sum(real.received().values()) == 5 * BATCH
    done = real.reconcile()
    assert done.released, done.reason
    assert [vars_of(each) for each in done.sends] == [("milia.1", 5 * BATCH, 3 * BATCH, 0)]
    assert real.world.verify() == []
    assert not real.reconcile().quarantined
    assert real.run() == ""
    check_everybody(real)


@pytest.mark.slow
def test_who_left_after_the_dump_and_had_got_it_is_found_as_well(real: Real) -> None:
    schedule_send(real.world.store, at=datetime.now(UTC))
    assert real.run(requests=2) == ""
    dump = real.database.dump(real.world.store)
    assert real.run(requests=3) == ""
    real.put_back(dump)
    leaving = f"reader{3 * BATCH}@example.com"
    assert real.received()[leaving] == 1
    real.world.leave(leaving)
    assert "missing" in real.run()
    done = real.reconcile()
    assert done.released, done.reason
    assert [vars_of(each) for each in done.sends] == [("milia.1", 5 * BATCH, 3 * BATCH, 0)]
    assert real.run() == ""
    check_everybody(real)


def vars_of(each: Any) -> tuple[str, int, int, int]:
    return each.send, each.found, each.unsent, each.in_doubt


@pytest.mark.slow
def test_restored_from_before_the_send_began_it_is_filled_and_matched_by_address(
    real: Real,
) -> None:
    """Somebody has left by then, so that nobody's position is what it was."""
    schedule_send(real.world.store, at=datetime.now(UTC))
    dump = real.database.dump(real.world.store)
    assert real.run(requests=3) == ""
    got = real.received()
    real.put_back(dump)
    real.world.leave("reader1@example.com")
    add_people(real.world.store, 1, local="new")
    assert real.run() != ""
    done = real.reconcile()
    assert done.released, done.reason
    # reader1 has got it, and has no row any more
    assert [vars_of(each) for each in done.sends] == [("milia.1", 14, PEOPLE - 14, 0)]
    assert real.run() == ""
    assert real.received() == everybody(PEOPLE) + Counter(["new1@example.com"])
    assert got <= real.received()
    assert real.world.verify() == []


@pytest.mark.parametrize("real", ["mailbox"], indirect=True)
def test_a_send_that_was_lost_as_a_whole_is_held_when_it_is_scheduled_again(real: Real) -> None:
    world = real.world
    schedule_send(world.store, at=datetime.now(UTC))
    name = "milia.1"
    assert real.run(requests=1) == ""
    with world.store.begin() as connection:  # the dump is from before it was scheduled
        send_id = connection.execute(select(sends.c.id)).scalar_one()
    dump = real.database.dump(world.store)
    assert real.run(requests=2) == ""
    real.put_back(dump)
    forget_send(world.store, send_id)
    assert real.run() != ""
    assert real.reconcile().released
    schedule_send(world.store, at=datetime.now(UTC))
    real.set_faults(lookup_error=1.0)
    assert real.run() == ""
    assert world.status(name)["state"] == "held"
    assert "cannot be asked whether" in world.status(name)["reason"]
    real.set_faults()
    with world.store.begin() as connection:  # scheduled once more
        connection.execute(update(sends).values(state="scheduled", reason=""))
    assert real.run() == ""
    assert world.status(name)["state"] == "held"
    assert "messages of a send of this name" in world.status(name)["reason"]
    assert sum(real.received().values()) == 3 * BATCH


def forget_send(store: Store, send_id: int) -> None:
    with store.begin() as connection:
        for table in (attempts, deliveries, batches):
            connection.execute(table.delete().where(table.c.send_id == send_id))
        connection.execute(sends.delete().where(sends.c.id == send_id))


@pytest.mark.parametrize("real", ["mailbox"], indirect=True)
def test_a_provider_that_does_not_answer_leaves_it_quarantined_until_it_does(real: Real) -> None:
    schedule_send(real.world.store, at=datetime.now(UTC))
    assert real.run(requests=1) == ""
    dump = real.database.dump(real.world.store)
    assert real.run(requests=2) == ""
    real.put_back(dump)
    assert real.run() != ""
    real.set_faults(lookup_error=1.0)
    done = real.reconcile()
    assert (done.quarantined, done.released) == (True, False)
    assert "cannot be asked now" in done.reason
    assert real.run() != ""
    real.set_faults()

    def interrupted(line: str) -> None:
        if "asking" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        real.reconcile(progress=interrupted)
    assert real.run() != ""
    assert real.reconcile().released
    assert real.run() == ""
    check_everybody(real)


# --- providers that cannot be asked by send, or not at all ----------------------------------------


@pytest.fixture
def world(workspace: Workspace, store: Store, clock: Any) -> Iterator[World]:
    world = make_world(workspace, store, clock, people=PEOPLE, batch_size=BATCH)
    world.provider.settings = world.provider.settings.model_copy(update={"in_flight": 1})
    yield world
    world.store.close()


def go(world: World, *, requests: int | None = None) -> str:
    stop = asyncio.Event()
    began = len(world.provider.requests)

    def during(_prepared: Prepared) -> None:
        if requests is not None and len(world.provider.requests) - began >= requests:
            stop.set()

    world.provider.during = during
    mark = FileMark(world.workspace.var / "ledger.mark")
    return world.run(mark=mark, stop=stop).quarantine


def catch_up(world: World, **options: Any) -> Reconciled:
    mark = FileMark(world.workspace.var / "ledger.mark")
    return asyncio.run(reconcile(world.runtime(mark=mark), **options))


def restored(world: World, database: Database, *, before: int = 2, since: int = 3) -> None:
    assert go(world, requests=before) == ""
    dump = database.dump(world.store)
    assert go(world, requests=since) == ""
    world.store = database.put_back(world.store, dump)
    assert go(world) != ""


def test_by_keys_alone_what_the_mark_has_counted_is_proof(world: World, tmp_path: Path) -> None:
    """On SQLite one machine's mark counts every request, so that nothing else can be there."""
    database = Database(world.store, tmp_path)
    restored(world, database)
    done = catch_up(world)
    assert done.released
    if not database.is_sqlite:  # another machine may have made more requests than this mark knows
        assert [vars_of(each) for each in done.sends] == [("milia.1", 25, 0, 15)]
        assert go(world) == ""
        assert world.status()["state"] == "held"
        return
    assert [vars_of(each) for each in done.sends] == [("milia.1", 25, 15, 0)]
    assert go(world) == ""
    assert world.provider.received == everybody(PEOPLE)
    assert world.verify() == []


def test_by_keys_a_request_that_was_throttled_before_it_was_taken_is_found(
    workspace: Workspace, sqlite_store: Store, clock: Any, tmp_path: Path
) -> None:
    from newsletter.providers.base import Deferred

    world = make_world(workspace, sqlite_store, clock, people=PEOPLE, batch_size=BATCH)
    world.provider.settings = world.provider.settings.model_copy(update={"in_flight": 1})
    database = Database(world.store, tmp_path)
    assert go(world, requests=2) == ""
    dump = database.dump(world.store)
    throttled = [lambda _provider, _prepared: Deferred("throttled")] * 3
    world.provider.faults = [*throttled]
    assert go(world, requests=5) == ""
    received = world.provider.received
    world.store = database.put_back(world.store, dump)
    assert go(world) != ""
    done = catch_up(world)
    assert done.released
    # Three of the lost requests were refused, which leaves no trace: it is not proven that the
    # rest was not sent.
    (each,) = done.sends
    assert each.found == sum(received.values())
    assert each.unsent == 0
    assert each.in_doubt == PEOPLE - each.found
    assert world.verify() == []
    assert go(world) == ""
    assert world.status()["state"] == "held"
    with world.store.begin() as connection:
        resolve(connection, "milia.1", "resend", clock.now())
    assert go(world) == ""
    assert world.provider.received == everybody(PEOPLE)
    world.store.close()


def test_a_doubt_from_before_the_dump_is_settled_by_the_record(
    world: World, tmp_path: Path
) -> None:
    class Finds(RecordingProvider):
        async def find_send(self, send: str, *, since: datetime) -> FoundSend:
            messages = [
                SentMessage(address, f"{key}-{number}", key)
                for number, (key, address) in enumerate(self.kept)
            ]
            return FoundSend(messages, len(messages))

    old = world.provider
    world.provider = Finds(old.settings, old.capabilities, old.clock)
    world.provider.faults = [lost_after]
    database = Database(world.store, tmp_path)
    restored(world, database, before=1, since=2)
    done = catch_up(world)
    assert done.released
    assert [vars_of(each) for each in done.sends] == [("milia.1", 15, 25, 0)]
    assert world.verify() == []
    assert go(world) == ""
    assert world.provider.received == everybody(PEOPLE)
    assert world.verify() == []


class Counts(RecordingProvider):
    """Counts the messages of a send, and lists none, as of more than a provider lists."""

    async def find_send(self, send: str, *, since: datetime) -> FoundSend:
        return FoundSend((), len(self.kept))


@pytest.mark.parametrize("case", ["stand-in", "proven"])
def test_a_total_is_reached_only_by_messages_that_it_counts_and_only_once(
    world: World, tmp_path: Path, case: str
) -> None:
    """What a stand-in took is not in it, and a doubt that events have proven is not there twice."""
    old = world.provider
    world.provider = Counts(old.settings, old.capabilities, old.clock)
    if case == "proven":
        world.provider.faults = [lost_after]
    database = Database(world.store, tmp_path)
    assert go(world, requests=2) == ""
    with world.store.begin() as connection:
        first = attempts.c.batch == 1
        if case == "stand-in":
            connection.execute(update(attempts).where(first).values(provider="other"))
        else:
            proven = deliveries.c.position <= BATCH
            connection.execute(update(deliveries).where(proven).values(state="delivered"))
    dump = database.dump(world.store)
    assert go(world, requests=1) == ""
    received = world.provider.received
    assert sum(received.values()) == 3 * BATCH
    if case == "stand-in":
        world.provider.kept = world.provider.kept[BATCH:]
    world.store = database.put_back(world.store, dump)
    assert go(world) != ""
    done = catch_up(world)
    assert done.released
    assert [vars_of(each) for each in done.sends] == [("milia.1", 15, 25, 0)]
    assert go(world) == ""
    assert world.provider.received | received == everybody(PEOPLE)


def test_a_request_that_is_found_as_a_whole_is_counted_though_nobody_in_it_is_listed(
    workspace: Workspace, sqlite_store: Store, clock: Any, tmp_path: Path
) -> None:
    class Whole(RecordingProvider):
        async def find(self, key: str, *, since: datetime) -> Found:
            found = await super().find(key, since=since)
            return Found({}, conclusive=True, whole=f"{key}-whole" if found.messages else "")

    world = make_world(workspace, sqlite_store, clock, people=PEOPLE, batch_size=BATCH)
    settings = world.provider.settings.model_copy(update={"in_flight": 1})
    world.provider = Whole(settings, world.provider.capabilities, clock)
    restored(world, Database(world.store, tmp_path))
    done = catch_up(world)
    assert done.released
    # Of the three requests that were lost nobody is listed; all three are found, so the rest goes.
    assert [vars_of(each) for each in done.sends] == [("milia.1", 2 * BATCH, 15, 3 * BATCH)]
    world.store.close()


@pytest.mark.parametrize(("decision", "twice"), [("abandon", False), ("resend", True)])
def test_where_nobody_can_be_asked_a_person_decides(
    workspace: Workspace,
    sqlite_store: Store,
    clock: Any,
    tmp_path: Path,
    decision: Any,
    twice: bool,
) -> None:
    world = make_world(
        workspace, sqlite_store, clock, people=PEOPLE, batch_size=BATCH, lookup=False
    )
    world.provider.settings = world.provider.settings.model_copy(update={"in_flight": 1})
    restored(world, Database(world.store, tmp_path))
    done = catch_up(world)
    assert done.released
    assert [vars_of(each) for each in done.sends] == [("milia.1", 10, 0, 30)]
    assert go(world) == ""
    assert world.status()["state"] == "held"
    assert world.verify() == []
    with world.store.begin() as connection:
        resolve(connection, "milia.1", decision, clock.now())
    assert go(world) == ""
    assert world.status()["state"] == "sent"
    assert (max(world.provider.received.values()) == 2) is twice
    world.store.close()


@pytest.mark.parametrize("first_wave", [False, True])
def test_a_due_send_is_held_and_a_later_one_kept_where_nobody_can_be_asked(
    workspace: Workspace, sqlite_store: Store, clock: Any, tmp_path: Path, first_wave: bool
) -> None:
    """One in each reader's own time has begun with its first wave, hours before its `at`."""
    world = make_world(
        workspace, sqlite_store, clock, people=PEOPLE, batch_size=BATCH, lookup=False
    )
    began = clock.now()
    if first_wave:
        with world.store.begin() as connection:
            values = {"local_time": True, "starts_at": began, "at": began + timedelta(hours=9)}
            connection.execute(update(sends).values(values))
    database = Database(world.store, tmp_path)
    dump = database.dump(world.store)
    assert go(world) == ""
    clock.moment = began + timedelta(minutes=1)
    world.store = database.put_back(world.store, dump)
    assert go(world) != ""
    done = catch_up(world)
    assert done.released
    assert world.status()["state"] == "held"
    assert "nobody can tell" in world.status()["reason"]
    assert go(world) == ""
    assert world.provider.received == everybody(PEOPLE)
    world.store.close()


def test_who_resumes_a_send_that_was_held_before_the_dump_is_told_that_it_may_have_been_sent(
    workspace: Workspace, sqlite_store: Store, clock: Any, tmp_path: Path
) -> None:
    world = make_world(
        workspace, sqlite_store, clock, people=PEOPLE, batch_size=BATCH, lookup=False
    )
    with world.store.begin() as connection:
        connection.execute(update(sends).values(state="held", reason="found after its time"))
    database = Database(world.store, tmp_path)
    dump = database.dump(world.store)
    with world.store.begin() as connection:
        resume(connection, "milia.1", clock.now())
    assert go(world) == ""
    assert world.provider.received == everybody(PEOPLE)
    world.store = database.put_back(world.store, dump)
    assert go(world) != ""
    assert catch_up(world).released
    assert world.status()["state"] == "held"
    assert "nobody can tell" in world.status()["reason"]
    world.store.close()


def test_a_send_that_a_person_cancels_in_the_quarantine_raises_no_alarm_again(
    world: World, tmp_path: Path
) -> None:
    """Its batch is open still, as the worker that had leased it is gone."""
    restored(world, Database(world.store, tmp_path))
    with world.store.begin() as connection:
        cancel(connection, "milia.1", world.clock.now())
        connection.execute(update(batches).where(batches.c.number == 3).values(state="open"))
    received = world.provider.received
    done = catch_up(world)
    assert done.released
    assert [vars_of(each) for each in done.sends] == [("milia.1", 25, 0, 0)]
    assert go(world) == ""
    assert world.provider.received == received
    assert world.status()["counts"]["skipped"] == 15
    assert world.verify() == []


# --- a person accepts -----------------------------------------------------------------------------


def test_a_database_that_was_moved_deliberately_goes_on_as_it_is(
    world: World, tmp_path: Path
) -> None:
    database = Database(world.store, tmp_path)
    assert go(world, requests=2) == ""
    original, world.store = world.store, database.beside(world.store)
    assert "copy" in go(world)
    done = catch_up(world, accept=True)
    assert (done.released, done.sends) == (True, [])
    assert world.provider.lookups == []
    assert go(world) == ""
    assert world.provider.received == everybody(PEOPLE)
    assert world.verify() == []
    # From now on the original is the one that is behind.
    old = World(world.workspace, original, world.clock, world.provider)
    assert "another database" in go(old)
    database.drop(world.store)
    world.store = original


def test_accepting_one_that_is_behind_asks_nobody_and_leaves_all_to_a_person(
    world: World, tmp_path: Path
) -> None:
    restored(world, Database(world.store, tmp_path))
    lookups = len(world.provider.lookups)
    done = catch_up(world, accept=True)
    assert done.released
    assert len(world.provider.lookups) == lookups
    assert [vars_of(each) for each in done.sends] == [("milia.1", 10, 0, 30)]


def test_a_mark_of_another_machine_is_no_alarm_once_the_ledger_has_caught_up(
    workspace: Workspace, postgres_url: str, tmp_path: Path, clock: Any
) -> None:
    store = open_store(postgres_url, tmp_path)
    world = make_world(workspace, store, clock, people=PEOPLE, batch_size=BATCH)
    world.provider.settings = world.provider.settings.model_copy(update={"in_flight": 1})
    other = FileMark(tmp_path / "other.mark")
    restored(world, Database(store, tmp_path))
    with world.store.begin() as connection:
        entry = connection.execute(select(ledger)).one()
    other.note(replace_position(entry.database))
    assert catch_up(world).released
    assert world.run(mark=other).quarantine == ""
    with world.store.read() as connection:
        assert quarantine(connection) == ""
    world.store.close()


def replace_position(database: str) -> Any:
    from newsletter.delivery.mark import Position

    return Position(database, 99)


@pytest.mark.slow
@pytest.mark.parametrize("real", ["postmark"], indirect=True)
def test_where_a_provider_lists_too_few_its_total_proves_what_the_keys_have_found(
    real: Real, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("newsletter.providers.postmark._LAST", 2 * BATCH)
    schedule_send(real.world.store, at=datetime.now(UTC))
    dump = real.database.dump(real.world.store)
    assert real.run(requests=3) == ""
    real.put_back(dump)
    assert real.run() != ""
    done = real.reconcile()
    assert done.released, done.reason
    assert [vars_of(each) for each in done.sends] == [("milia.1", 3 * BATCH, 5 * BATCH, 0)]
    assert real.run() == ""
    check_everybody(real)
