"""Whatever a value holds, it stays in its place: the tags, attributes and headers do not change."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from html.parser import HTMLParser
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from newsletter.compiled import CompiledIssue, Recipient
from newsletter.drafting import Issue
from newsletter.rendering import compile_issue, compose, eml_bytes
from newsletter.workspace import Workspace

BODY = """
Text {{ subscriber.fields.x }} and **{{ subscriber.fields.x | upper }}** `{{ subscriber.fields.x }}`

[words {{ subscriber.fields.x }}](https://a.example/p/{{ subscriber.fields.x }}?q={{ subscriber.fields.x }}
 "title {{ subscriber.fields.x }}")

::: image {src="https://cdn.example/a.png" alt="{{ subscriber.fields.x }}" href="https://b.example/?{{ subscriber.fields.x }}"}
:::

::: button {href="https://c.example/#{{ subscriber.fields.x }}"}
Go {{ subscriber.fields.x }}
:::

::: quote {by="{{ subscriber.fields.x }}"}
> {{ subscriber.fields.x }}

- {{ subscriber.fields.x }}
:::
"""  # noqa: E501  # attributes stand on one line

HOSTILE = [
    '"><script>alert(1)</script>',
    "'\"<!--",
    "--><img src=x onerror=alert(1)>",
    "<![endif]-->",
    "</title></style></td></table>",
    "javascript:alert(1)",
    "{{ subscriber.email }}{% for %}",
    "\U000f0000\U00100000\x00\x1b\u2028",
    "&lt;&#60;&amp",
    "a\r\nBcc: x@y.example\r\n\r\nbody",
]


@dataclass
class Skeleton(HTMLParser):
    """The tags and the names of their attributes, in order."""

    tags: list[object] = field(default_factory=list)
    values: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        HTMLParser.__init__(self)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, [name for name, _ in attrs]))
        self.values += [value for name, value in attrs if name in ("href", "src") and value]

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(tag)

    def handle_comment(self, data: str) -> None:
        self.tags.append(("comment", data))


def skeleton(page: str) -> Skeleton:
    found = Skeleton()
    found.feed(page)
    found.close()
    return found


class Quiet(CompiledIssue):
    """A compiled issue that a failing example does not print whole."""

    __repr__ = object.__repr__


@pytest.fixture
def compiled(workspace: Workspace, write_issue: Callable[..., Issue]) -> CompiledIssue:
    issue = write_issue(BODY, subject="For {{ subscriber.fields.x }}")
    made = compile_issue(workspace, issue).compiled
    return Quiet(**{item.name: getattr(made, item.name) for item in fields(made)})


def person(value: str) -> Recipient:
    return Recipient(1, "a@b.example", value, value, {"x": value}, "TOKEN")


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    value=st.one_of(st.text(st.characters(codec="utf-8"), max_size=60), st.sampled_from(HOSTILE))
)
@example(HOSTILE[0])
@example(HOSTILE[2])
@example(HOSTILE[7])
def test_no_value_leaves_its_place(compiled: CompiledIssue, value: str) -> None:
    plain = compiled.variants[""].render(person("MARK"))
    content = compiled.variants[""].render(person(value))
    expected, found = skeleton(plain.html), skeleton(content.html)
    if found.tags != expected.tags:
        pytest.fail("the tags or their attributes have changed")
    assert found.values == [
        address.replace("MARK", quote(value, safe="")) for address in expected.values
    ]
    assert content.text.count("\n") == plain.text.count("\n")
    assert not any(character in content.subject for character in "\r\n\x00")


@pytest.mark.parametrize("value", HOSTILE)
def test_no_value_adds_a_header_or_a_part(compiled: CompiledIssue, value: str) -> None:
    def outline(content: bytes) -> list[bytes]:
        head = content.partition(b"\r\n\r\n")[0]
        names = [line.partition(b":")[0] for line in head.split(b"\r\n") if line[:1] not in b" \t"]
        return [*names, *(line for line in content.split(b"\r\n") if line.startswith(b"Content-"))]

    plain = eml_bytes(compose(compiled, person("x")))
    assert outline(eml_bytes(compose(compiled, person(value)))) == outline(plain)


WORDS = st.text(
    alphabet=st.sampled_from(list("ab *_`#>-[]()!<&\"'\\|~:.1\n\t\r\u00e9\u05d0\u200d")),
    max_size=80,
)


@pytest.mark.slow
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(words=WORDS)
@example("<script>x</script>")
@example("&#xF0000;&#x100000;\U00100001")
def test_no_draft_breaks_the_page(
    workspace: Workspace, write_issue: Callable[..., Issue], words: str
) -> None:
    issue = write_issue("Text")
    block = issue.blocks[0]
    odd = replace(issue, blocks=(replace(block, body=f"Start {words}\n\nEnd"),))
    page = compile_issue(workspace, odd).compiled.web
    stack: list[str] = []
    void = {"meta", "br", "img", "hr"}

    class Balance(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag not in void:
                stack.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert stack.pop() == tag

    balance = Balance()
    balance.feed(page)
    assert not stack
    assert "<script" not in page
    assert "Start" in html.unescape(page)
