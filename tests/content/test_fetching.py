"""Fetching and feeds over real sockets: limits hold, private addresses stay closed."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from newsletter.content.adding import Added, add_content
from newsletter.content.pages import read_feed
from newsletter.content.polling import poll_feeds
from newsletter.content.reading import Document, from_answer
from newsletter.errors import BadInput, NewsletterError, Unreachable
from newsletter.fetching import Fetched, Fetcher
from newsletter.settings import Fetch
from newsletter.store import Store

Handler = Callable[[BaseHTTPRequestHandler], None]

FEED = """<?xml version="1.0"?><rss version="2.0"><channel><title>Garden</title>
<item><title>Dew</title><link>https://garden.example/dew</link><guid>1</guid>
<pubDate>Tue, 03 Nov 2026 10:00:00 GMT</pubDate><category>water</category>
<description>&lt;p&gt;Dew is water that settles at night.&lt;/p&gt;&lt;script&gt;x()&lt;/script&gt;
&lt;h2&gt;Where&lt;/h2&gt;&lt;ul&gt;&lt;li&gt;on grass&lt;/li&gt;&lt;/ul&gt;</description></item>
<item><title>Frost &amp; ice</title><link>https://garden.example/frost</link><guid>2</guid>
<description>Frost is frozen dew, and it harms young plants in April.</description></item>
</channel></rss>"""


class Server:
    """A server on the loopback; `routes` by path, `seen` are the requests with their headers."""

    def __init__(self) -> None:
        self.routes: dict[str, Handler] = {}
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        outer = self

        class Handle(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.seen.append((self.command, self.path, dict(self.headers)))
                try:
                    outer.routes[self.path](self)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handle)
        self.http.daemon_threads = True
        self.http.block_on_close = False
        self.port = self.http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.http.shutdown()
    running.http.server_close()


def answer(body: bytes | str = b"", status: int = 200, **headers: str) -> Handler:
    content = body.encode() if isinstance(body, str) else body

    def handle(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(content)

    return handle


def fetcher(**settings: Any) -> Fetcher:
    return Fetcher(Fetch(**{"allow_private": True, "timeout": "2s", **settings}))


def test_an_answer_comes_whole(server: Server) -> None:
    server.routes["/a"] = answer("hello", Content_Type="text/plain", ETag='"1"')
    got = fetcher().fetch(server.url + "/a")
    assert (got.status, got.body, got.content_type, got.etag) == (
        200,
        b"hello",
        "text/plain",
        '"1"',
    )
    server.routes["/z"] = answer(gzip.compress(b"hello" * 9), Content_Encoding="gzip")
    assert fetcher().fetch(server.url + "/z").body == b"hello" * 9


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/a",
        "http://localhost:{port}/a",
        "http://[::1]:{port}/a",
        "http://[::ffff:127.0.0.1]:{port}/a",
        "http://2130706433:{port}/a",
        "http://0.0.0.0:{port}/a",
        "http://10.0.0.1/",
        "http://192.168.1.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://100.64.0.1/",
        "http://[fe80::1]/",
        "http://[fd00::1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://224.0.0.1/",
    ],
)
def test_private_addresses_are_refused(server: Server, url: str) -> None:
    server.routes["/a"] = answer("secret")
    with pytest.raises(NewsletterError):
        fetcher(allow_private=False).fetch(url.format(port=server.port))
    assert server.seen == []


@pytest.mark.parametrize(
    "address", ["::127.0.0.1", "::ffff:0:7f00:1", "64:ff9b:1::7f00:1", "fec0::1", "2002:7f00:1::"]
)
def test_ipv6_forms_that_carry_a_private_address_are_refused(address: str) -> None:
    with pytest.raises(BadInput, match="not on the public network"):
        fetcher(allow_private=False).fetch(f"http://[{address}]/")


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://a/b", "http://", "http://a:b@c/", "x", "http://a:999999/"]
)
def test_other_addresses_are_no_web_addresses(url: str) -> None:
    with pytest.raises(BadInput):
        fetcher().fetch(url)


def test_the_checked_address_is_the_one_connected_to(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that answers differently at the second look-up gains nothing: there is none."""
    asked = []

    def look_up(host: str, *_: object, **__: object) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))]

    server.routes["/a"] = answer("hello")
    with monkeypatch.context() as patched:
        patched.setattr(
            "newsletter.fetching.socket.getaddrinfo", _once_for("rebind.example", look_up)
        )
        got = fetcher().fetch(f"http://rebind.example:{server.port}/a")
    assert got.body == b"hello"
    assert asked == ["rebind.example"]
    assert server.seen[0][2]["Host"] == f"rebind.example:{server.port}"


