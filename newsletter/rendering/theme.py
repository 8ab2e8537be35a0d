"""Colours and fonts derived from the theme's settings: pure functions, WCAG contrast kept.

Whatever accent a publisher chooses, text stays readable (4.5:1) in light and in dark mode. Mail
and web pages share these values; nothing here knows templates.
"""

from __future__ import annotations

from dataclasses import dataclass

from newsletter.settings import Theme

#: WCAG 2.2 AA for text of normal size.
AA = 4.5

_WHITE = "#ffffff"
_INK = "#1c1517"

Rgb = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours of one mode as `#rrggbb`, each text colour readable on what it stands on."""

    background: str  # behind everything
    surface: str  # the sheet that the text stands on
    text: str
    heading: str
    muted: str  # small print, on surface and on background
    link: str
    accent: str  # button
    on_accent: str
    tint: str  # a tip's card
    on_tint: str
    tint_label: str  # its small heading
    line: str  # dividers


@dataclass(frozen=True, slots=True)
class Look:
    """A theme with everything that is derived from it."""

    light: Palette
    dark: Palette
    heading_font: str
    body_font: str


def derive(theme: Theme) -> Look:
    """The two palettes of a theme."""
    return Look(_light(theme), _dark(theme), theme.heading_font, theme.body_font)


def _light(theme: Theme) -> Palette:
    surface, background = theme.surface, theme.background
    text = readable(theme.text, surface)
    tint = mix(surface, theme.accent, 0.08)
    return Palette(
        background=background,
        surface=surface,
        text=text,
        heading=readable(mix(text, _INK, 0.45), surface),
        muted=readable(mix(text, surface, 0.25), surface, background),
        link=readable(theme.accent, surface, tint),
        accent=theme.accent,
        on_accent=on(theme.accent),
        tint=tint,
        on_tint=readable(text, tint),
        tint_label=readable(theme.accent, tint),
        line=mix(surface, theme.accent, 0.22),
    )


def _dark(theme: Theme) -> Palette:
    """A dark sheet with a breath of the accent; not pure black, which glares and smears."""
    background = mix("#141112", theme.accent, 0.03)
    surface = mix("#1f1a1c", theme.accent, 0.04)
    tint = mix("#2a2326", theme.accent, 0.12)
    accent = readable(theme.accent, surface, least=3.0)
    text = readable("#e9e1e3", surface, tint)
    return Palette(
        background=background,
        surface=surface,
        text=text,
        heading=readable("#fbf5f6", surface, tint),
        muted=readable("#b9adb1", surface, background),
        link=readable(theme.accent, surface, tint),
        accent=accent,
        on_accent=on(accent),
        tint=tint,
        on_tint=text,
        tint_label=readable(theme.accent, tint),
        line=mix(surface, theme.accent, 0.35),
    )


def parse(colour: str) -> Rgb:
    """`#rrggbb` as three numbers."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def mix(first: str, second: str, share: float) -> str:
    """`first` with `share` (0 to 1) of `second` in it."""
    pairs = zip(parse(first), parse(second), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def contrast(first: str, second: str) -> float:
    """The WCAG contrast ratio of two colours, 1 to 21."""
    lighter, darker = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def on(colour: str) -> str:
    """What to write in on `colour`: white where it reads well, else ink, else black."""
    return next(
        (ink for ink in (_WHITE, _INK) if contrast(ink, colour) >= AA),
        "#000000",
    )


def readable(colour: str, *grounds: str, least: float = AA) -> str:
    """`colour`, moved as little as needed towards black or white until it reads on all grounds."""
    best = colour
    for target in ("#000000", _WHITE):
        for step in range(0, 101, 2):
            candidate = mix(colour, target, step / 100)
            if min(contrast(candidate, ground) for ground in grounds) >= least:
                if best == colour or _distance(candidate, colour) < _distance(best, colour):
                    best = candidate
                break
    return best


def _distance(first: str, second: str) -> int:
    return sum(abs(a - b) for a, b in zip(parse(first), parse(second), strict=True))


def _luminance(colour: str) -> float:
    """Relative luminance as WCAG defines it."""
    red, green, blue = (_linear(channel / 255) for channel in parse(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else float(((channel + 0.055) / 1.055) ** 2.4)
