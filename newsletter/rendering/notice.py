"""Short mails that are no issue: confirmations and notices to editors, in the site's look."""

from __future__ import annotations

from newsletter.errors import Where
from newsletter.languages import direction
from newsletter.rendering import markdown
from newsletter.rendering.mjml import to_html
from newsletter.rendering.slots import neutralise
from newsletter.rendering.templates import Templates, safe
from newsletter.rendering.text import Footnotes, to_text
from newsletter.rendering.theme import derive
from newsletter.workspace import Workspace

_TEMPLATE = "_notice"


def render_notice(workspace: Workspace, subject: str, markdown_text: str) -> tuple[str, str]:
    """HTML and text of a notice whose words are Markdown; links stay as they are.

    Raw HTML in it is shown as text. Raises `BadInput` for a faulty template of the workspace's.
    """
    where = Where("a notice")
    source = neutralise(markdown_text)
    tokens = markdown.parse(source, where)
    html = markdown.to_html(tokens)
    templates = Templates(workspace)
    site = workspace.settings.site
    values = {
        "site": {
            "name": neutralise(site.name),
            "base_url": site.base_url,
            "postal_address": neutralise(site.postal_address),
        },
        "notice": {
            "subject": neutralise(subject),
            "html": safe(chr(0x100000)),
            "language": site.language,
            "direction": direction(site.language),
        },
        "theme": derive(workspace.settings.theme),
    }
    page = to_html(
        templates.render(_TEMPLATE, values, where), [html], templates.where, Where(_TEMPLATE)
    )
    notes = Footnotes()
    text = to_text(tokens, notes)
    pieces = [text, "\n".join(notes.lines()), "-- ", site.name, site.postal_address]
    return page, "\n\n".join(piece for piece in pieces if piece) + "\n"
