"""Archive, feed, images, tracking, webhooks and monitoring over real HTTP."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import orjson
import pytest
from sqlalchemy import insert, select, text

from newsletter.store.schema import clicks, events, frozen_issues, media, opens
from newsletter.tokens import link_token, timed_token

ATOM = "{http://www.w3.org/2005/Atom}"
BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari"}
LINK = "00112233445566aa"


def click_path(live: Any, recipient: str = "") -> str:
    token = link_token(live.workspace.key, bytes.fromhex(LINK))
    return f"/r/{token}.{recipient}" if recipient else f"/r/{token}"


def rows(live: Any, table: Any) -> list[Any]:
    with live.store.read() as connection:
        return list(connection.execute(select(table)))


def test_the_archive_shows_what_was_sent_and_nothing_else(live: Any) -> None:
    live.issue("sent-one", title="Sent <one> & all")
    live.issue("planned", state="scheduled")
    live.issue("held-one", state="held")
    page = live.client.get("/archive")
    assert "Sent &lt;one&gt; &amp; all" in page.text
    assert "planned" not in page.text
    assert live.client.get("/archive/sent-one").text.count("sent-one web") == 1
    for slug in ("planned", "held-one", "unknown", "Sent-One"):
        assert live.client.get(f"/archive/{slug}").status_code == 404


def test_an_issue_is_public_as_soon_as_something_may_have_left(live: Any) -> None:
    send = live.issue("going", state="sending")
    assert live.client.get("/archive/going").status_code == 404
    insert_attempt = text(
        "INSERT INTO attempts (id, send_id, batch, number, provider, positions, body_sha256,"
        " state, started_at) VALUES ('a', :send, 1, 1, 'main', '[]', '', 'started', 1)"
    )
    with live.store.begin() as connection:
        connection.execute(insert_attempt, {"send": send})
    assert live.client.get("/archive/going").status_code == 200


def test_a_test_messages_link_opens_the_unsent_web_version(live: Any) -> None:
    live.issue("draft-one", state="scheduled")
    live.issue("other", state="scheduled")
    frozen = rows(live, frozen_issues)[0].sha256
    token = timed_token(live.workspace.key, "draft", frozen, live.clock.now())
    answer = live.client.get(f"/archive/draft-one?draft={token}")
    assert answer.status_code == 200
    assert "noindex" in answer.headers["x-robots-tag"]
    assert live.client.get(f"/archive/other?draft={token}").status_code == 404
    live.clock.advance(days=31)
    assert live.client.get(f"/archive/draft-one?draft={token}").status_code == 410


def test_the_archive_turns_pages(live: Any) -> None:
    for number in range(32):
        live.issue(f"issue-{number}")
        live.clock.advance(days=7)
    first, second = live.client.get("/archive"), live.client.get("/archive?page=2")
    assert first.text.count("<article") == 30
    assert second.text.count("<article") == 2
    assert "issue-31" in first.text
    assert "issue-0" in second.text


def test_the_feed_is_valid_atom_and_the_same_bytes_each_time(live: Any) -> None:
    live.issue("one", title="A & <b>")
    live.clock.advance(days=7)
    live.issue("two")
    answer = live.client.get("/feed.xml")
    assert answer.headers["content-type"].startswith("application/atom+xml")
    root = ElementTree.fromstring(answer.content)
    assert root.tag == f"{ATOM}feed"
    assert root.findtext(f"{ATOM}updated") == "2026-12-01T09:00:00Z"
    entries = root.findall(f"{ATOM}entry")
    assert [entry.findtext(f"{ATOM}title") for entry in entries] == ["two", "A & <b>"]
    for link in root.iter(f"{ATOM}link"):
        assert link.get("href", "").startswith("http://127.0.0.1:8000/")
    assert live.client.get("/feed.xml").content == answer.content


def test_the_feed_is_not_sent_again_to_who_has_it(live: Any) -> None:
    live.issue("one")
    got = live.client.get("/feed.xml")
    for asked in (
        {"If-None-Match": got.headers["etag"]},
        {"If-None-Match": f'"x", W/{got.headers["etag"]}'},
        {"If-Modified-Since": got.headers["last-modified"]},
    ):
        assert live.client.get("/feed.xml", headers=asked).status_code == 304
    for asked in ({"If-None-Match": '"x"'}, {"If-Modified-Since": "nonsense"}):
        assert live.client.get("/feed.xml", headers=asked).status_code == 200


def test_an_image_is_served_as_it_was_kept_for_good(live: Any) -> None:
    name = hashlib.sha256(b"png").hexdigest()
    with live.store.begin() as connection:
        connection.execute(
            insert(media).values(
                sha256=name,
                extension="png",
                content_type="image/png",
                bytes=b"png",
                created_at=live.clock.now(),
            )
        )
    answer = live.client.get(f"/media/{name}.png")
    assert (answer.content, answer.headers["content-type"]) == (b"png", "image/png")
    assert "immutable" in answer.headers["cache-control"]
    assert live.client.get(f"/media/{name}.html").status_code == 404


def test_an_anonymous_click_is_counted_and_leads_to_no_person(live: Any) -> None:
    live.link(LINK, "https://example.com/a?b=1")
    answer = live.client.get(click_path(live, live.token(live.person())), headers=BROWSER)
    assert answer.status_code == 302
    assert answer.headers["location"] == "https://example.com/a?b=1"
    assert answer.headers["cache-control"] == "no-store"
    (click,) = rows(live, clicks)
    assert (click.machine, click.send_id, click.subscriber_id) == (False, None, None)


def test_head_and_scanners_are_no_readers(live: Any) -> None:
    live.link(LINK, "https://example.com/")
    assert live.client.head(click_path(live)).status_code == 302
    assert rows(live, clicks) == []
    live.client.get(click_path(live), headers={"User-Agent": "Barracuda Sentinel"})
    assert [click.machine for click in rows(live, clicks)] == [True]


def test_a_link_that_no_issue_had_is_no_redirect(live: Any) -> None:
    assert live.client.get(click_path(live)).status_code == 404
    assert live.client.get("/r/https:%2f%2fevil.example").status_code == 404


def test_a_link_whose_recipient_was_changed_is_a_bad_link(live: Any) -> None:
    live.link(LINK, "https://example.com/")
    for recipient in ("x", live.token(live.person())[:-2] + "xx"):
        assert live.client.get(click_path(live, recipient), headers=BROWSER).status_code == 404
    assert rows(live, clicks) == []


def test_without_tracking_old_links_still_lead_on_and_nothing_is_kept(
    make_site: Callable[..., Any],
) -> None:
    live = make_site('[tracking]\nclicks = "none"\n')
    live.link(LINK, "https://example.com/")
    assert live.client.get(click_path(live), headers=BROWSER).status_code == 302
    assert rows(live, clicks) == []


def test_the_pixel_is_one_picture_and_counts_only_where_opens_are_tracked(live: Any) -> None:
    answer = live.client.get(f"/o/{live.token(live.person())}.gif", headers=BROWSER)
    assert answer.headers["content-type"] == "image/gif"
    assert len(answer.content) == 43
    assert answer.headers["cache-control"] == "no-store"
    assert rows(live, opens) == []


def hook(*items: dict[str, Any]) -> bytes:
    return orjson.dumps({"events": list(items)})


BOUNCE = {
    "id": "e1",
    "type": "bounced",
    "bounce": "hard",
    "recipient": "rosa@example.com",
    "message": "m1",
    "at": "2026-11-24T09:00:00Z",
    "reason": "no such user",
}
SIGNED = {"Authorization": "Bearer local-hook"}


def test_a_webhook_is_verified_stored_once_and_heeded(live: Any) -> None:
    person = live.person()
    body = hook(BOUNCE)
    assert live.client.post("/webhooks/main", content=body).status_code == 401
    assert live.client.post("/webhooks/nobody", content=body, headers=SIGNED).status_code == 404
    assert rows(live, events) == []
    assert live.row(person).state == "active"
    for _ in range(2):
        answer = live.client.post("/webhooks/main", content=body, headers=SIGNED)
        assert answer.status_code == 200, answer.text
    assert len(rows(live, events)) == 1
    assert live.row(person).state == "bounced"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"events": [1]}', b"\x00\xff"])
def test_an_unreadable_webhook_is_sent_back(live: Any, body: bytes) -> None:
    answer = live.client.post("/webhooks/main", content=body, headers=SIGNED)
    assert answer.status_code == 400


def test_a_webhook_is_not_acknowledged_when_it_cannot_be_stored(live: Any) -> None:
    with live.store.begin() as connection:
        connection.execute(text("DROP TABLE events"))
    answer = live.client.post("/webhooks/main", content=hook(BOUNCE), headers=SIGNED)
    assert answer.status_code == 503
    assert answer.headers["retry-after"]


def test_monitoring_sees_states_and_readiness(live: Any) -> None:
    live.person()
    live.issue("one")
    counted = live.client.get("/metrics").text
    assert 'newsletter_subscribers{state="active"} 1.0' in counted
    assert 'newsletter_sends{state="sent"} 1.0' in counted
    assert 'newsletter_deliveries{state="in_doubt"} 0.0' in counted
    assert 'newsletter_outbox_messages{state="pending"} 0.0' in counted
    assert live.client.get("/readyz").status_code == 200
    with live.store.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    assert live.client.get("/readyz").status_code == 503
    assert live.client.get("/healthz").status_code == 200