def _once_for(name: str, look_up: Callable[..., Any]) -> Callable[..., Any]:
    real = socket.getaddrinfo

    def choose(host: Any, *args: Any, **options: Any) -> Any:
        return look_up(host) if host == name else real(host, *args, **options)

    return choose


def test_redirects_are_checked_anew(server: Server) -> None:
    server.routes["/a"] = answer(status=302, Location="/b")
    server.routes["/b"] = answer("end")
    server.routes["/out"] = answer(status=302, Location="file:///etc/passwd")
    server.routes["/loop"] = answer(status=302, Location="/loop")
    assert fetcher().fetch(server.url + "/a").body == b"end"
    with pytest.raises(BadInput):
        fetcher().fetch(server.url + "/out")
    with pytest.raises(Unreachable, match="redirects"):
        fetcher().fetch(server.url + "/loop")


def test_size_is_limited_packed_and_unpacked(server: Server) -> None:
    bomb = gzip.compress(b"0" * 50_000_000)
    server.routes["/big"] = answer(b"x" * 20_000)
    server.routes["/bomb"] = answer(bomb, Content_Encoding="gzip")
    server.routes["/broken"] = answer(b"no gzip", Content_Encoding="gzip")
    for path in ("/big", "/bomb"):
        with pytest.raises(Unreachable, match="larger than"):
            fetcher(max_bytes=10_000).fetch(server.url + path)
    with pytest.raises(Unreachable, match="broken"):
        fetcher().fetch(server.url + "/broken")


@pytest.mark.slow
def test_a_byte_a_second_ends_in_time(server: Server) -> None:
    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        for _ in range(40):
            request.wfile.write(b"x")
            request.wfile.flush()
            time.sleep(0.2)

    def drip_head(request: BaseHTTPRequestHandler) -> None:
        for letter in b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 100:
            request.wfile.write(bytes([letter]))
            request.wfile.flush()
            time.sleep(0.2)

    server.routes["/body"], server.routes["/head"] = drip, drip_head
    for path in ("/body", "/head"):
        started = time.monotonic()
        with pytest.raises(Unreachable):
            fetcher(timeout="1s").fetch(server.url + path)
        assert time.monotonic() - started < 3


def test_dead_hosts_and_errors_are_unreachable(server: Server) -> None:
    server.routes["/404"] = answer(status=404)
    server.routes["/cut"] = lambda request: request.connection.shutdown(socket.SHUT_RDWR)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        for url in (dead, "http://no-such-host.invalid/", server.url + "/404", server.url + "/cut"):
            with pytest.raises(Unreachable):
                fetcher().fetch(url)


def test_a_probe_gives_the_status(server: Server) -> None:
    server.routes["/ok"] = answer("x")
    server.routes["/gone"] = answer(status=410)

    def no_head(request: BaseHTTPRequestHandler) -> None:
        answer("x", 405 if request.command == "HEAD" else 200)(request)

    server.routes["/no-head"] = no_head
    assert fetcher().probe(server.url + "/ok") == 200
    assert fetcher().probe(server.url + "/gone") == 410
    assert fetcher().probe(server.url + "/no-head") == 200


def conditional(body: str, tag: str) -> Handler:
    def handle(request: BaseHTTPRequestHandler) -> None:
        same = request.headers.get("If-None-Match") == tag
        answer("" if same else body, 304 if same else 200, ETag=tag)(request)

    return handle


@pytest.fixture
def subscribed(server: Server, make_workspace: Any) -> Any:
    return make_workspace(
        f'[[feeds]]\nurl = "{server.url}/feed"\nevery = "1h"\n[fetch]\nallow_private = true\n'
        'timeout = "2s"\n'
    )


def test_a_feed_gives_its_entries_once(
    server: Server, subscribed: Any, store: Store, clock: Any
) -> None:
    server.routes["/feed"] = conditional(FEED, '"one"')

    def add() -> Added:
        fetch = Fetcher(subscribed.settings.fetch)
        return add_content(subscribed, store, clock, [server.url + "/feed"], fetcher=fetch)

    first = add()
    frost, dew = first.added
    assert (dew.title, frost.title) == ("Dew", "Frost & ice")
    assert dew.source == "https://garden.example/dew"
    assert (dew.topics, str(dew.published)) == (("water",), "2026-11-03")
    assert dew.body == "Dew is water that settles at night.\n\n## Where\n\n- on grass"
    second = add()
    assert (second.added, set(second.unchanged)) == ([], {dew.id, frost.id})
    assert server.seen[-1][2]["If-None-Match"] == '"one"'


