"""Unsubscribe and preferences over real HTTP: the links of a recipient."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from newsletter.store.schema import unsubscribes

ONE_CLICK = {"List-Unsubscribe": "One-Click"}


def test_a_get_asks_and_changes_nothing(live: Any) -> None:
    person = live.person()
    page = live.client.get(f"/unsubscribe/{live.token(person)}")
    assert page.status_code == 200
    assert page.text.count("<button") == 1
    assert "rosa@example.com" not in page.text, "a forwarded mail does not give the address away"
    assert live.row(person).state == "active"


@pytest.mark.parametrize("kind", ["form", "multipart", "file", "broken", "empty", "other"])
def test_one_click_unsubscribes_at_once_whatever_the_mail_program_sends(
    live: Any, kind: str
) -> None:
    send = live.issue("one")
    person = live.person()
    bodies: dict[str, dict[str, Any]] = {
        "form": {"data": ONE_CLICK},
        "multipart": {"files": {"List-Unsubscribe": (None, "One-Click")}},
        "file": {"files": {"List-Unsubscribe": ("one.txt", b"One-Click")}},
        "broken": {"content": b"?", "headers": {"Content-Type": "multipart/form-data"}},
        "empty": {},
        "other": {"content": b"whatever", "headers": {"Content-Type": "text/plain"}},
    }
    headers = {"Origin": "https://mail.example", "Sec-Fetch-Site": "cross-site"}
    body = bodies[kind]
    answer = live.client.post(
        f"/unsubscribe/{live.token(person, send)}",
        **{**body, "headers": {**headers, **body.get("headers", {})}},
    )
    assert answer.status_code == 200
    assert live.row(person).state == "unsubscribed"
    with live.store.read() as connection:
        assert connection.execute(select(unsubscribes)).one().send_id == send
    again = live.client.post(f"/unsubscribe/{live.token(person, send)}", data=ONE_CLICK)
    assert again.status_code == 200


def test_an_unsubscribe_link_never_expires(live: Any) -> None:
    send, person = live.issue("one"), live.person()
    live.clock.advance(days=3650)
    assert live.client.post(f"/unsubscribe/{live.token(person, send)}").status_code == 200
    assert live.row(person).state == "unsubscribed"


def test_a_test_messages_link_opens_a_page_and_changes_nothing(live: Any) -> None:
    assert live.client.get(f"/unsubscribe/{live.token(0)}").status_code == 200
    assert live.client.post(f"/unsubscribe/{live.token(0)}").status_code == 200
    assert live.client.get(f"/preferences/{live.token(0)}").status_code == 404


@pytest.mark.parametrize("token", ["x", "preview", "A" * 34, "%00", "é", "a.b.c", "%ff%fe"])
def test_a_bad_token_is_not_found(live: Any, token: str) -> None:
    for page in ("unsubscribe", "preferences", "confirm", "r"):
        assert live.client.get(f"/{page}/{token}").status_code == 404
    assert live.client.get(f"/o/{token}.gif").status_code == 404


def test_a_person_changes_name_topics_and_frequency(live: Any, clock: Any) -> None:
    (live.workspace.content / "tips" / "one.md").write_text(
        "---\ntitle: Sun\ntopics: [sun-care]\n---\nWear SPF.\n", encoding="utf-8"
    )
    person = live.person()
    path = f"/preferences/{live.token(person)}"
    assert 'value="sun-care"' in live.client.get(path).text
    form = {"action": "save", "first_name": " Ro\x00sa<i> ", "frequency": "monthly"}
    answer = live.client.post(path, data={**form, "topics": ["sun-care", "made-up"]})
    assert answer.status_code == 200
    assert "Saved." in answer.text
    assert "&lt;i&gt;" in answer.text
    row = live.row(person)
    assert (row.first_name, row.topics, row.frequency) == ("Ro sa<i>", ["sun-care"], "monthly")
    live.client.post(path, data={**form, "frequency": "hourly"})
    assert live.row(person).frequency == "monthly", "an unknown frequency changes nothing"


def test_a_person_gets_a_copy_of_their_data(live: Any) -> None:
    person = live.person(first_name="Rosa")
    answer = live.client.post(f"/preferences/{live.token(person)}", data={"action": "export"})
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.json()["email"] == "rosa@example.com"
    assert answer.json()["consent"]


def test_erasure_asks_once_more_and_then_is_done(live: Any) -> None:
    person = live.person()
    path = f"/preferences/{live.token(person)}"
    asked = live.client.post(path, data={"action": "erase"})
    assert "cannot be undone" in asked.text
    assert live.row(person).state == "active"
    assert live.client.post(path, data={"action": "erase-now"}).status_code == 200
    assert live.row(person).state == "forgotten"
    assert live.row(person).email == ""
    assert live.client.get(path).status_code == 410
    assert live.client.get(f"/unsubscribe/{live.token(person)}").status_code == 200


def test_preferences_close_a_year_after_their_send(live: Any) -> None:
    send, person = live.issue("one"), live.person()
    path = f"/preferences/{live.token(person, send)}"
    live.clock.moment += timedelta(days=364)
    assert live.client.get(path).status_code == 200
    live.clock.moment += timedelta(days=2)
    assert live.client.get(path).status_code == 410
    assert live.client.post(path, data={"action": "erase-now"}).status_code == 410
    assert live.row(person).state == "active"


def test_another_site_cannot_change_preferences(live: Any) -> None:
    person = live.person()
    answer = live.client.post(
        f"/preferences/{live.token(person)}",
        data={"action": "erase-now"},
        headers={"Sec-Fetch-Site": "cross-site"},
    )
    assert answer.status_code == 403
    assert live.row(person).state == "active"


def test_a_form_without_a_known_action_is_refused(live: Any) -> None:
    path = f"/preferences/{live.token(live.person())}"
    assert live.client.post(path, data={"action": "drop"}).status_code == 400
