"""Colours of the pages: the theme's, and those that only a form needs, all readable (WCAG AA).

The arithmetic of contrast is the mail's own; nothing here knows templates.
"""

from __future__ import annotations

from dataclasses import dataclass

from newsletter.rendering.theme import AA, Palette, contrast, derive, mix, on, readable
from newsletter.settings import Theme

SHAPE = 3.0  # WCAG 2.2, 1.4.11: buttons and borders of fields
STRONG = 7.0
_DANGER = "#b3261e"


@dataclass(frozen=True, slots=True)
class Colours:
    """One scheme, each as #rrggbb."""

    background: str
    surface: str
    text: str
    muted: str  # secondary text, readable on every ground
    line: str  # decoration
    border: str  # of fields
    accent: str  # links and small headings, readable as text
    button: str
    on_button: str
    tint: str  # a breath of the accent over the background
    danger: str


@dataclass(frozen=True, slots=True)
class Schemes:
    light: Colours
    dark: Colours


def schemes(theme: Theme) -> Schemes:
    """The light scheme is the theme's own; the dark one keeps its accent's hue."""
    look = derive(theme)
    return Schemes(_colours(look.light, theme.accent), _colours(look.dark, theme.accent))


def _colours(base: Palette, accent: str) -> Colours:
    tint = mix(base.background, accent, 0.10)
    grounds = (base.background, base.surface, tint)
    button = readable(accent, *grounds, least=SHAPE)
    on_button = on(button)
    if contrast(on_button, button) < AA:
        button = readable(button, on_button)
    return Colours(
        background=base.background,
        surface=base.surface,
        text=readable(base.text, *grounds, least=STRONG),
        muted=readable(base.muted, *grounds),
        line=mix(base.surface, base.text, 0.14),
        border=readable(mix(base.surface, base.text, 0.45), *grounds, least=SHAPE),
        accent=readable(accent, *grounds),
        button=button,
        on_button=on_button,
        tint=tint,
        danger=readable(_DANGER, *grounds),
    )
