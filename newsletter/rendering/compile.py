"""Compiles an issue: once, for every variant, into literals and merge slots.

Pure: the issue, the workspace's files and its key decide every byte. No database, no network, no
clock.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from newsletter.compiled import CompiledIssue, CompiledMessage, Recipient, join
from newsletter.drafting import Issue
from newsletter.errors import BadInput, Where
from newsletter.languages import direction
from newsletter.rendering import textpart
from newsletter.rendering.images import Images, MediaFile, Picture
from newsletter.rendering.links import Links
from newsletter.rendering.mjml import to_html
from newsletter.rendering.slots import Cutter, MergeTable, in_url, neutralise
from newsletter.rendering.templates import SUFFIX, Templates
from newsletter.rendering.text import wrap
from newsletter.rendering.theme import derive
from newsletter.rendering.views import View, Viewer, segments_of, shown
from newsletter.rendering.wording import words
from newsletter.workspace import Workspace

#: Segments that `only` blocks of one issue may name: each doubles the variants.
MOST_SEGMENTS = 4

#: What ends the addresses of a message that is nobody's.
NEUTRAL_TOKEN = "preview"  # noqa: S105  # a word in an address, which no one can act with

_LOGO_WIDTH = 240


@dataclass(frozen=True, slots=True)
class Rendered:
    """A compiled issue and the image files it refers to."""

    compiled: CompiledIssue
    media: tuple[MediaFile, ...]


def compile_issue(
    workspace: Workspace,
    issue: Issue,
    *,
    segments: Collection[str] | None = None,
    tracked: bool = True,
) -> Rendered:
    """Compile `issue`. `segments` are those that exist; `None`: not looked into.

    `tracked=False` leaves links and opens uncounted, whatever the settings say. Raises `BadInput`
    naming file and line for what cannot be rendered, template and line for a faulty template.
    """
    return _Compiler(workspace, issue, segments, tracked=tracked).run()


def neutral_recipient() -> Recipient:
    """Nobody: every field is empty, so that defaults show, and the addresses lead nowhere."""
    return Recipient(0, "", token=NEUTRAL_TOKEN)


class _Compiler:
    def __init__(
        self,
        workspace: Workspace,
        issue: Issue,
        segments: Collection[str] | None,
        *,
        tracked: bool,
    ) -> None:
        self.workspace = workspace
        self.settings = workspace.settings
        self.issue = issue
        self.base = self.settings.site.base_url
        self.table = MergeTable(self.base, issue.slug)
        self.segments = self._known_segments(segments)
        self.opens = self.settings.tracking.opens if tracked else "none"
        clicks = self.settings.tracking.clicks if tracked else "none"
        key = b"" if clicks == "none" else workspace.key
        self.links = Links(clicks, self.base, issue.slug, key, self.table)
        self.direct = replace(self.links, mode="none", tracked=[])
        self.templates = Templates(workspace)
        self.language = issue.language or self.settings.site.language
        self.words = words(self.language, neutralise(self.settings.site.name))
        self.subject = self.table.mark(issue.subject, issue.where("subject"))
        self.preheader = self.table.mark(issue.preheader, issue.where("preheader"))

    def _known_segments(self, known: Collection[str] | None) -> tuple[str, ...]:
        found = segments_of(self.issue.blocks)
        for name, block in found.items():
            if name == "all":
                raise BadInput(
                    "an `only` block for `all`, who are everybody",
                    where=self.issue.where(block.line),
                    hint="Leave the block's fences out, or name a segment.",
                )
            if known is not None and name not in known:
                raise BadInput(
                    f"no such segment: {name!r}",
                    where=self.issue.where(block.line),
                    hint=f"Segments: {', '.join(sorted(known)) or 'none yet'}.",
                )
        if len(found) > MOST_SEGMENTS:
            raise BadInput(
                f"`only` blocks for {len(found)} segments; an issue may have {MOST_SEGMENTS}",
                where=self.issue.where(list(found.values())[MOST_SEGMENTS].line),
                hint="Send an issue of its own to some of them.",
            )
        return tuple(sorted(found))

    def run(self) -> Rendered:
        embed = self.settings.rendering.images == "cid"
        images = Images(self.issue.folder, self.base, embed)
        viewer = Viewer(self.workspace, self.issue, self.table, self.links, images)
        views = viewer.views()
        logo = self._logo(images)
        variants = {
            ",".join(names): self._message(shown(views, frozenset(names)), viewer.contents, logo)
            for count in range(len(self.segments) + 1)
            for names in combinations(self.segments, count)
        }
        web_images = Images(self.issue.folder, self.base, embed=False) if embed else images
        web = self._web(web_images)
        files = {**web_images.files, **images.files}
        media = tuple(files[sha256] for sha256 in sorted(files))
        return Rendered(self._issue(variants, web, media), media)

    def _issue(
        self, variants: dict[str, CompiledMessage], web: str, media: tuple[MediaFile, ...]
    ) -> CompiledIssue:
        sender = self.settings.sender
        return CompiledIssue(
            issue=self.issue.slug,
            language=self.language,
            title=self._plain(self.subject),
            summary=self._plain(self.preheader),
            sender_name=sender.name,
            sender_email=sender.email,
            reply_to=sender.reply_to,
            list_id=self._list_id(),
            audience=self.issue.audience,
            segments=self.segments,
            variants=variants,
            web=web,
            assets=tuple(file.asset for file in media),
            links=tuple(self.links.tracked),
            sources=self.issue.sources,
        )

    def _logo(self, images: Images) -> Picture | None:
        logo = self.settings.theme.logo
        if not logo:
            return None
        own = Images(self.workspace.root, images.base, images.embed, images.files)
        return own.picture(logo, _LOGO_WIDTH, Where("newsletter.toml"))

    def _message(
        self, views: Sequence[View], contents: Sequence[str], logo: Picture | None
    ) -> CompiledMessage:
        page = self._page(views, contents, logo, web=False)
        page = self._with_pixel(self.links.page(page))
        cutter = Cutter(self.table)
        text = textpart.write(views, self._heading(), self._footer(), self.words)
        return CompiledMessage(
            subject=cutter.text(self.subject, "header"),
            html=cutter.html(page, self._where),
            text=cutter.text(text, "text"),
            headers=tuple((name, cutter.text(value, "header")) for name, value in self._headers()),
            slots=tuple(cutter.slots),
        )

    def _web(self, images: Images) -> str:
        """The page of the web version: nobody's, with no `only` block and no counted link."""
        viewer = Viewer(self.workspace, self.issue, self.table, self.direct, images)
        views = shown(viewer.views(), frozenset())
        page = self._page(views, viewer.contents, self._logo(images), web=True)
        table = replace(self.table, public=True)
        cutter = Cutter(table)
        parts = cutter.html(page, self._where)
        nobody = neutral_recipient()
        return join(parts, CompiledMessage(tuple(cutter.slots), (), (), (), ()).values(nobody))

    @property
    def _where(self) -> Where:
        name = self.issue.template + SUFFIX
        return Where(self.templates.loader.files.get(name, name))

    def _page(
        self,
        views: Sequence[View],
        contents: Sequence[str],
        logo: Picture | None,
        *,
        web: bool,
    ) -> str:
        where = self.issue.where("template")
        source = self.templates.render(
            self.issue.template, self._values(views, logo, web=web), where
        )
        return to_html(source, contents, self.templates.where, self._where)

    def _values(self, views: Sequence[View], logo: Picture | None, *, web: bool) -> dict[str, Any]:
        """What a template sees; docs/templates.md describes it."""
        settings = self.settings
        return {
            "site": {
                "name": neutralise(settings.site.name),
                "base_url": self.base,
                "postal_address": neutralise(settings.site.postal_address),
            },
            "issue": {
                "slug": self.issue.slug,
                "subject": self.subject,
                "preheader": self.preheader,
                "language": self.language,
                "direction": direction(self.language),
            },
            "links": {
                "unsubscribe": self.table.link("unsubscribe"),
                "preferences": self.table.link("preferences"),
                "web_version": self.table.link("web_version"),
                "sign_up": f"{self.base}/",
            },
            "theme": derive(settings.theme),
            "logo": logo,
            "blocks": views,
            "web": web,
            "words": self.words,
        }

    def _with_pixel(self, page: str) -> str:
        if self.opens != "individual":
            return page
        address = f"{self.base}/o/{self.table.link('token')}.gif"
        pixel = (
            f'<img src="{address}" width="1" height="1" alt="" style="display:block;border:0" />'
        )
        head, body, tail = page.rpartition("</body>")
        return head + pixel + body + tail

    def _heading(self) -> str:
        lines = (neutralise(self.settings.site.name.upper()), self.subject)
        return "\n".join(line for line in lines if line)

    def _footer(self) -> tuple[str, ...]:
        words = self.words
        lines = neutralise(self.settings.site.postal_address).splitlines()
        address = "\n".join(line.strip() for line in lines)
        return (
            wrap(words.signed_up),
            "\n".join(
                f"{said}{words.colon} {in_url(self.table.link(name))}"
                for said, name in (
                    (words.unsubscribe, "unsubscribe"),
                    (words.preferences, "preferences"),
                    (words.web_version, "web_version"),
                )
            ),
            f"{words.forwarded} {words.get_updated}{words.yourself}{words.colon} {self.base}/",
            wrap(address) if address else "",
        )

    def _headers(self) -> list[tuple[str, str]]:
        unsubscribe = f"<{self.table.link('unsubscribe')}>"
        if mailbox := self.settings.sender.unsubscribe_mailbox:
            token = self.table.link("token")
            unsubscribe += f", <mailto:{mailbox}?subject=unsubscribe%20{token}>"
        return [
            ("List-Id", self._list_id()),
            ("List-Unsubscribe", unsubscribe),
            ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
        ]

    def _list_id(self) -> str:
        """RFC 2919: the list's name and an identifier under the sender's domain."""
        domain = self.settings.sender.email.rpartition("@")[2] or "localhost"
        name = neutralise(self.settings.site.name).replace("\\", "").replace('"', "")
        return f'"{name}" <newsletter.{domain}>' if name else f"<newsletter.{domain}>"

    def _plain(self, marked: str) -> str:
        cutter = Cutter(self.table)
        parts = cutter.text(marked, "header")
        return join(
            parts, CompiledMessage(tuple(cutter.slots), (), (), (), ()).values(neutral_recipient())
        )
