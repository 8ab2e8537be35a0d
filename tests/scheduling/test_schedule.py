"""Scheduling an issue: checked, frozen and written down once, or nothing at all happens."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, insert, select, update

from newsletter.audience import segments
from newsletter.delivery import cancel, status
from newsletter.errors import BadInput, Conflict, DoesNotHold, NotFound
from newsletter.scheduling import freeze, parse_local_time, reschedule, schedule
from newsletter.store import Store, open_store
from newsletter.store.schema import (
    frozen_issues,
    links,
    media,
    segment_members,
    send_sources,
    sends,
    subscribers,
)
from newsletter.workspace import Workspace
from support.editions import add_articles
from support.ledger import add_people

ISSUE = """---
subject: "Hello"
preheader: "A word."
---
Hello there, see [the guide](https://example.com/guide).

::: excerpt {from=articles/a001}
The balm of almond number 1 softens skin iris.
:::
"""
AT = datetime(2026, 11, 26, 9, tzinfo=UTC)


def write_issue(workspace: Workspace, slug: str = "hello", text: str = ISSUE) -> Any:
    path = workspace.issues / slug / "issue.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def office(workspace: Workspace, store: Store) -> Workspace:
    """A workspace with an issue and three people, on either database."""
    add_articles(workspace, 2)
    write_issue(workspace)
    add_people(store, 3)
    return workspace


def count(store: Store, table: Any) -> int:
    with store.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def test_a_send_is_written_down_with_all_that_it_needs(
    office: Workspace, store: Store, clock: Any
) -> None:
    done = schedule(office, store, clock, "hello", at=AT, offline=True)
    assert done.as_json() == {
        "send": "hello.1",
        "issue": "hello",
        "state": "scheduled",
        "at": "2026-11-26T09:00:00Z",
        "segment": "all",
        "recipients": 3,
        "frozen": done.frozen,
    }
    with store.read() as connection:
        send = connection.execute(select(sends)).one()
        assert (send.provider, send.frozen, send.filled_at) == ("main", done.frozen, None)
        assert connection.scalars(select(send_sources.c.content)).all() == ["articles/a001"]
        assert "https://example.com/guide" in connection.scalars(select(links.c.url)).all()


def test_freezing_again_changes_nothing_and_an_edit_is_another_digest(
    office: Workspace, store: Store, clock: Any
) -> None:
    first = freeze(office, store, clock, "hello")
    clock.advance(days=1)
    again = freeze(office, store, clock, "hello")
    assert (first.sha256, first.compiled) == (again.sha256, again.compiled)
    tables = (frozen_issues, links, media)
    before = [count(store, table) for table in tables]
    assert before[0] == 1
    write_issue(office, text=ISSUE.replace("Hello there", "Good day"))
    assert freeze(office, store, clock, "hello").sha256 != first.sha256
    assert count(store, frozen_issues) == 2


def test_an_edit_after_scheduling_changes_nothing_and_status_says_so(
    office: Workspace, store: Store, clock: Any
) -> None:
    done = schedule(office, store, clock, "hello", at=AT, offline=True)
    write_issue(office, text=ISSUE.replace("Hello there", "Good day"))
    with store.read() as connection:
        found = status(connection, office, "hello.1")
        kept = connection.execute(select(frozen_issues)).one()
    assert found["file_differs"] is True
    assert kept.sha256 == done.frozen
    assert b"Good day" not in kept.compiled


def test_an_issue_is_scheduled_once_until_it_is_cancelled(
    office: Workspace, store: Store, clock: Any
) -> None:
    schedule(office, store, clock, "hello", at=AT, offline=True)
    with pytest.raises(Conflict, match=r"hello\.1"):
        schedule(office, store, clock, "hello", at=AT, offline=True)
    with store.begin() as connection:
        cancel(connection, "hello.1", clock.now())
    assert schedule(office, store, clock, "hello", at=AT, offline=True).send == "hello.2"
    with store.begin() as connection:
        connection.execute(update(sends).where(sends.c.send == "hello.2").values(state="sent"))
    with pytest.raises(Conflict, match="sent already"):
        schedule(office, store, clock, "hello", at=AT, offline=True)


def test_of_two_that_schedule_at_the_same_moment_one_wins(
    office: Workspace, store: Store, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from newsletter.scheduling import sends as module

    gate = threading.Barrier(3)
    real = module.compile_now

    def together(*args: Any) -> Any:
        frozen = real(*args)
        gate.wait(20)
        return frozen

    monkeypatch.setattr(module, "compile_now", together)
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(schedule(office, store, clock, "hello", at=AT, offline=True).send)
        except Conflict:
            results.append("conflict")

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["conflict", "conflict", "hello.1"]
    assert count(store, sends) == 1


def test_what_blocks_is_listed_and_nothing_is_half_done(
    office: Workspace, store: Store, clock: Any
) -> None:
    write_issue(office, text=ISSUE.replace('"Hello"', '""'))
    with pytest.raises(DoesNotHold, match=r"issues/hello/issue\.md:2"):
        schedule(office, store, clock, "hello", at=AT, offline=True)
    assert [count(store, table) for table in (sends, frozen_issues, links)] == [0, 0, 0]


def test_an_edit_between_check_and_freezing_is_a_conflict(
    office: Workspace, store: Store, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from newsletter.scheduling import sends as module

    real = module.check_issue

    def edited(*args: Any, **kwargs: Any) -> Any:
        findings = real(*args, **kwargs)
        write_issue(office, text=ISSUE.replace("Hello there", "Unchecked words"))
        return findings

    monkeypatch.setattr(module, "check_issue", edited)
    with pytest.raises(Conflict, match="edited"):
        schedule(office, store, clock, "hello", at=AT, offline=True)
    assert count(store, sends) == 0


def test_unknown_names_are_not_found(office: Workspace, store: Store, clock: Any) -> None:
    for changes in ({"slug": "nope"}, {"segment": "vips"}, {"provider": "other"}):
        slug = changes.pop("slug", "hello")
        with pytest.raises(NotFound):
            schedule(office, store, clock, slug, at=AT, offline=True, **changes)
    with pytest.raises(BadInput):
        schedule(office, store, clock, "../hello", at=AT, offline=True)
    with pytest.raises(NotFound):
        reschedule(store, clock, "hello.1", AT)
    assert count(store, sends) == 0


def test_another_segment_can_be_sent_to(office: Workspace, store: Store, clock: Any) -> None:
    with store.begin() as connection:
        connection.execute(insert(segment_members).values(segment="vips", subscriber_id=1))
        assert [found["name"] for found in segments(connection)] == ["all", "vips"]
    done = schedule(office, store, clock, "hello", at=AT, segment="vips", offline=True)
    assert (done.segment, done.recipients) == ("vips", 1)


@pytest.mark.parametrize("state", ["scheduled", "paused", "held"])
def test_a_send_that_has_not_started_can_be_moved(
    office: Workspace, store: Store, clock: Any, state: str
) -> None:
    schedule(office, store, clock, "hello", at=AT, offline=True)
    with store.begin() as connection:
        connection.execute(update(sends).values(state=state, reason="why"))
    reschedule(store, clock, "hello.1", AT + timedelta(days=1))
    with store.read() as connection:
        found = status(connection, office, "hello.1")
    assert (found["state"], found["at"], found["reason"]) == (
        "scheduled",
        "2026-11-27T09:00:00Z",
        "",
    )


@pytest.mark.parametrize("state", ["sending", "paused", "held", "sent", "cancelled"])
def test_a_send_that_has_started_or_is_over_cannot(
    office: Workspace, store: Store, clock: Any, state: str
) -> None:
    schedule(office, store, clock, "hello", at=AT, offline=True)
    with store.begin() as connection:
        connection.execute(update(sends).values(state=state, filled_at=clock.now()))
    with pytest.raises(Conflict):
        reschedule(store, clock, "hello.1", AT + timedelta(days=1))
    with store.read() as connection:
        assert connection.execute(select(sends.c.at)).scalar_one() == AT


# --- the commands ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["schedule", "hello", "--at", "2026-11-24 08:00"], 2, "past"),
        (["schedule", "hello", "--at", "2027-03-28 01:30"], 2, "does not exist"),
        (["schedule", "hello", "--at", "2027-10-31 01:30"], 2, "twice"),
        (["schedule", "hello", "--at", "2026-11-26 09:00", "--tz", "Mars/Base"], 2, "time zone"),
        (["schedule", "hello", "--at", "soon"], 2, "2026-11-26 09:00"),
        (["schedule", "hello"], 2, "--at"),
        (["schedule", "../hello", "--at", "2026-11-26 09:00"], 2, "../hello"),
        (["schedule", "nope", "--at", "2026-11-26 09:00"], 3, "nope"),
        (["reschedule", "nope.1", "--at", "2026-11-26 09:00"], 3, "nope.1"),
        (["approve", "nope"], 3, "nope"),
    ],
)
def test_bad_input_has_its_exit_code_and_says_what_is_wrong(
    workspace: Workspace, cli: Callable[..., Any], arguments: list[str], code: int, told: str
) -> None:
    write_issue(workspace, text=ISSUE.split(":::")[0])
    now = {"NEWSLETTER_NOW": "2026-11-24T09:00:00Z"}
    ran = cli(*arguments, "--json", cwd=workspace, env=now)
    assert (ran.code, ran.out) == (code, ""), ran.err
    assert told in ran.err


def test_a_send_in_local_time_starts_where_the_day_begins(
    office: Workspace, store: Store, clock: Any
) -> None:
    done = schedule(office, store, clock, "hello", at=AT, offline=True, local_time=True)
    assert done.as_json()["starts_at"] == "2026-11-25T19:00:00Z"  # 09:00 at UTC+14
    london = office.settings.site.zone
    summer = datetime(2027, 7, 1, 8, tzinfo=UTC)  # 09:00 in London
    reschedule(store, clock, "hello.1", summer, zone=london)
    with store.read() as connection:
        row = connection.execute(select(sends.c.at, sends.c.starts_at, sends.c.local_time)).one()
    assert tuple(row) == (summer, datetime(2027, 6, 30, 19, tzinfo=UTC), True)


@pytest.mark.parametrize(("rule", "told"), [("now", "at once"), ("next_day", "at that hour")])
def test_whose_hour_is_over_already_is_told_when_a_send_in_local_time_is_scheduled(
    make_workspace: Callable[..., Workspace], cli: Callable[..., Any], rule: str, told: str
) -> None:
    workspace = make_workspace(f'[delivery]\nzone_passed = "{rule}"\n')
    write_issue(workspace, text=ISSUE.split(":::")[0])
    store = open_store(workspace.settings.database.url, workspace.root)
    add_people(store, 3)
    zones = {1: "Asia/Tokyo", 2: "America/New_York"}
    with store.begin() as connection:
        for number, zone in zones.items():
            mine = subscribers.c.email == f"reader{number}@example.com"
            connection.execute(update(subscribers).where(mine).values(fields={"timezone": zone}))
    store.close()
    now = {"NEWSLETTER_NOW": "2026-11-24T07:00:00Z"}  # 16:00 in Tokyo
    at = ["--at", "2026-11-24 09:00", "--local-time", "--offline"]
    ran = cli("schedule", "hello", *at, cwd=workspace, env=now)
    assert ran.code == 0, ran.err
    assert f"for 1 of them that hour is over: they get it {told}" in ran.out
    cli("cancel", "hello.1", cwd=workspace, env=now)
    assert cli("schedule", "hello", *at, "--json", cwd=workspace, env=now).json["passed"] == 1


def test_a_local_time_names_no_other_zone(workspace: Workspace, cli: Callable[..., Any]) -> None:
    at = ("schedule", "hello", "--local-time", "--at", "2036-11-26 09:00")
    ran = cli(*at, "--tz", "Asia/Tokyo", cwd=workspace)
    assert (ran.code, "--tz" in ran.err) == (2, True)
    zone = workspace.settings.site.zone
    with pytest.raises(BadInput, match="no offset"):
        parse_local_time("2036-11-26T09:00Z", zone, AT)
    assert parse_local_time("2036-11-26 09:00", zone, AT) == datetime(2036, 11, 26, 9, tzinfo=UTC)


def test_schedule_and_reschedule_by_command(workspace: Workspace, cli: Callable[..., Any]) -> None:
    write_issue(workspace, text=ISSUE.split(":::")[0])
    now = {"NEWSLETTER_NOW": "2026-11-24T09:00:00Z"}
    at = ["--at", "2027-07-01 09:00", "--offline", "--json"]
    first = cli("schedule", "hello", *at, cwd=workspace, env=now)
    assert (first.code, first.json["at"]) == (0, "2027-07-01T08:00:00Z"), first.err
    assert cli("schedule", "hello", *at, cwd=workspace, env=now).code == 4
    moved = cli(
        "reschedule", "hello.1", "--at", "2027-07-02 09:00", "--tz", "UTC", "--json",
        cwd=workspace, env=now,
    )  # fmt: skip
    assert (moved.code, moved.json["at"]) == (0, "2027-07-02T09:00:00Z"), moved.err
    assert moved.json["counts"]["total"] == 0
