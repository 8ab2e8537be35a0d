"""Text stays readable whatever colours a publisher chooses, in light and in dark."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from newsletter.rendering.theme import AA, Palette, contrast, derive, mix
from newsletter.settings import Theme

COLOURS = st.integers(0, 0xFFFFFF).map(lambda number: f"#{number:06x}")


def assert_readable(palette: Palette) -> None:
    for text, ground in (
        (palette.text, palette.surface),
        (palette.heading, palette.surface),
        (palette.link, palette.surface),
        (palette.link, palette.tint),
        (palette.muted, palette.surface),
        (palette.muted, palette.background),
        (palette.on_accent, palette.accent),
        (palette.on_tint, palette.tint),
        (palette.tint_label, palette.tint),
    ):
        assert contrast(text, ground) >= AA, (palette, text, ground)


@given(accent=COLOURS, text=COLOURS)
def test_every_accent_and_text_colour_is_made_readable(accent: str, text: str) -> None:
    look = derive(Theme(accent=accent, text=text))
    assert_readable(look.light)
    assert_readable(look.dark)


def test_the_default_theme_keeps_the_publishers_accent() -> None:
    look = derive(Theme())
    assert_readable(look.light)
    assert_readable(look.dark)
    assert look.light.accent == look.light.link == "#a8455f"


def test_a_dark_surface_gets_light_text() -> None:
    assert_readable(derive(Theme(surface="#101010", background="#000000")).light)


def test_contrast_is_wcags() -> None:
    assert contrast("#000000", "#ffffff") == 21
    assert round(contrast("#777777", "#ffffff"), 2) == 4.48
    assert mix("#000000", "#ffffff", 0.5) == "#808080"
