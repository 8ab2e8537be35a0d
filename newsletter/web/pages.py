"""Renders the public pages from the package's own templates, everything escaped by default."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.background import BackgroundTask
from starlette.responses import HTMLResponse

from newsletter.settings import Settings
from newsletter.web.palette import schemes
from newsletter.web.words import Notice, page_words

_TEMPLATES = Path(__file__).parent / "templates"


class Pages:
    """The site's templates with its settings, in its language.

    The style sheet's address names its content.
    """

    def __init__(self, settings: Settings) -> None:
        self._site = settings.site
        self.words = page_words(settings.site.language)
        self._environment = Environment(
            loader=FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        colours = schemes(settings.theme)
        self.style_sheet = self._environment.get_template("site.css.j2").render(
            theme=settings.theme, light=colours.light, dark=colours.dark
        )
        self.icon = self._environment.get_template("icon.svg.j2").render(
            letter=(settings.site.name.removeprefix("The ").strip() or "N")[0].upper(),
            colours=colours.light,
            font=settings.theme.heading_font,
        )
        self.style_address = f"/assets/{_digest(self.style_sheet)}.css"
        self.icon_address = f"/assets/{_digest(self.icon)}.svg"
        self._environment.filters.update(named=self.named, linked=_linked, day=self._day)
        self._environment.globals.update(
            words=self.words,
            site=settings.site,
            base_url=settings.site.base_url,
            style_address=self.style_address,
            icon_address=self.icon_address,
            theme_color=settings.theme.background,
        )

    def text(self, template: str, values: Mapping[str, Any]) -> str:
        return self._environment.get_template(template).render(values)

    def page(
        self,
        template: str,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        background: BackgroundTask | None = None,
        **values: Any,
    ) -> HTMLResponse:
        """An answer made from `template`; `values` are its variables, escaped where they stand."""
        return HTMLResponse(
            self.text(template, values), status, headers=headers, background=background
        )

    def notice(
        self,
        words: Notice,
        *addresses: str,
        status: int = 200,
        code: str = "",
        headers: Mapping[str, str] | None = None,
        background: BackgroundTask | None = None,
    ) -> HTMLResponse:
        """A page that only says something; `addresses` are those of its links, in their order."""
        return self.page(
            "notice.html.j2",
            status=status,
            headers=headers,
            background=background,
            code=code,
            title=words.title,
            paragraphs=words.paragraphs,
            links=tuple(zip(addresses, words.links, strict=True)),
        )

    def named(self, text: str) -> str:
        """Fixed words with the site's name in its place."""
        frame = self.words.frame
        return text.format(
            name=self._site.name or frame.this_newsletter,
            title=self._site.name or frame.our_newsletter,
        )

    def _day(self, moment: datetime) -> str:
        return self.words.dates.write(moment.astimezone(self._site.zone))


def _linked(text: str, address: str) -> Markup:
    """The words in `[brackets]` become a link."""
    before, _, rest = text.partition("[")
    label, _, after = rest.partition("]")
    return Markup('{}<a href="{}">{}</a>{}').format(before, address, label, after)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
