"""Sign-up with double opt-in over real HTTP: what it answers, keeps and sends."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from newsletter.store.schema import consents
from newsletter.tokens import timed_token

GOOD = {"email": "Rosa@example.com", "first_name": "Rosa", "consent": "yes"}


def confirm_path(running: Any) -> str:
    found = re.search(r"/confirm/[\w.-]+", running.outbox()[-1].text)
    assert found
    return found[0]


@pytest.mark.parametrize("engine", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_a_visitor_signs_up_and_confirms(
    engine: str, make_site: Callable[..., Any], request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("postgres_url") if engine == "postgres" else None
    live = make_site(url=url)
    answer = live.client.post("/subscribe", data=GOOD)
    assert answer.status_code == 200
    assert len(live.outbox()) == 1
    assert live.outbox()[0].to_email == "Rosa@example.com"
    assert live.row(1).state == "pending"
    path = confirm_path(live)
    assert "Confirm my subscription" in live.client.get(path).text
    assert live.row(1).state == "pending", "a GET changes nothing"
    assert live.client.post(path).status_code == 200
    assert live.row(1).state == "active"
    assert live.client.post(path).status_code == 200, "twice is as once"
    with live.store.read() as connection:
        kept = connection.execute(select(consents).order_by(consents.c.id)).all()
    assert [row.how for row in kept] == ["form", "confirmed"]
    assert "send me Glow Letter by email" in kept[0].text


def test_the_mail_repeats_nothing_that_the_visitor_typed(live: Any) -> None:
    live.client.post("/subscribe", data={**GOOD, "first_name": "Buy-pills"})
    mail = live.outbox()[0]
    assert "Buy-pills" not in mail.subject + mail.html + mail.text


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("de-AT", "Anmeldung bestätigen"),
        ("fr", "Confirmer mon inscription"),
        ("pt", "Confirm my subscription"),
    ],
)
def test_the_mail_is_in_the_sites_language(
    make_site: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, language: str, words: str
) -> None:
    monkeypatch.setenv("NEWSLETTER_SITE__LANGUAGE", language)
    live = make_site()
    live.client.post("/subscribe", data=GOOD)
    mail = live.outbox()[0]
    assert words in mail.html
    assert words in mail.text
    assert "Glow Letter" in mail.subject
    assert live.client.get(confirm_path(live)).status_code == 200


def test_the_outbox_is_sent_after_the_answer(live: Any) -> None:
    live.client.post("/subscribe", data=GOOD)
    live.client.get("/healthz")
    assert live.flushed


def test_known_and_unknown_addresses_get_the_same_answer(live: Any) -> None:
    live.person("known@example.com")
    unknown = live.client.post("/subscribe", data={**GOOD, "email": "new@example.com"})
    known = live.client.post("/subscribe", data={**GOOD, "email": "known@example.com"})
    assert unknown.content == known.content
    assert unknown.status_code == known.status_code == 200
    assert abs(unknown.elapsed - known.elapsed).total_seconds() < 0.1
    assert [row.to_email for row in live.outbox()] == ["new@example.com"]


def test_faults_are_named_at_their_fields_and_values_kept_escaped(live: Any) -> None:
    answer = live.client.post(
        "/subscribe", data={"email": '"><script>x</script>', "first_name": "<b>Rosa"}
    )
    assert answer.status_code == 400
    assert 'aria-describedby="email-error"' in answer.text
    assert 'id="email-error"' in answer.text
    assert 'aria-describedby="consent-error"' in answer.text
    assert "<script" not in answer.text
    assert 'value="&lt;b&gt;Rosa"' in answer.text
    assert live.outbox() == []


def test_a_robot_in_the_trap_is_thanked_and_ignored(live: Any) -> None:
    answer = live.client.post("/subscribe", data={**GOOD, "website": "https://spam.example"})
    assert answer.status_code == 200
    assert live.outbox() == []


@pytest.mark.slow
def test_one_visitor_cannot_sign_up_everybody(live: Any) -> None:
    for number in range(10):
        data = {**GOOD, "email": f"p{number}@example.com"}
        assert live.client.post("/subscribe", data=data).status_code == 200
    answer = live.client.post("/subscribe", data={**GOOD, "email": "last@example.com"})
    assert answer.status_code == 429
    assert answer.headers["retry-after"]
    live.clock.advance(minutes=11)
    assert live.client.post("/subscribe", data=GOOD).status_code == 200


def test_one_address_is_not_mailed_again_at_once(live: Any) -> None:
    for _ in range(3):
        live.client.post("/subscribe", data=GOOD)
        live.clock.advance(minutes=2)
    assert len(live.outbox()) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
    ],
)
def test_another_sites_page_cannot_send_the_form(live: Any, headers: dict[str, str]) -> None:
    assert live.client.post("/subscribe", data=GOOD, headers=headers).status_code == 403
    assert live.outbox() == []


def test_the_sites_own_page_can(live: Any) -> None:
    own = {"Origin": live.url, "Sec-Fetch-Site": "same-origin"}
    assert live.client.post("/subscribe", data=GOOD, headers=own).status_code == 200


def test_an_old_confirmation_is_gone_and_a_wrong_one_unknown(live: Any) -> None:
    live.client.post("/subscribe", data=GOOD)
    path = confirm_path(live)
    assert live.client.get(path[:-1]).status_code == 404
    live.clock.advance(days=8)
    assert live.client.get(path).status_code == 410
    assert live.client.post(path).status_code == 410
    assert live.row(1).state == "pending"


def test_a_token_for_one_purpose_opens_no_other(live: Any) -> None:
    person = live.person()
    for_preferences = timed_token(live.workspace.key, "preferences", person, live.clock.now())
    confirm = timed_token(live.workspace.key, "confirm", person, live.clock.now())
    assert live.client.get(f"/confirm/{for_preferences}").status_code == 404
    assert live.client.get(f"/confirm/{live.token(person)}").status_code == 404
    assert live.client.get(f"/preferences/{confirm}").status_code == 404
    assert live.client.get(f"/unsubscribe/{confirm}").status_code == 404
    assert live.client.get(f"/r/{live.token(person)}").status_code == 404
