"""Postmark's templates for the server of tests: 100 of them, in Mustachio, by alias.

The tokens and their meaning are those of https://github.com/ActiveCampaign/mustachio: whatever is
between two or three braces and has none itself; a value between three braces goes in as it is.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

NO_TEMPLATE = 1101
_TOKEN = re.compile(r"\{\{[^{}]+?\}\}|\{\{\{[^{}]+?\}\}\}")
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_FIELDS = ("Name", "Alias", "Subject", "HtmlBody", "TextBody")
_MISSING = "The Template's 'Alias' associated with this request is not valid or was not found."


@dataclass
class Templates:
    """What one server keeps. `failing` are answers that come in place of the next ones.

    A number is a status; "drop" does what was asked and answers 500.
    """

    token: str
    limit: int = 100
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    failing: list[int | str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    made: int = 0

    def routes(self) -> list[Route]:
        return [
            Route("/templates", self._create, methods=["POST"]),
            Route("/templates/{alias}", self._one, methods=["GET", "DELETE"]),
        ]

    async def _create(self, request: Request) -> Response:
        refused = self._refused(request)
        if refused is not None:
            return refused
        document = await request.json()
        if not document.get("Name") or not document.get("Subject"):
            return error(422, 1110, "A required template field is missing.")
        alias = document.get("Alias", "")
        if not _ALIAS.fullmatch(alias):
            return error(422, 1113, "The alias is not valid.")
        if alias in self.kept:
            return error(422, 1113, "The alias is used by another template.")
        if len(self.kept) >= self.limit:
            return error(422, 1105, "This server would have too many templates.")
        self.made += 1
        document = {name: document.get(name, "") for name in _FIELDS}
        self.kept[alias] = {"TemplateId": self.made, "Active": True, **document}
        told = {name: self.kept[alias][name] for name in ("TemplateId", "Name", "Active", "Alias")}
        return self._answer(JSONResponse(told))

    async def _one(self, request: Request) -> Response:
        refused = self._refused(request)
        if refused is not None:
            return refused
        alias = request.path_params["alias"]
        if alias not in self.kept:
            return error(422, NO_TEMPLATE, _MISSING)
        if request.method == "GET":
            return self._answer(JSONResponse(self.kept[alias]))
        del self.kept[alias]
        return self._answer(JSONResponse({"ErrorCode": 0, "Message": "Template removed."}))

    def _refused(self, request: Request) -> Response | None:
        self.requests.append(f"{request.method} {request.url.path}")
        if request.headers.get("x-postmark-server-token") != self.token:
            return error(401, 10, "No Account or Server API tokens were supplied.")
        if self.failing and isinstance(self.failing[0], int):
            return error(self.failing.pop(0), 0, "failing")  # type: ignore[arg-type]
        return None

    def _answer(self, response: Response) -> Response:
        if self.failing and self.failing[0] == "drop":
            self.failing.pop(0)
            return error(500, 0, "Internal server error")
        return response

    def whole(self, message: Any) -> Any:
        """The message with what its template says; or an item's (error code, words)."""
        if not isinstance(message, dict) or set(message) & {"Subject", "HtmlBody", "TextBody"}:
            return 403, "Incompatible JSON: a template's message has no bodies of its own."
        template = self.kept.get(message.get("TemplateAlias", ""))
        if template is None:
            return NO_TEMPLATE, _MISSING
        model = message.get("TemplateModel")
        if not isinstance(model, dict):
            return 403, "Incompatible JSON: 'TemplateModel' is not an object."
        said = {n: rendered(template[n], model) for n in ("Subject", "HtmlBody", "TextBody")}
        assert message.get("InlineCss") is False, "its style blocks would be inlined"
        own = ("TemplateAlias", "TemplateModel", "InlineCss")
        return {**{n: value for n, value in message.items() if n not in own}, **said}


def rendered(template: str, model: dict[str, Any]) -> str:
    """The template filled from the model; only single values are known here."""

    def fill(token: re.Match[str]) -> str:
        path = token[0].strip("{}").strip()
        assert re.fullmatch(r"[\w.]+", path), f"not a value: {token[0]}"
        value = str(model.get(path, ""))
        return value if token[0].startswith("{{{") else html.escape(value)

    return _TOKEN.sub(fill, template)


def error(status: int, code: int, message: str) -> JSONResponse:
    return JSONResponse({"ErrorCode": code, "Message": message}, status)
