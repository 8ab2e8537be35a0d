"""An edition keeps its rhythm: drafted ahead, sent at its hour if approved, once whatever runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from newsletter.errors import Conflict, DoesNotHold, NotFound
from newsletter.scheduling import (
    approve,
    edition_states,
    editions_tick,
    next_moment,
    schedule,
)
from newsletter.scheduling.editions import clockwork
from newsletter.store import Store, open_store
from newsletter.store.schema import outbox, sends
from newsletter.workspace import Workspace
from support.editions import WEEKLY, Newsroom, add_articles

SLUG = "weekly-2026-11-26"
DRAFT, HOUR = "2026-11-24T09:00:00+00:00", "2026-11-26T09:00:00+00:00"
BEFORE, LATER = "2026-11-23T12:00:00+00:00", "2026-11-26T09:00:10+00:00"


@pytest.fixture
def make_room(
    make_workspace: Callable[..., Workspace], sqlite_store: Store, clock: Any
) -> Callable[..., Newsroom]:
    def make(extra: str = "", *, articles: int = 6, edition: str = WEEKLY) -> Newsroom:
        workspace = make_workspace(edition + extra)
        add_articles(workspace, articles)
        return Newsroom(workspace, sqlite_store, clock)

    return make


@pytest.fixture
def room(make_room: Callable[..., Newsroom]) -> Newsroom:
    return make_room()


def yes(room: Newsroom, slug: str = SLUG) -> Any:
    return approve(room.workspace, room.store, room.clock, slug, "Ed")


def issue(room: Newsroom, slug: str = SLUG) -> Any:
    return room.workspace.issues / slug / "issue.md"


def test_an_edition_in_local_time_is_sent_as_the_first_zone_gets_to_its_hour(
    make_room: Callable[..., Newsroom],
) -> None:
    room = make_room(edition=WEEKLY + "local_time = true\n")
    for moment in (BEFORE, "2026-11-23T19:00:00+00:00"):  # 14 hours before the usual draft
        room.at(moment)
        editions_tick(room.workspace, room.store, room.clock)
    assert room.state == ("drafted", "")
    yes(room)
    room.at("2026-11-25T18:59:59+00:00")
    editions_tick(room.workspace, room.store, room.clock)
    assert room.state == ("approved", "")
    due = next_moment(room.workspace, room.store, room.clock.now())
    assert due is not None
    assert due.isoformat() == "2026-11-25T19:00:00+00:00"
    room.at(due.isoformat())
    editions_tick(room.workspace, room.store, room.clock)
    with room.store.read() as connection:
        row = connection.execute(select(sends.c.at, sends.c.starts_at, sends.c.local_time)).one()
    assert (row.at.isoformat(), row.starts_at, row.local_time) == (HOUR, due, True)


def test_an_approved_draft_goes_out_at_its_hour_and_the_editors_are_told(room: Newsroom) -> None:
    room.at(BEFORE)
    room.tick()
    assert not issue(room).exists()
    assert edition_states(room.workspace, room.store, room.clock) == [
        {
            "name": "weekly",
            "next_draft_at": "2026-11-24T09:00:00Z",
            "next_send_at": "2026-11-26T09:00:00Z",
            "issue": None,
            "state": "waiting",
            "reason": "",
        }
    ]
    room.at(DRAFT)
    room.tick()
    assert room.state == ("drafted", "")
    assert room.notices == [
        "weekly: the draft for Thursday 26 November 2026, 09:00 (GMT) waits for your approval"
    ]
    with room.store.read() as connection:
        mail = connection.execute(select(outbox)).one()
    assert f"newsletter approve {SLUG}" in mail.text
    assert "softens skin" in mail.html, "the issue itself is in the mail"
    assert room.provider.received == {"editor@glow.example": 1}
    done = yes(room)
    assert done.send_at is not None
    assert room.state == ("approved", "")
    room.tick()
    assert room.sent == []
    room.at(LATER)
    room.tick()
    assert room.sent == [(SLUG, done.send_at)]
    assert room.state == ("sent", "")
    assert edition_states(room.workspace, room.store, room.clock)[0]["next_send_at"] == (
        "2026-12-03T09:00:00Z"
    )
    assert room.provider.received["reader1@example.com"] == 1


@pytest.mark.slow
def test_without_approval_nothing_goes_out_and_the_next_edition_is_not_affected(
    room: Newsroom,
) -> None:
    room.at(DRAFT)
    room.tick()
    room.at(LATER)
    room.tick()
    assert (room.sent, room.state) == ([], ("skipped", "nobody approved it"))
    assert "nothing goes out" in room.notices[-1]
    room.at("2026-12-01T09:00:00+00:00")
    room.tick()
    assert room.state == ("drafted", "")
    yes(room, "weekly-2026-12-03")
    room.at("2026-12-03T09:00:00+00:00")
    room.tick()
    assert [slug for slug, _ in room.sent] == ["weekly-2026-12-03"]


def test_an_edit_voids_the_approval_and_the_editors_are_told_before_the_hour(
    room: Newsroom,
) -> None:
    room.at(DRAFT)
    room.tick()
    yes(room)
    issue(room).write_text(issue(room).read_text() + "\nOne more word.\n")
    assert room.state == ("drafted", "it changed after it was approved")
    room.tick()
    assert "changed after its approval" in room.notices[-1]
    room.at(LATER)
    room.tick()
    assert (room.sent, room.state) == ([], ("skipped", "it changed after it was approved"))


def test_an_edit_in_the_last_second_is_not_sent_either(room: Newsroom) -> None:
    room.at(DRAFT)
    room.tick()
    yes(room)
    issue(room).write_text(issue(room).read_text() + "\nOne more word.\n")
    room.at(LATER)
    room.tick()
    assert room.sent == []


def test_settings_that_change_what_is_sent_void_the_approval(room: Newsroom) -> None:
    room.at(DRAFT)
    room.tick()
    yes(room)
    sender = room.workspace.settings.sender.model_copy(update={"name": "Somebody else"})
    changed = room.workspace.settings.model_copy(update={"sender": sender})
    room.workspace = Workspace(room.workspace.root, changed)
    room.at(LATER)
    room.tick()
    assert (room.sent, room.state) == ([], ("skipped", "it changed after it was approved"))


def test_an_edit_can_be_approved_again_and_its_own_words_are_sent(room: Newsroom) -> None:
    room.at(DRAFT)
    room.tick()
    yes(room)
    text = issue(room).read_text() + "\nOne more word.\n"
    issue(room).write_text(text)
    room.tick()
    yes(room)
    room.tick()
    assert room.state == ("approved", "")
    room.at(LATER)
    room.tick()
    assert [slug for slug, _ in room.sent] == [SLUG]
    assert issue(room).read_text() == text, "an editor's draft is never overwritten"
    assert any(b"One more word" in request.body for request in room.provider.requests)


def test_an_automatic_edition_goes_out_by_itself_unless_a_check_blocks(
    make_room: Callable[..., Newsroom],
) -> None:
    room = make_room('approval = "automatic"')
    room.at(DRAFT)
    room.tick()
    room.at(LATER)
    room.tick()
    assert [slug for slug, _ in room.sent] == [SLUG]
    room.at("2026-12-01T09:00:00+00:00")
    room.tick()
    path = issue(room, "weekly-2026-12-03")
    path.write_text(path.read_text().replace("subject: ", 'subject: ""  # '))
    room.tick()
    assert room.state[0] == "held"
    room.at("2026-12-03T09:00:00+00:00")
    room.tick()
    assert [slug for slug, _ in room.sent] == [SLUG]
    assert room.state[0] == "skipped"
    assert "subject" in room.state[1]


def test_too_little_new_content_skips_the_date_and_says_why(
    make_room: Callable[..., Newsroom],
) -> None:
    room = make_room(articles=1)
    room.at(DRAFT)
    room.tick()
    assert room.state == ("skipped", "there is too little new content: 1 item of 2")
    assert not issue(room).exists()
    assert edition_states(room.workspace, room.store, room.clock)[0]["issue"] is None
    add_articles(room.workspace, 4, first=10)
    room.tick()
    assert room.state[0] == "skipped", "a date is decided once"
    room.at("2026-12-01T09:00:00+00:00")
    room.tick()
    assert room.state == ("drafted", "")


def test_an_issue_that_was_there_already_stands_and_needs_a_yes(
    make_room: Callable[..., Newsroom],
) -> None:
    room = make_room('approval = "automatic"')
    room.at(BEFORE)
    issue(room).parent.mkdir()
    mine = '---\nsubject: "My own"\npreheader: "By hand."\n---\nHello.\n'
    issue(room).write_text(mine)
    room.at(DRAFT)
    room.tick()
    assert issue(room).read_text() == mine
    room.at(LATER)
    room.tick()
    assert (room.sent, room.state) == ([], ("skipped", "nobody approved it"))


def test_a_draft_that_was_missed_is_made_at_once_while_its_hour_is_ahead(room: Newsroom) -> None:
    room.at("2026-11-26T08:30:00+00:00")
    room.tick()
    assert room.state == ("drafted", "")


def test_an_hour_that_was_missed_is_made_up_for_within_the_grace_and_not_after(
    room: Newsroom,
) -> None:
    room.at(DRAFT)
    room.tick()
    yes(room)
    room.at("2026-11-26T14:30:00+00:00")
    room.tick()
    assert [slug for slug, _ in room.sent] == [SLUG]
    room.at("2026-12-02T09:00:00+00:00")
    room.tick()
    yes(room, "weekly-2026-12-03")
    room.at("2026-12-03T15:30:00+00:00")
    room.tick()
    assert [slug for slug, _ in room.sent] == [SLUG]
    assert room.state == ("skipped", "its hour was missed by more than delivery.grace")


def test_weeks_of_downtime_end_without_a_burst(make_room: Callable[..., Newsroom]) -> None:
    room = make_room('approval = "automatic"', articles=20)
    room.at(DRAFT)
    room.tick()
    room.at("2026-12-24T10:00:00+00:00")
    room.tick()
    assert [slug for slug, _ in room.sent] == ["weekly-2026-12-24"]
    assert {row.date: row.state for row in room.rows()} == {
        "2026-11-26T09:00": "skipped",
        "2026-12-03T09:00": "skipped",
        "2026-12-24T09:00": "scheduled",
        "2026-12-31T09:00": "waiting",
    }


def test_a_rhythm_that_was_changed_makes_up_for_no_hour_it_never_had(
    make_room: Callable[..., Newsroom], make_workspace: Callable[..., Workspace]
) -> None:
    room = make_room('approval = "automatic"')
    room.at("2026-11-25T12:00:00+00:00")
    room.tick()
    changed = WEEKLY.replace("0 9 * * thu", "0 9 * * wed") + 'approval = "automatic"'
    room.workspace = make_workspace(changed)
    room.tick()
    assert room.sent == []


@pytest.mark.parametrize("point", ["draft_issue", "keep_items", "tell_drafted", "add_send"])
def test_a_crash_at_any_point_neither_doubles_nor_loses_a_date(
    room: Newsroom, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    class Killed(BaseException):
        pass

    where = {
        "draft_issue": clockwork,
        "keep_items": clockwork.rows,
        "tell_drafted": clockwork.notices,
        "add_send": clockwork,
    }[point]
    real = getattr(where, point)

    def die(*args: Any, **kwargs: Any) -> Any:
        real(*args, **kwargs)  # it was done, but nobody wrote it down
        raise Killed

    def round_of_a_process() -> None:
        monkeypatch.setattr(where, point, die)
        with pytest.raises(Killed):
            room.keep_editions()
        monkeypatch.undo()
        room.tick()

    room.at(DRAFT)
    if point == "add_send":
        room.tick()
    else:
        round_of_a_process()
    assert len(room.notices) == 1
    assert room.state == ("drafted", "")
    yes(room)
    room.at(LATER)
    if point == "add_send":
        round_of_a_process()
    else:
        room.tick()
    assert [slug for slug, _ in room.sent] == [SLUG]
    assert set(room.provider.received.values()) == {1}
    assert set(room.used().values()) == {1}


def test_a_draft_that_cannot_be_made_is_told_once_and_tried_until_its_hour(
    room: Newsroom,
) -> None:
    broken = room.workspace.content / "articles" / "a001.md"
    good = broken.read_text()
    broken.write_text("---\ntitle: [\n---\nx\n")
    room.at(DRAFT)
    room.tick()
    room.tick()
    assert room.state[0] == "waiting"
    assert "a001.md" in room.state[1]
    assert len(room.notices) == 1
    broken.write_text(good)
    room.tick()
    assert room.state == ("drafted", "")


def test_an_edition_scheduled_by_hand_is_not_sent_again(room: Newsroom) -> None:
    room.at(DRAFT)
    room.tick()
    schedule(room.workspace, room.store, room.clock, SLUG, offline=True)
    room.tick()
    assert room.state == ("sent", "")
    room.at(LATER)
    room.tick()
    assert len(room.sent) == 1


def test_approvals_want_an_issue_that_can_be_sent(room: Newsroom) -> None:
    room.at(DRAFT)
    room.tick()
    with pytest.raises(NotFound):
        yes(room, "nothing")
    issue(room).write_text(issue(room).read_text().replace("subject: ", 'subject: ""  # '))
    with pytest.raises(DoesNotHold):
        yes(room)
    room.at(LATER)
    room.tick()
    assert room.sent == []


def test_the_first_approval_of_the_same_bytes_stands(room: Newsroom) -> None:
    room.at(DRAFT)
    room.tick()
    first = yes(room)
    room.clock.advance(hours=1)
    second = approve(room.workspace, room.store, room.clock, SLUG, "Flo")
    assert second.as_json() == first.as_json()


def test_two_schedulers_on_one_database_make_one_edition(
    room: Newsroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one runs whole while the first is about to write its file."""
    second = open_store(room.workspace.settings.database.url, room.workspace.root)
    real = clockwork.draft_issue
    entered = []

    def interleaved(*args: Any, **kwargs: Any) -> Any:
        if not entered:
            entered.append(True)
            clockwork.editions_tick(room.workspace, second, room.clock)
        return real(*args, **kwargs)

    monkeypatch.setattr(clockwork, "draft_issue", interleaved)
    room.at(DRAFT)
    room.keep_editions()
    second.close()
    assert entered
    assert (room.state, len(room.notices)) == (("drafted", ""), 1)
    assert set(room.used().values()) == {1}


def test_scheduling_an_edition_twice_is_a_conflict(room: Newsroom) -> None:
    room.at(DRAFT)
    room.tick()
    schedule(room.workspace, room.store, room.clock, SLUG, offline=True)
    with pytest.raises(Conflict):
        schedule(room.workspace, room.store, room.clock, SLUG, offline=True)


def test_an_edition_lives_on_either_database(
    make_workspace: Callable[..., Workspace], store: Store, clock: Any
) -> None:
    workspace = make_workspace(WEEKLY)
    add_articles(workspace, 6)
    room = Newsroom(workspace, store, clock)
    room.at(DRAFT)
    room.tick()
    yes(room)
    issue(room).write_text(issue(room).read_text() + "\nOne more word.\n")
    room.tick()
    yes(room)
    room.at(LATER)
    room.tick()
    assert [slug for slug, _ in room.sent] == [SLUG]
    room.at("2026-12-03T15:30:00+00:00")
    room.tick()
    assert room.state[0] == "skipped"
    assert set(room.provider.received.values()) == {1, 3}
