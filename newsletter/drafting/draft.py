"""New drafts: an `issue.md` that a person can read and edit, made from chosen content."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

from newsletter.clock import Clock
from newsletter.content import ContentItem, Tip, excerpt, is_blocked, load_item
from newsletter.drafting.choose import EXCERPTS, REPEAT_AFTER, TIPS, Chosen, choose_content
from newsletter.drafting.files import create_issue, issue_path
from newsletter.drafting.parse import parse_issue, walk
from newsletter.drafting.wording import (
    Wording,
    as_markdown,
    as_value,
    defused,
    listed,
    quoted,
    shortened,
    wording,
    yaml_line,
)
from newsletter.errors import BadInput, Conflict, DoesNotHold, Where
from newsletter.store import Store
from newsletter.workspace import Workspace

WORDS = 60  # of an excerpt

_SUBJECT_WIDTH = 70
_PREHEADER_WIDTH = 110
_WHOLE_TIP = 90  # words up to which a tip is shown whole


@dataclass(frozen=True, slots=True)
class Drafted:
    """`path` is relative to the workspace; `blocks` are (type, content id), in order."""

    issue: str
    path: str
    blocks: tuple[tuple[str, str], ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """The content used, each once."""
        return tuple(dict.fromkeys(source for _, source in self.blocks))


def draft_issue(
    workspace: Workspace,
    store: Store,
    clock: Clock,
    slug: str,
    *,
    subject: str | None = None,
    sources: Sequence[str] = (),
    auto: bool = False,
    words: int = WORDS,
    template: str = "default",
    audience: str = "all",
    topics: Collection[str] = (),
    excerpts: int = EXCERPTS,
    tips: int = TIPS,
    repeat_after: timedelta = REPEAT_AFTER,
    chosen: Chosen | None = None,
) -> Drafted:
    """Write a new issue from `sources` (content ids in order), from `chosen`, or by `auto`.

    With `auto`, unsent content fills what `sources` leave free. Raises `Conflict` if the issue
    exists, `NotFound` for an unknown id, `DoesNotHold` where content is recalled, past its review
    or missing, `BadInput` for a wrong slug or subject.
    """
    path = issue_path(workspace, slug)
    if path.exists():
        raise Conflict(
            f"the issue {slug!r} exists already",
            where=Where(workspace.relative(path)),
            hint="Edit it, or choose another name.",
        )
    named = [_usable(workspace, clock, source) for source in dict.fromkeys(sources)]
    articles = [item for item in named if item.kind == "article"]
    shown_tips: list[ContentItem | Tip] = [item for item in named if item.kind == "tip"]
    if auto:
        chosen = choose_content(
            workspace,
            store,
            clock,
            excerpts=max(0, excerpts - len(articles)),
            tips=max(0, tips - len(shown_tips)),
            topics=topics,
            repeat_after=repeat_after,
            exclude=tuple(sources),
        )
    if chosen:
        articles += chosen.articles
        shown_tips += chosen.tips
    if not articles and not shown_tips and (auto or subject is None):
        raise _nothing(auto)
    text = _Draft(workspace, articles, shown_tips, words).write(subject, template, audience)
    return _create(workspace, slug, text)


def _nothing(auto: bool) -> BadInput | DoesNotHold:
    if auto:
        return DoesNotHold(
            "there is no unsent content",
            hint="Add some with `newsletter content add SOURCE`, or name it with --from ID,ID.",
        )
    return BadInput(
        "an issue is made from content or begins with a subject",
        hint="Name content with --from ID,ID, let --auto choose it, or give a --subject.",
    )


def _usable(workspace: Workspace, clock: Clock, source: str) -> ContentItem:
    item = load_item(workspace, source, where=None)
    today = clock.now().astimezone(workspace.settings.site.zone).date()
    if reason := is_blocked(item, today):
        raise DoesNotHold(
            reason, where=Where(item.file), hint="Choose other content, or review it."
        )
    return item


def _create(workspace: Workspace, slug: str, text: str) -> Drafted:
    path = issue_path(workspace, slug)
    file = workspace.relative(path)
    issue = parse_issue(text, slug, path, file)  # a wrong --subject or --template shows here
    create_issue(workspace, slug, text)
    return Drafted(
        issue=slug,
        path=file,
        blocks=tuple(
            (block.type, block.attributes["from"])
            for block in walk(issue.blocks)
            if "from" in block.attributes
        ),
    )


class _Draft:
    """The text of one new issue."""

    def __init__(
        self,
        workspace: Workspace,
        articles: Sequence[ContentItem],
        tips: Sequence[ContentItem | Tip],
        words: int,
    ) -> None:
        self.site = workspace.settings.site
        self.say: Wording = wording(self.site.language)
        self.articles = articles
        self.tips = tips
        self.words = words

    def write(self, subject: str | None, template: str, audience: str) -> str:
        if subject is not None and len(subject.splitlines()) > 1:
            raise BadInput("the subject has a line break in it", hint="Write it on one line.")
        titles = [item.title for item in self.articles] or [tip.title for tip in self.tips]
        made = shortened(as_value(titles[0]), _SUBJECT_WIDTH) if titles else ""
        front = [
            "---",
            yaml_line("subject", made if subject is None else subject.strip()),
            yaml_line("preheader", self._preheader(titles)),
            yaml_line("template", template) if template != "default" else "template: default",
            yaml_line("audience", audience) if audience != "all" else "audience: all",
            "---",
        ]
        blocks = [self.say.greeting]
        if titles:
            blocks.append(self._intro(titles))
        blocks += [self._excerpt(item) for item in self.articles]
        if self.tips:
            blocks.append(f"## {self.say.tips[len(self.tips) > 1]}")
            blocks += [self._tip(tip) for tip in self.tips]
        if self.site.base_url:
            button = (
                f"::: button {{href={quoted(self.site.base_url + '/')}}}\n{self.say.button}\n:::"
            )
            blocks += ["::: divider\n:::", self.say.updates, button]
        return "\n".join(front) + "\n" + "\n\n".join(blocks) + "\n"

    def _preheader(self, titles: Sequence[str]) -> str:
        if others := titles[1:]:
            together = " · ".join(as_value(title).rstrip(".") for title in others)
            return shortened(self.say.preheader.format(titles=together), _PREHEADER_WIDTH)
        if self.articles:
            first = excerpt(self.articles[0], words=self.words).sentences[:1]
            return shortened(as_value(_unmarked("".join(first))), _PREHEADER_WIDTH)
        return ""

    def _intro(self, titles: Sequence[str]) -> str:
        pieces = [f"*{as_markdown(title)}*" for title in titles]
        if self.articles and self.tips:
            several = len(self.tips) > 1
            pieces.append(self.say.and_tips[several].format(count=len(self.tips)))
        return f"{self.say.intro.format(titles=listed(pieces, self.say.last))}."

    def _excerpt(self, item: ContentItem) -> str:
        attributes = [f"from={quoted_if_needed(item.id)}", f"title={quoted(item.title)}"]
        if item.source.startswith(("https://", "http://")):
            attributes.append(f"href={quoted(item.source.partition('#L')[0])}")
        body = excerpt(item, words=self.words).text
        return f"::: excerpt {{{' '.join(attributes)}}}\n{defused(body.strip())}\n:::"

    def _tip(self, tip: ContentItem | Tip) -> str:
        if isinstance(tip, Tip):
            source, body = tip.source, tip.text
        else:
            source = tip.id
            whole = tip.words <= _WHOLE_TIP
            body = tip.body if whole else excerpt(tip, words=self.words).text
        title = "" if _same(tip.title, body) else f" title={quoted(tip.title)}"
        return f"::: tip {{from={quoted_if_needed(source)}{title}}}\n{defused(body.strip())}\n:::"


def quoted_if_needed(value: str) -> str:
    """An id as an attribute's value."""
    return value if all(c.isalnum() or c in "/-_." for c in value) else quoted(value)


def _same(title: str, body: str) -> bool:
    """Whether a title only repeats how the body begins."""
    start = title.rstrip("….").casefold()
    return _unmarked(body).casefold().startswith(start)


def _unmarked(markdown: str) -> str:
    """Markdown without its marks, as far as a preheader shows it."""
    return markdown.translate(str.maketrans("", "", "*_`#\\"))