def test_feeds_are_polled_when_due(
    server: Server, subscribed: Any, sqlite_store: Store, clock: Any
) -> None:
    fetch = Fetcher(subscribed.settings.fetch)
    server.routes["/feed"] = conditional(FEED, '"one"')
    assert len(poll_feeds(subscribed, sqlite_store, clock, fetch).added.added) == 2
    clock.advance(minutes=59)
    assert poll_feeds(subscribed, sqlite_store, clock, fetch).urls == []
    clock.advance(minutes=2)
    polled = poll_feeds(subscribed, sqlite_store, clock, fetch)
    assert (len(polled.urls), polled.added.added) == (1, [])
    new = FEED.replace(
        "</channel>",
        "<item><guid>3</guid><link>https://garden.example/hail</link>"
        "<title>Hail</title><description>Hail is ice.</description></item></channel>",
    )
    server.routes["/feed"] = conditional(new, '"two"')
    clock.advance(hours=1)
    assert [i.title for i in poll_feeds(subscribed, sqlite_store, clock, fetch).added.added] == [
        "Hail"
    ]
    server.routes["/feed"] = answer(status=500)
    clock.advance(hours=1)
    assert "500" in poll_feeds(subscribed, sqlite_store, clock, fetch).added.rejected[0].reason


def test_blocks_of_an_entry_do_not_glue_their_words() -> None:
    entry = (
        "<p>Sow in rows.</p><dl><dt>Dew</dt><dd>Water.</dd></dl><pre>a\nb</pre>"
        "<figure><figcaption>A bed</figcaption></figure>"
        "<table><tr><th>Plant</th><td>Leek</td></tr></table><main>End.</main>"
    )
    feed = f"<rss><channel><item><title>Rows</title><description><![CDATA[{entry}]]>"
    (page,) = read_feed(
        f"{feed}</description></item></channel></rss>".encode(), "https://g.example"
    )
    wanted = ["Sow in rows.", "Dew", "Water.", "a b", "A bed", "Plant Leek", "End."]
    assert page.text.split("\n\n")[1:] == [*wanted[:-1], wanted[-1] + "\n"]


@pytest.mark.parametrize("name", ["undefined", "idna", "base64", "nonsense"])
def test_a_name_of_no_encoding_is_passed_over(name: str) -> None:
    content = "<html><body><article><p>Été à la plage, dit-on souvent.</p></article></body></html>"
    answer = Fetched("u", 200, f"text/html; charset={name}", content.encode("cp1252"), "", "")
    (document,) = from_answer("u", answer)
    assert isinstance(document, Document)
    assert "la plage, dit-on souvent." in document.text


@pytest.mark.parametrize(
    ("encoding", "header", "head"),
    [
        ("utf-8", "text/html", ""),
        ("utf-8", "text/html; charset=iso-8859-1", ""),  # which it is not
        ("cp1252", "text/html; charset=ISO-8859-1", ""),
        ("cp1252", "text/html", "<meta charset='windows-1252'>"),
        ("cp1252", "text/plain; charset=windows-1252", None),
    ],
)
def test_an_answer_is_read_in_the_encoding_that_it_names(
    encoding: str, header: str, head: str | None
) -> None:
    text = "La crème brûlée est un dessert à base d’œufs, très apprécié en été."
    page = (
        f"<html><head>{head}</head><body><article><h1>Été</h1><p>{text}</p></article></body></html>"
    )
    content = (text if head is None else page).encode(encoding)
    answer = Fetched("https://a.example/", 200, header, content, "", "")
    (document,) = from_answer(answer.url, answer)
    assert isinstance(document, Document)
    assert text in document.text


def test_a_page_and_a_dangerous_feed(server: Server, subscribed: Any, cli: Any) -> None:
    bomb = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]><rss><channel/></rss>'
    server.routes["/bomb"] = answer(bomb, Content_Type="application/rss+xml")
    server.routes["/page"] = answer(
        "<html><head><title>Sage</title></head><body><article><h1>Sage</h1><p>Sage is a herb that"
        " grows in dry and sunny places, and it is loved by bees.</p></article></body></html>",
        Content_Type="text/html; charset=utf-8",
    )
    ran = cli(
        "content", "add", server.url + "/page", server.url + "/bomb", "--json", cwd=subscribed
    )
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert [(i["title"], i["source"]) for i in found["added"]] == [("Sage", server.url + "/page")]
    assert "document type" in found["rejected"][0]["reason"]
    alone = cli("content", "add", server.url + "/bomb", "--json", cwd=subscribed)
    assert (alone.code, alone.out) == (2, "")
