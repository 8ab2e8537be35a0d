"""What holds for every page: headers, methods, limits, proxies, hostile input, quiet logs."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from newsletter.errors import BadInput
from newsletter.web.limits import SlidingWindow, visitor

PUBLIC = ["/", "/archive", "/feed.xml", "/healthz", "/readyz", "/metrics"]


def raw(live: Any, request: bytes) -> bytes:
    """The answer's head to bytes that no client library would send."""
    host, port = live.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request)
        return connection.recv(65536)


def token_paths(live: Any) -> list[str]:
    token = live.token(live.person())
    return [f"/unsubscribe/{token}", f"/preferences/{token}", f"/unsubscribe/{token[:-1]}"]


def test_headers_protect_every_answer(live: Any) -> None:
    for path in [*PUBLIC, "/nothing", *token_paths(live)]:
        answer = live.client.get(path)
        policy = answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in policy
        assert "script-src" not in policy
        assert "frame-ancestors 'none'" in policy
        assert "<script" not in answer.text


def test_token_pages_are_neither_indexed_nor_stored_nor_referred_from(live: Any) -> None:
    for path in token_paths(live):
        headers = live.client.get(path).headers
        assert headers["referrer-policy"] == "no-referrer"
        assert "noindex" in headers["x-robots-tag"]
        assert headers["cache-control"] == "no-store"
    assert "x-robots-tag" not in live.client.get("/archive").headers


