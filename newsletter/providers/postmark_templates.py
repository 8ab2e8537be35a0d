"""A form as a Postmark template: made for one send, used by `/email/batchWithTemplates`, removed.

Written from https://postmarkapp.com/developer/api/templates-api (100 templates a server, `Alias`,
`InlineCss`), https://postmarkapp.com/support/article/1077-template-syntax and the tokens of the
engine behind it, https://github.com/ActiveCampaign/mustachio: `{{…}}` and `{{{…}}}` around anything
without a brace. A value is escaped for its place already, so it goes in by three braces.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from newsletter.compiled import Part
from newsletter.providers.answers import json_body
from newsletter.providers.base import Denied, Form, Kept, Unknown
from newsletter.providers.transport import Response, Result

#: Of a request or a message whose template does not exist (…/developer/api/overview#error-codes).
NO_TEMPLATE = 1101
#: The message's fields that its template has instead.
IN_TEMPLATE = ("Subject", "HtmlBody", "TextBody")

# Braces that could become a token, with a value's own or with each other: values carry them.
_BRACES = re.compile(r"\{\{+|\{\Z|\A\}+")
_CARRIED = {"{": "open", "}": "close"}
_USED = re.compile(r"\{\{\{(\w+)\}\}\}")


def alias(name: str) -> str:
    """The template's own name: letters, digits and `.-_`, a letter first."""
    return f"newsletter-{name}"


def template(form: Form) -> dict[str, str]:
    """The template that says what the form says."""
    return {
        "Name": alias(form.name),
        "Alias": alias(form.name),
        "Subject": _source(form.subject),
        "HtmlBody": _source(form.html),
        "TextBody": _source(form.text),
    }


def _source(parts: Sequence[Part]) -> str:
    """The parts in Postmark's language; nothing but our slots is a token in it."""
    return "".join(
        f"{{{{{{v{part}}}}}}}" if isinstance(part, int) else _BRACES.sub(_carry, part)
        for part in parts
    )


def _carry(braces: re.Match[str]) -> str:
    return "".join(f"{{{{{{{_CARRIED[brace]}}}}}}}" for brace in braces[0])


def templated(form: Form, message: dict[str, Any], values: Sequence[str]) -> dict[str, Any]:
    """One message of `/email/batchWithTemplates`, from its whole form and the form's values."""
    used = set(_USED.findall("".join(map(template(form).__getitem__, IN_TEMPLATE))))
    model = {f"v{slot}": value for slot, value in enumerate(values)}
    model |= {name: brace for brace, name in _CARRIED.items()}
    return {
        **{name: value for name, value in message.items() if name not in IN_TEMPLATE},
        "TemplateAlias": alias(form.name),
        "TemplateModel": {name: value for name, value in model.items() if name in used},
        "InlineCss": False,
    }


def found(result: Result, form: Form) -> Kept | Denied | Unknown:
    """What the template that is there says: the form, or something else."""
    document = json_body(result) if isinstance(result, Response) else None
    if not isinstance(document, dict) or "TemplateId" not in document:
        return Unknown("no usable answer about a template")
    wanted = template(form)
    if all(document.get(name) == wanted[name] for name in ("Alias", *IN_TEMPLATE)):
        return Kept()
    return Denied("a template of its alias says something else")


def made(result: Result, form: Form) -> Kept | Unknown:
    """What a successful `POST /templates` led to."""
    document = json_body(result) if isinstance(result, Response) else None
    if isinstance(document, dict) and document.get("Alias") == alias(form.name):
        return Kept()
    return Unknown("no usable answer about a template")


def removed(result: Result) -> bool:
    """Whether `DELETE /templates/{alias}` did it."""
    return isinstance(result, Response) and result.status == 200 and _code(result) == 0


def is_missing(result: Result) -> bool:
    """Whether the API says that there is no such template."""
    if not isinstance(result, Response):
        return False
    code = _code(result)
    return code == NO_TEMPLATE or (result.status == 404 and code is not None)


def _code(response: Response) -> int | None:
    document = json_body(response)
    code = document.get("ErrorCode") if isinstance(document, dict) else None
    return code if isinstance(code, int) else None
