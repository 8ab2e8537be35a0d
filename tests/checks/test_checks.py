"""Each rule of the checks: what makes it speak, where it points, and what keeps it quiet."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from newsletter.audience.people import add
from newsletter.checks import (
    COMPILED_RULES,
    DRAFT_RULES,
    Finding,
    check_compiled,
    check_issue,
)
from newsletter.checks.claims_rules import find_absolutes
from newsletter.checks.link_rules import what_is_wrong
from newsletter.checks.reading import OWN_LINK, VALUE, Passage
from newsletter.clock import Clock
from newsletter.compiled import CompiledIssue
from newsletter.drafting import load_issue
from newsletter.errors import BadInput, NotFound
from newsletter.rendering import compile_issue
from newsletter.store import Store
from newsletter.workspace import Workspace
from support.site import SETTINGS

FRONT = {"subject": '"A fine subject"', "preheader": '"What is in it"'}


def write(workspace: Workspace, body: str = "Hello, reader.\n", **front: str) -> Path:
    """An issue `spring`; its body starts after one line a key and two fences."""
    folder = workspace.issues / "spring"
    folder.mkdir(exist_ok=True)
    lines = [f"{key}: {value}" for key, value in {**FRONT, **front}.items() if value]
    text = "\n".join(["---", *lines, "---", body])
    (folder / "issue.md").write_text(text, encoding="utf-8")
    return folder


def picture(path: Path, size: tuple[int, int] = (8, 8)) -> None:
    Image.new("RGB", size, "pink").save(path)


@pytest.fixture
def person(workspace: Workspace, sqlite_store: Store, clock: Clock) -> Callable[..., None]:
    def one(email: str, **values: Any) -> None:
        with sqlite_store.begin() as connection:
            add(connection, workspace.key, email, now=clock.now(), consent="asked", **values)

    return one


@pytest.fixture
def check(
    workspace: Workspace, sqlite_store: Store, clock: Clock, person: Callable[..., None]
) -> Callable[..., dict[str, Finding]]:
    """Check the issue offline, with Ada as its audience; findings by rule, one a rule."""
    person("ada@reader.example", first_name="Ada", fields={"skin": "dry"})

    def run(within: Workspace = workspace, **options: Any) -> dict[str, Finding]:
        options = {"offline": True, **options}
        findings = check_issue(within, sqlite_store, clock, "spring", **options)
        return {finding.rule: finding for finding in findings}

    return run


Check = Callable[..., dict[str, Finding]]


def at(finding: Finding) -> tuple[str, int | None]:
    return finding.severity, finding.line


def test_a_good_issue_has_no_finding(workspace: Workspace, check: Check) -> None:
    folder = write(
        workspace,
        'Hello {{ subscriber.first_name | default("there") }}, [edit]({{ links.preferences }})\n\n'
        '::: image {src=a.png alt="A towel" href="https://a.example/?e={{ subscriber.email }}"}\n'
        ":::\n\n"
        "::::: columns\n:::: column\n::: tip\nWear *SPF*.\n:::\n::::\n:::: column\n"
        "[Call](tel:+44-20-1), [write](mailto:a@b.example), <https://b.example/ü?q=1#x>\n::::\n:::::\n\n"
        "::: quote {by=Ada}\nLovely & <3.\n:::\n\n"
        "::: button {href=http://127.0.0.1:8000/}\nGet updated\n:::\n",
    )
    picture(folder / "a.png")
    assert check() == {}


def test_every_rule_says_who_demands_it_and_what_to_do() -> None:
    rules = [*DRAFT_RULES, *COMPILED_RULES]
    assert len({rule.name for rule in rules}) == len(rules)
    assert all(rule.source and rule.hint and "." in rule.name for rule in rules)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('name = "Glow Letter"\nbase_url', "base_url", "site.name is not set"),
        ('base_url = "http://127.0.0.1:8000"\n', "", "site.base_url is not set"),
        ('postal_address = "Glow Letter Ltd, 1 Rose Lane, London E1 6AN"\n', "", "postal_address"),
        ('email = "hello@glow.example"\n', "", "sender.email is not set"),
        ('name = "Glow Letter"\nemail', "email", "sender.name is not set"),
        (SETTINGS[SETTINGS.index("[[providers]]") :], "", "no provider is configured"),
    ],
)
def test_incomplete_settings_block(
    make_workspace: Callable[..., Workspace], check: Check, old: str, new: str, words: str
) -> None:
    assert old in SETTINGS
    incomplete = make_workspace(settings=SETTINGS.replace(old, new, 1))
    write(incomplete)
    finding = check(incomplete)["settings.complete"]
    assert words in finding.message
    assert (finding.severity, finding.file) == ("block", "newsletter.toml")


@pytest.mark.parametrize(
    ("old", "new", "rule", "severity"),
    [
        ("hello@glow.example", "hello at glow", "settings.address", "block"),
        ("editors@glow.example", "editors", "settings.address", "block"),
        ("hello@glow.example", "glow@gmail.com", "settings.sender-domain", "warn"),
        ("http://127.0.0.1:8000", "http://glow.example", "settings.base-url", "block"),
        ('kind = "mailbox"', 'kind = "pigeon"', "settings.provider", "block"),
        ('api_key = "local-key"', 'api_key = { env = "NOT_SET_X" }', "settings.provider", "warn"),
        (
            'kind = "mailbox"\nbase_url = "http://127.0.0.1:8025"\napi_key = "local-key"\n'
            'webhook_secret = "local-hook"',
            'kind = "postmark"\napi_key = { file = "newsletter.toml" }',
            "settings.base-url",
            "block",
        ),
    ],
)
def test_settings_that_would_not_deliver_are_named(
    make_workspace: Callable[..., Workspace],
    check: Check,
    old: str,
    new: str,
    rule: str,
    severity: str,
) -> None:
    assert old in SETTINGS
    wrong = make_workspace(settings=SETTINGS.replace(old, new))
    write(wrong)
    finding = check(wrong)[rule]
    assert (finding.severity, finding.file) == (severity, "newsletter.toml")


@pytest.mark.parametrize(
    ("front", "rule", "expected"),
    [
        ({"subject": '""'}, "subject.present", ("block", 2)),
        ({"subject": "x" * 79}, "subject.length", ("warn", 2)),
        ({"subject": "é" * 500}, "subject.present", ("block", 2)),
        ({"preheader": ""}, "preheader.present", ("warn", 1)),
        ({"preheader": '" "'}, "preheader.present", ("warn", 3)),
        ({"preheader": "y" * 151}, "preheader.present", ("warn", 3)),
        ({"audience": "vips"}, "audience.known", ("block", 4)),
    ],
)
def test_front_matter_that_readers_would_notice(
    workspace: Workspace,
    check: Check,
    front: dict[str, str],
    rule: str,
    expected: tuple[str, int],
) -> None:
    write(workspace, **front)
    assert at(check()[rule]) == expected


def test_a_subject_at_the_limit_is_fine_with_its_defaults_filled_in(
    workspace: Workspace, check: Check
) -> None:
    write(workspace, subject="\"{{ subscriber.first_name | default('you') }}" + "x" * 70 + '"')
    assert "subject.length" not in check()


@pytest.mark.parametrize(
    ("body", "rule", "expected"),
    [
        ("a\n\nb <b>bold</b>\n", "copy.raw-html", ("warn", 7)),
        ("a\n\n<div>\nx\n</div>\n", "copy.raw-html", ("warn", 7)),
        ("a\nb\n<!-- note -->\n", "copy.raw-html", ("warn", 7)),
        ("a <b\n> c\nIt cures.\n", "claims.absolute", ("block", 7)),
        ("a\n\n> ::: tip\n", "copy.fence", ("warn", 7)),
        ("a\n\n    ::: tip\n", "copy.fence", ("warn", 7)),
        ("a\n\n:: tip {from=x}\n", "copy.fence", ("warn", 7)),
        ("a\n\n::: tip\n:::\n", "copy.empty", ("warn", 7)),
        ("\n", "copy.empty", ("block", None)),
        ("a\n::: only {segment=vips}\nx\n:::\n", "audience.known", ("block", 6)),
        ("a\n[x](example.com)\n", "links.well-formed", ("block", 6)),
        ("a\n\n[x](javascript:alert)\n", "links.well-formed", ("block", 7)),
        ("a\n::: button {href=/local}\nGo\n:::\n", "links.well-formed", ("block", 6)),
        ("a\n![](a.png)\n", "images.alt", ("block", 6)),
        ("a\n::: image {src=a.png}\n:::\n", "images.alt", ("block", 6)),
        ('a\n::: image {src=a.png alt=""}\n:::\n', "images.alt", ("info", 6)),
        ('::: image {src=a.png alt="" href=https://a.example}\n:::\n', "images.alt", ("block", 5)),
        ("a\n![towel](b.png)\n", "images.present", ("block", 6)),
        ("a\n![towel](../../outside.png)\n", "images.present", ("block", 6)),
        ("a\n![towel](broken.png)\n", "images.present", ("block", 6)),
        ("a\n![towel](big.png)\n", "images.size", ("block", 6)),
        ("a\n![towel](https://a.example/x.png)\n", "images.remote", ("warn", 6)),
        ("a\nb\nIt cures\nmilia.\n", "claims.absolute", ("block", 7)),
        ("::: tip {title='100 % safe'}\nx\n:::\n", "claims.absolute", ("block", 5)),
        ("a\nHi {{ subscriber.last_name }}\n", "merge.values", ("block", 6)),
        ("a\n{{ subscriber.fields.skni | default('x') }}\n", "merge.values", ("warn", 6)),
    ],
)
def test_a_body_that_readers_would_notice(
    workspace: Workspace, check: Check, body: str, rule: str, expected: tuple[str, int | None]
) -> None:
    folder = write(workspace, body)
    picture(folder / "a.png")
    picture(workspace.root / "outside.png")
    (folder / "broken.png").write_bytes(b"GIF89a")
    big = Image.effect_noise((1200, 1200), 90)
    big.save(folder / "big.png")
    assert 1_000_000 < (folder / "big.png").stat().st_size < 5_000_000
    assert at(check()[rule]) == expected


def test_code_and_escaped_fences_are_left_alone(workspace: Workspace, check: Check) -> None:
    write(workspace, "```\n> ::: tip\n<b>\n```\n\n\\::: tip\n\n`<i>`\n")
    assert check() == {}


def test_fields_are_tried_against_the_real_audience(
    workspace: Workspace, check: Check, person: Callable[..., None]
) -> None:
    write(workspace, "{{ subscriber.first_name }}, {{ subscriber.fields.skin }} skin\n")
    assert "merge.values" not in check()
    for number in range(3):
        person(f"p{number}@reader.example", first_name="" if number else "Bo")
    finding = check()["merge.values"]
    assert at(finding) == ("warn", 5)
    write(workspace, "{{ subscriber.fields.skin }}\n")
    assert "fields.skin is empty for 3 of 4 people" in check()["merge.values"].message


def test_a_field_in_an_only_block_is_tried_against_that_segment(
    workspace: Workspace, check: Check, person: Callable[..., None]
) -> None:
    person("vip@reader.example", fields={"code": "7"}, segment="vips")
    write(workspace, "x\n::: only {segment=vips}\nYour code: {{ subscriber.fields.code }}\n:::\n")
    assert check() == {}
    person("vip2@reader.example", segment="vips")
    assert at(check()["merge.values"]) == ("warn", 7)


def test_fields_are_counted_alike_on_both_databases(
    workspace: Workspace, store: Store, clock: Clock
) -> None:
    with store.begin() as connection:
        for name, fields in (("a", {"skin": "dry"}), ("b", {"skin": " "}), ("c", {})):
            email = f"{name}@reader.example"
            add(connection, workspace.key, email, now=clock.now(), consent="x", fields=fields)
    write(workspace, "{{ subscriber.fields.skin }}\n")
    found = check_issue(workspace, store, clock, "spring", offline=True)
    assert [(f.rule, f.severity, f.message) for f in found] == [
        ("merge.values", "warn", "fields.skin is empty for 2 of 3 people, and has no default")
    ]


def test_nobody_to_send_to_is_a_warning(
    workspace: Workspace, sqlite_store: Store, clock: Clock
) -> None:
    write(workspace, "Hi {{ subscriber.first_name }}\n", audience="all")
    (found,) = check_issue(workspace, sqlite_store, clock, "spring", offline=True)
    assert (found.rule, found.severity, found.line) == ("audience.empty", "warn", 4)


def test_html_near_and_over_what_gmail_shows(workspace: Workspace, check: Check) -> None:
    write(workspace, "Some words of a paragraph.\n\n" * 3_500)
    assert check()["size.html"].severity == "block"


def test_a_source_recalled_after_the_draft_blocks_it_and_its_frozen_form(
    workspace: Workspace, sqlite_store: Store, clock: Clock, check: Check
) -> None:
    item = workspace.content / "articles" / "a.md"
    item.write_text("---\ntitle: A\n---\nText.\n", encoding="utf-8")
    write(workspace, "x\n\n::: excerpt {from=articles/a}\nText.\n:::\n")
    assert check() == {}
    frozen = compile_issue(workspace, load_issue(workspace, "spring")).compiled
    item.write_text("---\ntitle: A\nrecalled: wrong dose\n---\nText.\n", encoding="utf-8")
    finding = check()["sources.current"]
    assert at(finding) == ("block", 7)
    assert "wrong dose" in finding.message
    (again,) = check_compiled(workspace, sqlite_store, clock, frozen, "all")
    assert (again.rule, again.severity, again.file) == (
        "sources.current",
        "block",
        "issues/spring/issue.md",
    )
    item.unlink()
    (again,) = check_compiled(workspace, sqlite_store, clock, frozen, "all")
    assert again.severity == "warn"


def without(compiled: CompiledIssue, part: str, text: str) -> CompiledIssue:
    """The compiled issue as a template that lacks something would have made it."""
    message = compiled.variants[""]
    parts = tuple(
        piece.replace(text, "") if isinstance(piece, str) else piece
        for piece in getattr(message, part)
    )
    return replace(compiled, variants={"": replace(message, **{part: parts})})


@pytest.mark.parametrize("part", ["html", "text"])
@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("http://127.0.0.1:8000/unsubscribe/", "links.legal"),
        ("http://127.0.0.1:8000/archive/spring", "links.legal"),
        ("Rose", "postal-address.shown"),
    ],
)
def test_a_message_without_what_the_law_asks_for_is_blocked_at_the_start(
    workspace: Workspace,
    sqlite_store: Store,
    clock: Clock,
    person: Callable[..., None],
    part: str,
    text: str,
    rule: str,
) -> None:
    person("ada@reader.example")
    write(workspace)
    compiled = compile_issue(workspace, load_issue(workspace, "spring")).compiled
    assert check_compiled(workspace, sqlite_store, clock, compiled, "all") == []
    found = check_compiled(workspace, sqlite_store, clock, without(compiled, part, text), "all")
    assert [(finding.rule, finding.severity) for finding in found] == [(rule, "block")]


def test_frozen_bytes_are_tried_against_the_audience_of_the_day(
    workspace: Workspace, sqlite_store: Store, clock: Clock, person: Callable[..., None]
) -> None:
    person("ada@reader.example", first_name="Ada")
    write(workspace, "Hi {{ subscriber.first_name }}\n")
    compiled = compile_issue(workspace, load_issue(workspace, "spring")).compiled
    assert check_compiled(workspace, sqlite_store, clock, compiled, "all") == []
    person("bo@reader.example")
    (found,) = check_compiled(workspace, sqlite_store, clock, compiled, "all")
    assert (found.rule, found.severity) == ("merge.values", "warn")
    headerless = replace(compiled.variants[""], headers=())
    lost = replace(compiled, variants={"": headerless})
    rules = {f.rule for f in check_compiled(workspace, sqlite_store, clock, lost, "all")}
    assert "links.one-click" in rules


def test_words_lost_from_the_text_part_are_named_with_their_block(
    workspace: Workspace, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(workspace, "Hello.\n\n::: tip\nWear sunscreen.\n:::\n")
    assert check() == {}
    real = compile_issue

    def faulty(*args: Any, **options: Any) -> Any:
        rendered = real(*args, **options)
        lost = without(rendered.compiled, "text", "sunscreen")
        return replace(rendered, compiled=lost)

    monkeypatch.setattr("newsletter.checks.run.compile_issue", faulty)
    finding = check()["text.complete"]
    assert at(finding) == ("block", 7)
    assert "sunscreen" in finding.message


def test_marks_within_words_are_no_loss(workspace: Workspace, check: Check) -> None:
    write(workspace, "un*frigg*able, [foot](https://a.example)note, code`able`, **bo**ld.\n")
    assert check() == {}


class _Site(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(int(self.path.strip("/")))
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, *args: Any) -> None:
        return None


@pytest.fixture
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(("blocks", "severity"), [("false", "warn"), ("true", "block")])
def test_links_are_tried_unless_offline(
    make_workspace: Callable[..., Workspace], check: Check, site: str, blocks: str, severity: str
) -> None:
    extra = f"[fetch]\nallow_private = true\n[checks]\nnetwork_blocks = {blocks}\n"
    online = make_workspace(extra)
    write(online, f"[a]({site}/200)\n\n[b]({site}/404)\n\n[c](http://127.0.0.1:8000/own)\n")
    found = check(online, offline=False)
    assert at(found["links.alive"]) == (severity, 7)
    assert "404" in found["links.alive"].message
    assert "links.alive" not in check(online)
    write(online, f"[b]({site}/403)\n")
    assert check(online, offline=False)["links.alive"].severity == "info"
    write(online, "[b](http://127.0.0.1:9/)\n")
    assert check(online, offline=False)["links.alive"].severity == severity


def test_private_addresses_are_not_tried(workspace: Workspace, check: Check, site: str) -> None:
    write(workspace, f"[a]({site}/404)\n")
    assert check(offline=False)["links.alive"].severity == "info"


@pytest.mark.parametrize(
    "url",
    [
        "https://a.example",
        "http://localhost:8000/x",
        "https://[::1]/",
        "https://ü.example/ü",
        "mailto:a@b.example?subject=x",
        "tel:+44(0)20",
        OWN_LINK,
        f"https://a.example/?e={VALUE}",
        "https://a.example/a_(b)",
    ],
)
def test_addresses_that_can_be_followed(url: str) -> None:
    assert what_is_wrong(url) == ""


@pytest.mark.parametrize(
    "url",
    [
        *("", "#top", "a.html", "//a.example", "example.com", "https:", "https://", "http:///x"),
        *("https://a b.example/", "https://a.example/x y", "https://a", "https://-a.example"),
        *("https://a..b.example", "https://a.example:0", "https://a.example:99999", "https://[::1"),
        *("javascript:x", "data:text/html,x", "ftp://a.example", "file:///etc/passwd", "mailto:"),
        *("tel:now", f"{OWN_LINK}x", VALUE, "https://" + "a" * 300 + ".example", "java\tscript:x"),
    ],
)
def test_addresses_that_cannot_be_followed(url: str) -> None:
    assert what_is_wrong(url) != ""


def severities(text: str) -> list[str | None]:
    return [problem.severity for problem in find_absolutes(Passage(text, 1))]


@pytest.mark.parametrize(
    "text",
    [
        "This serum cures milia.",
        "Our cream is 100 % safe.",
        "It is 100% effective, and fast.",
        "You get guaranteed results.",
        "It has no side effects.",
        "It permanently removes every line.",
        "Microneedling can cure acne.",
        "Not only does it help, it cures acne.",
        "If acne troubles you, this cures it.",
        "Si l'acné vous gêne, elle guérit.",
        "Die Creme heilt Akne.",
        "Sie ist zu 100 % sicher.",
        "Ganz ohne Nebenwirkungen.",
        "La crème guérit l'acné.",
        "Des résultats garantis.",
    ],
)
def test_a_clear_promise_blocks(text: str) -> None:
    assert severities(text) == ["block"]


@pytest.mark.parametrize(
    "text",
    [
        "Satisfaction guaranteed.",
        "The lines vanish permanently.",
        "It is clinically proven.",
        "Der Erfolg ist garantiert.",
        "Un résultat sans risque.",
    ],
)
def test_a_word_that_may_be_harmless_warns(text: str) -> None:
    assert severities(text) == ["warn"]


@pytest.mark.parametrize(
    "text",
    [
        "However, this effect is not guaranteed.",
        "It is not a guaranteed solution for milia.",
        "There is no guarantee that it works.",
        "It isn't a cure, and nothing cures milia.",
        "It isn’t 100 % safe.",
        "No cream cures acne.",
        "It never permanently removes them.",
        "Does it cure milia?",
        "Ask whether it has no side effects.",
        "We do not know, if asked, whether it cures acne.",
        "It can secure your barrier, a procured sample.",
        "Das ist nicht garantiert.",
        "Sie heilt keine Akne.",
        "Kein Mittel heilt Milien.",
        "Ce n'est pas garanti.",
        "Elle ne guérit pas l'acné.",
        "Choose an accurate, safe and effective method.",
    ],
)
def test_what_is_denied_or_asked_is_no_claim(text: str) -> None:
    assert severities(text) == []


def test_the_sample_articles_make_no_blocking_claim() -> None:
    text = (Path(__file__).parent.parent / "data" / "seed.txt").read_text(encoding="utf-8")
    assert severities(text) == []


def test_what_cannot_be_read_or_rendered_is_an_error_not_a_finding(
    workspace: Workspace, check: Check
) -> None:
    with pytest.raises(NotFound):
        check()
    write(workspace, "::: tipp\nx\n:::\n")
    with pytest.raises(BadInput):
        check()
    write(workspace)
    (workspace.templates / "default.mjml.j2").write_text("{% broken", encoding="utf-8")
    with pytest.raises(BadInput, match="default"):
        check()


def test_the_command_prints_the_contracts_json_and_ends_with_1_on_a_block(
    workspace: Workspace, cli: Callable[..., Any]
) -> None:
    write(workspace)
    done = cli("check", "spring", "--offline", "--json", cwd=workspace)
    assert (done.code, done.json["issue"], done.json["ok"]) == (0, "spring", True)
    write(workspace, "It cures milia.\n")
    done = cli("check", "spring", "--offline", "--json", cwd=workspace)
    assert (done.code, done.json["ok"]) == (1, False)
    finding = done.json["findings"][0]
    assert set(finding) == {"rule", "severity", "message", "where", "hint", "source"}
    assert finding["where"] == {"file": "issues/spring/issue.md", "line": 5}
    shown = cli("check", "spring", "--offline", cwd=workspace)
    assert shown.code == 1
    assert "issues/spring/issue.md:5" in shown.out
    assert cli("check", "none", "--json", cwd=workspace).code == 3
    write(workspace, "{{ nope }}\n")
    broken = cli("check", "spring", "--json", cwd=workspace)
    assert (broken.code, broken.out) == (2, "")
    assert "issues/spring/issue.md:5" in broken.err
    json.dumps(done.json)