def test_every_page_answers_head(live: Any) -> None:
    for path in [*PUBLIC, *token_paths(live)[:2]]:
        got, head = live.client.get(path), live.client.head(path)
        assert head.status_code == got.status_code
        assert head.content == b""
        assert head.headers["content-type"] == got.headers["content-type"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/subscribe", {"POST"}),
        ("POST", "/", {"GET", "HEAD"}),
        ("DELETE", "/archive", {"GET", "HEAD"}),
        ("PUT", "/unsubscribe/x", {"GET", "HEAD", "POST"}),
        ("GET", "/webhooks/main", {"POST"}),
        ("POST", "/feed.xml", {"GET", "HEAD"}),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(
    live: Any, method: str, path: str, allowed: set[str]
) -> None:
    answer = live.client.request(method, path)
    assert answer.status_code == 405
    assert set(answer.headers["allow"].replace(" ", "").split(",")) == allowed


def test_there_is_no_studio_yet_and_no_redirect_to_anything(live: Any) -> None:
    for path in ("/studio", "/archive/", "/unsubscribe/x/", "/../etc/passwd", "/assets/x.css"):
        assert live.client.get(path).status_code == 404


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [
        ("/subscribe", 1_000_001, 413),
        ("/webhooks/main", 5_000_001, 413),
        ("/webhooks/main", 1_500_000, 401),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_have_a_limit(live: Any, path: str, size: int, status: int, chunked: bool) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(0, size, 50_000):
            yield b"x" * 50_000

    answer = live.client.post(
        path,
        content=pieces() if chunked else b"x" * size,
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert answer.status_code == status
    assert live.client.get("/healthz").status_code == 200


def test_every_form_has_the_limit(live: Any) -> None:
    person = live.person()
    for path in (f"/unsubscribe/{live.token(person)}", f"/preferences/{live.token(person)}"):
        answer = live.client.post(path, content=b"a=" + b"x" * 1_100_000)
        assert answer.status_code in {413, 400}
    assert live.row(person).state == "active"


HOSTILE: list[tuple[str, bytes]] = [
    ("application/x-www-form-urlencoded", b"email=%zz%00%ff&consent=yes&first_name=%C3%28"),
    ("application/x-www-form-urlencoded", b"&&&===;;;email"),
    ("application/x-www-form-urlencoded; charset=utf-7", b"email=+ADw-"),
    ("multipart/form-data", b"no boundary"),
    ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\nv\r\n--x--"),
    ("multipart/form-data; boundary=x", b"--x\r\nbroken"),
    ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a'),
    (
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="email"; filename="f"\r\n\r\nv\r\n--x--\r\n',
    ),
    ("application/json", b'{"email": "a@b.example"}'),
    ("text/plain", b"\x00\x01\xff"),
    ("", b"\xff" * 100),
    ("application/x-www-form-urlencoded", b"email=a@b.example%0d%0aBcc:x@y.example&consent=1"),
    ("application/x-www-form-urlencoded", b"&".join(b"f%d=1" % n for n in range(2000))),
    ("application/x-www-form-urlencoded", b"email=" + b"a" * 900_000 + b"@b.example&consent=1"),
]


@pytest.mark.parametrize(("kind", "body"), HOSTILE)
def test_a_hostile_form_is_never_our_fault(live: Any, kind: str, body: bytes) -> None:
    person = live.person()
    for path in ("/subscribe", f"/preferences/{live.token(person)}"):
        headers = {"Content-Type": kind} if kind else {}
        answer = live.client.post(path, content=body, headers=headers)
        assert 400 <= answer.status_code < 500, answer.text
    answer = live.client.post("/webhooks/main", content=body, headers={"Content-Type": "x/y"})
    assert answer.status_code == 401
    assert live.outbox() == []


@pytest.mark.parametrize(
    "path",
    [
        "/archive/%00",
        "/archive/%ff",
        "/archive/..%2f..%2fetc",
        "/archive?page=-1",
        "/archive?page=99999999999999999999",
        "/archive?page=x",
        "/archive?page=%00",
        "/media/%00.png",
        "/media/" + "0" * 64 + ".png",
        "/webhooks/%00",
        "/archive/x?draft=x",
        "/%",
        "/%zz",
        "/" + "a" * 5000,
    ],
)
def test_a_hostile_address_is_never_our_fault(live: Any, path: str) -> None:
    assert live.client.get(path).status_code < 500


def test_bytes_that_are_no_request_are_refused(live: Any) -> None:
    assert b" 500 " not in raw(live, b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n")[:40]
    assert b" 400 " in raw(live, b"\x00\x01\x02\r\n\r\n")[:40]
    assert live.client.get("/healthz").status_code == 200


def test_the_pages_do_not_believe_the_host_header(live: Any) -> None:
    answer = live.client.get("/", headers={"Host": "evil.example"})
    assert "evil.example" not in answer.text


@pytest.mark.slow
def test_forwarded_headers_count_only_from_named_proxies(make_site: Callable[..., Any]) -> None:
    plain, proxied = make_site(), make_site('[web]\ntrusted_proxies = ["127.0.0.0/8"]\n')

    def last(live: Any) -> int:
        for number in range(11):
            answer = live.client.post(
                "/subscribe",
                data={"email": "x"},
                headers={"X-Forwarded-For": f"10.9.9.9, 192.0.2.{number}"},
            )
        return int(answer.status_code)

    assert last(plain) == 429, "all from one address: what the header says is not believed"
    assert last(proxied) == 400, "each from its own"


@pytest.mark.slow
def test_a_visitor_cannot_write_their_own_address_before_the_proxys(
    make_site: Callable[..., Any],
) -> None:
    live = make_site('[web]\ntrusted_proxies = ["127.0.0.1"]\n')
    for number in range(11):
        answer = live.client.post(
            "/subscribe",
            data={"email": "x"},
            headers={"X-Forwarded-For": f"192.0.2.{number}, 198.51.100.7"},
        )
    assert answer.status_code == 429


def test_a_wrong_proxy_setting_is_named(make_site: Callable[..., Any]) -> None:
    with pytest.raises(BadInput, match=r"web\.trusted_proxies"):
        make_site('[web]\ntrusted_proxies = ["proxy"]\n')


def test_no_log_has_a_token(live: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token = live.token(live.person())
    for path in (f"/unsubscribe/{token}", f"/preferences/{token}", f"/o/{token}.gif"):
        live.client.get(path)
    live.client.post(f"/unsubscribe/{token}")
    ours = [record for record in caplog.records if not record.name.startswith("http")]
    assert not any(token in record.getMessage() for record in ours)


def test_the_window_slides_and_forgets_the_oldest_keys(clock: Any) -> None:
    window = SlidingWindow(limit=2, capacity=3)
    assert [window.allow("a", clock.now()) for _ in range(3)] == [True, True, False]
    clock.advance(minutes=10)
    assert window.allow("a", clock.now())
    for key in "bcd":
        window.allow(key, clock.now())
    assert len(window._seen) == 3


def test_an_ipv6_customer_is_one_visitor() -> None:
    assert visitor("2001:db8:1:2:3::1") == visitor("2001:db8:1:2:ffff::9")
    assert visitor("2001:db8:1:2::1") != visitor("2001:db8:1:3::1")
