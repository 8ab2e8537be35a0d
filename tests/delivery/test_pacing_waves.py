"""One send in recipients' own time zones: waves, those whose time has passed, changing clocks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, update

from newsletter.delivery import Policy, RunReport, resume, run_due, status
from newsletter.scheduling.localtime import earliest, local_time
from newsletter.service.idle import is_idle
from newsletter.service.runtime import Runtime
from newsletter.store import Store
from newsletter.store.schema import sends, subscribers
from newsletter.workspace import Workspace
from support.ledger import World, make_world, schedule_send
from support.site import SETTINGS
from support.virtual import VirtualClock

SCHEDULED = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
AT = datetime(2026, 12, 1, 9, 0, tzinfo=UTC)  # 09:00 in London, the site's zone
WAITING = Policy(poll=timedelta(hours=1))
UNTIL_IDLE = Policy(poll=timedelta(hours=1), patience=timedelta(minutes=1))
ZONES = {"tokyo": "Asia/Tokyo", "york": "America/New_York", "odd": "Mars/Olympus", "none": ""}


class Waves:
    """A send in local time to five people in each of four zones."""

    def __init__(self, world: World, clock: VirtualClock) -> None:
        self.world = world
        self.clock = clock
        self.times: dict[str, set[datetime]] = {}
        world.provider.during = self._note

    def _note(self, prepared: Any) -> None:
        for address in prepared.recipients:
            name = address.partition("@")[0].rstrip("0123456789")
            times = self.times.setdefault(name, set())
            times.add(self.clock.now().replace(second=0, microsecond=0))

    def run(self, policy: Policy = WAITING) -> RunReport:
        return self.clock.run(run_due(self.world.runtime(policy=policy)))

    def status(self) -> dict[str, Any]:
        with self.world.store.read() as connection:
            return status(connection, self.world.workspace, "milia.1", self.clock.now())


def maker(make_workspace: Callable[..., Workspace], store: Store) -> Callable[..., Waves]:
    def make(delivery: str = "", *, at: datetime = AT, scheduled: datetime = SCHEDULED) -> Waves:
        workspace = make_workspace(f"[delivery]\n{delivery}\n", settings=SETTINGS)
        clock = VirtualClock()
        world = make_world(workspace, store, clock, 1, schedule=False, lookup=False)
        world.leave("reader1@example.com")
        clock.moment = scheduled
        schedule_send(store, at=at)
        zone = workspace.settings.site.zone
        with store.begin() as connection:
            connection.execute(
                update(sends).values(
                    local_time=True,
                    starts_at=earliest(local_time(at, zone)),
                    created_at=scheduled,
                )
            )
            connection.execute(insert(subscribers), _people())
        return Waves(world, clock)

    return make


@pytest.fixture
def waves(make_workspace: Callable[..., Workspace], store: Store) -> Callable[..., Waves]:
    """Makes a send in local time, on either database."""
    return maker(make_workspace, store)


@pytest.fixture
def waves_here(
    make_workspace: Callable[..., Workspace], sqlite_store: Store
) -> Callable[..., Waves]:
    """Makes one on SQLite, for what does not depend on the database."""
    return maker(make_workspace, sqlite_store)


def _people() -> list[dict[str, Any]]:
    return [
        {
            "email": f"{name}{number}@example.com",
            "email_key": f"{name}{number}@example.com",
            "fields": {"timezone": zone} if zone else {},
            "state": "active",
            "created_at": SCHEDULED,
            "updated_at": SCHEDULED,
        }
        for number in range(5)
        for name, zone in ZONES.items()
    ]


def test_everybody_gets_it_at_that_hour_of_their_own_zone(waves):
    here = waves()
    here.run()
    assert here.times == {}  # a send that is not due yet is not waited for
    here.clock.moment = AT - timedelta(hours=14)
    here.run()
    assert here.times == {
        "tokyo": {AT - timedelta(hours=9)},
        "none": {AT},
        "odd": {AT},  # no zone of that name: the site's
        "york": {AT + timedelta(hours=5)},
    }
    told = here.status()
    assert told["state"] == "sent"
    assert told["at"] == "2026-12-01T09:00:00Z"
    assert [(wave["at"], wave["recipients"]) for wave in told["waves"]] == [
        ("2026-12-01T00:00:00Z", 5),
        ("2026-12-01T09:00:00Z", 10),
        ("2026-12-01T14:00:00Z", 5),
    ]
    assert all(wave["opened_at"] for wave in told["waves"])
    assert here.world.verify() == []


@pytest.mark.parametrize(("rule", "tokyo"), [("now", 8), ("next_day", 24)])
def test_whoevers_time_was_over_when_it_was_scheduled(waves_here, rule, tokyo):
    scheduled = AT - timedelta(hours=1)  # 17:00 in Tokyo
    here = waves_here(f'zone_passed = "{rule}"', scheduled=scheduled)
    here.run()
    assert here.times["tokyo"] == {AT - timedelta(hours=9) + timedelta(hours=tokyo)}
    assert here.times["none"] == {AT}
    assert here.times["york"] == {AT + timedelta(hours=5)}


def test_a_local_time_that_clocks_skip_is_the_first_moment_after_the_gap(waves_here):
    at = datetime(2027, 3, 14, 2, 30, tzinfo=UTC)  # 02:30 does not exist in New York
    here = waves_here(at=at, scheduled=at - timedelta(days=7))
    here.clock.moment = at - timedelta(hours=14)
    here.run()
    assert here.times["york"] == {datetime(2027, 3, 14, 7, 0, tzinfo=UTC)}
    assert here.times["none"] == {at}


def test_a_wave_that_was_missed_for_longer_than_the_grace_holds_the_send(waves):
    here = waves()
    here.clock.moment = AT - timedelta(hours=9)
    here.run(UNTIL_IDLE)
    assert here.times == {"tokyo": {AT - timedelta(hours=9)}}
    assert here.status()["reason"] == "the next wave, 10 recipients, goes at 2026-12-01 09:00"
    here.clock.moment = AT + timedelta(hours=6, minutes=1)  # nobody was there for it
    report = here.run(UNTIL_IDLE)
    assert report.held == ["milia.1"]
    told = here.status()
    assert told["state"] == "held"
    assert "the wave of 2026-12-01 09:00 UTC, 10 recipients, was found" in told["reason"]
    assert set(here.times) == {"tokyo"}
    with here.world.store.begin() as connection:
        resume(connection, "milia.1", here.clock.now())
    here.run()
    assert here.status()["state"] == "sent"
    assert here.world.provider.received.total() == 20


def test_a_send_that_starts_late_within_the_grace_of_its_waves_goes_on(waves_here):
    here = waves_here('zone_passed = "next_day"')
    here.clock.moment = AT - timedelta(hours=4)
    here.run()
    # Tokyo's hour came after the send was scheduled: it is late, and was not passed.
    assert here.times["tokyo"] == {AT - timedelta(hours=4)}
    assert here.times["none"] == {AT}


def test_a_send_that_starts_too_late_for_a_wave_is_held_before_anybody_gets_it(waves_here):
    here = waves_here()
    here.clock.moment = AT - timedelta(hours=2)
    here.run()
    assert here.status()["state"] == "held"
    assert here.times == {}


def test_a_service_until_idle_does_not_wait_for_the_next_wave(waves_here):
    here = waves_here()
    here.clock.moment = AT - timedelta(hours=9)
    here.run(UNTIL_IDLE)
    runtime = Runtime(here.world.workspace, here.world.store, here.clock)
    assert is_idle(runtime, None)
    here.clock.moment = AT - timedelta(seconds=30)
    assert not is_idle(runtime, None)
