"""Renders the public pages from the package's own templates, everything escaped by default."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.background import BackgroundTask
from starlette.responses import HTMLResponse

from newsletter.settings import Settings
from newsletter.web.palette import schemes

_TEMPLATES = Path(__file__).parent / "templates"


class Pages:
    """The site's templates with its settings; the style sheet's address names its content."""

    def __init__(self, settings: Settings) -> None:
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
        self._environment.globals.update(
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
        title: str,
        *paragraphs: str,
        status: int = 200,
        links: tuple[tuple[str, str], ...] = (),
        headers: Mapping[str, str] | None = None,
        background: BackgroundTask | None = None,
    ) -> HTMLResponse:
        """A page that only says something; `links` are (address, words)."""
        return self.page(
            "notice.html.j2",
            status=status,
            headers=headers,
            background=background,
            title=title,
            paragraphs=paragraphs,
            links=links,
        )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
