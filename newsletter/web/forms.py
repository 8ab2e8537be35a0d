"""Reads forms that anybody may have sent: text only, on one line, of bounded length."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from starlette.requests import Request

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff\ud800-\udfff]+")
_MAX_FIELDS = 100


@dataclass(frozen=True, slots=True)
class Form:
    """A form's text fields in their order; uploaded files are left out."""

    fields: tuple[tuple[str, str], ...]

    def text(self, name: str, limit: int = 200) -> str:
        """The field on one line: control characters become spaces, and the rest is cut off."""
        return next(iter(self.all(name, limit)), "")

    def all(self, name: str, limit: int = 200) -> list[str]:
        return [_clean(value)[:limit] for key, value in self.fields if key == name]


async def read_form(request: Request) -> Form:
    """A form-encoded or multipart body. Raises 400 for a malformed one, 413 for one too large."""
    await request.body()  # read whole even where its type is no form's, so that its size is judged
    form = await request.form(max_files=0, max_fields=_MAX_FIELDS)
    return Form(tuple((key, value) for key, value in form.multi_items() if isinstance(value, str)))


def _clean(value: str) -> str:
    return unicodedata.normalize("NFC", _CONTROLS.sub(" ", value)).strip()
