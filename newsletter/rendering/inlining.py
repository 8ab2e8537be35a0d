"""CSS rules written into `style` attributes, which mrml promises and does not do."""

from __future__ import annotations

from functools import lru_cache

import css_inline


@lru_cache(maxsize=256)
def is_style(declarations: str) -> bool:
    """Whether a `style` attribute can be read: one that cannot would stop all inlining."""
    try:
        inliner("p { top: 0; }").inline(f'<p style="{declarations}"></p>')
    except css_inline.InlineError:
        return False
    return True


def inliner(css: str) -> css_inline.CSSInliner:
    """Inlines the rules of `css` alone. It keeps MSO comments, `@media` and quotes."""
    # With keep_at_rules it would not apply extra_css at all (0.24.0); style tags keep theirs.
    return css_inline.CSSInliner(
        inline_style_tags=False, keep_style_tags=True, load_remote_stylesheets=False, extra_css=css
    )
