"""Shows one issue while it is written: desktop, phone, dark, text, and again after every edit.

A mistake in the issue, a template or the settings is shown in place of it, with file and line. It
compiles as the real thing does, but knows no database and counts nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from newsletter.compiled import CompiledIssue, Content
from newsletter.drafting import check_slug, load_issue
from newsletter.errors import NewsletterError, NotFound
from newsletter.rendering import MediaFile, compile_issue, neutral_recipient
from newsletter.settings import FILE_NAME, load_settings
from newsletter.web.server import address_of, listen, serve_until_signal
from newsletter.workspace import Workspace

VIEWS = {"desktop": "Desktop", "phone": "Phone", "dark": "Dark", "text": "Text", "web": "Web"}
_TEMPLATES = Path(__file__).parent / "templates"
_DARK = re.compile(r"\(\s*prefers-color-scheme\s*:\s*dark\s*\)")
_PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; frame-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_MESSAGE_POLICY = (
    "sandbox allow-popups; default-src 'none'; style-src 'unsafe-inline'; img-src * data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)


@dataclass(frozen=True, slots=True)
class Shown:
    """What the files of one moment give: an issue, or the error in them."""

    error: str = ""
    base_url: str = ""
    compiled: CompiledIssue | None = None
    content: Content | None = None
    media: dict[str, MediaFile] = field(default_factory=dict)


class Preview:
    """Compiles the issue again whenever a file that it is made of has changed."""

    def __init__(self, root: Path, slug: str) -> None:
        self.root = root
        self.slug = slug
        self._version = ""
        self._shown = Shown()
        self._sources: tuple[str, ...] = ()

    def version(self) -> str:
        """A digest of the names, sizes and times of the files."""
        content = self.root / "content"
        files = [self.root / FILE_NAME, *(content / f"{source}.md" for source in self._sources)]
        for folder in (self.root / "issues" / self.slug, self.root / "templates"):
            files += sorted(folder.rglob("*"))
        state = []
        for file in files:
            try:
                found = file.stat()
            except OSError:
                continue
            state.append(f"{file}\0{found.st_size}\0{found.st_mtime_ns}")
        return hashlib.sha256("\n".join(state).encode()).hexdigest()[:16]

    def shown(self) -> Shown:
        version = self.version()
        if version != self._version:
            self._shown = self._compile()
            self._version = self.version()  # the issue's sources are known only now
        return self._shown

    def _compile(self) -> Shown:
        try:
            workspace = Workspace(self.root, load_settings(self.root / FILE_NAME))
            issue = load_issue(workspace, self.slug)
            self._sources = issue.sources
            rendered = compile_issue(workspace, issue, tracked=False)
        except NewsletterError as error:
            return Shown(error=str(error))
        compiled = rendered.compiled
        return Shown(
            base_url=workspace.settings.site.base_url,
            compiled=compiled,
            content=compiled.variants[""].render(neutral_recipient()),
            media={file.asset.sha256: file for file in rendered.media},
        )


def preview_app(preview: Preview) -> Starlette:
    """The app around one preview; nothing of it leaves this machine."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined
    )

    async def page(request: Request) -> Response:
        view = request.query_params.get("view", "desktop")
        if view not in VIEWS:
            raise HTTPException(404)
        shown = await run_in_threadpool(preview.shown)
        text = environment.get_template("preview.html.j2").render(
            slug=preview.slug,
            view=view,
            views=VIEWS,
            version=preview.version(),
            error=shown.error,
            compiled=shown.compiled,
            content=shown.content,
        )
        return HTMLResponse(text, headers=_headers(_PAGE_POLICY))

    async def message(request: Request) -> Response:
        shown = await run_in_threadpool(preview.shown)
        return _message(shown, request.path_params["view"])

    async def version(request: Request) -> Response:
        return PlainTextResponse(await run_in_threadpool(preview.version), headers=_headers())

    async def media(request: Request) -> Response:
        shown = await run_in_threadpool(preview.shown)
        file = shown.media.get(request.path_params["name"].partition(".")[0])
        if file is None:
            raise HTTPException(404)
        return Response(file.content, media_type=file.asset.content_type, headers=_headers())

    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in {"preview.js", "preview.css"}:
            raise HTTPException(404)
        kind = "text/javascript" if name.endswith(".js") else "text/css"
        return Response((_TEMPLATES / name).read_bytes(), media_type=kind, headers=_headers())

    return Starlette(
        routes=[
            Route("/", page),
            Route("/message/{view}", message),
            Route("/version", version),
            Route("/media/{name}", media),
            Route("/assets/{name}", asset),
        ],
        # A name of somebody's that was made to lead here would let their page read the draft.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
    )


def serve_preview(root: Path, slug: str, port: int) -> None:
    """Show the issue on this machine until SIGTERM, or Ctrl-C (`KeyboardInterrupt`).

    Port 0 takes a free one. Raises `NotFound` for an issue that is not there, `Unreachable` for a
    port that is taken.
    """
    if not (root / "issues" / check_slug(slug) / "issue.md").is_file():
        raise NotFound(f"there is no issue {slug!r}", hint="See `newsletter issues`.")
    listener = listen("127.0.0.1", port)
    print(  # noqa: T201
        f"The preview of {slug} is at {address_of(listener)} (Ctrl-C ends it)",
        file=sys.stderr,
        flush=True,
    )
    if asyncio.run(serve_until_signal(preview_app(Preview(root, slug)), listener)):
        raise KeyboardInterrupt


def _message(shown: Shown, view: str) -> Response:
    if view not in VIEWS:
        raise HTTPException(404)
    if shown.content is None or shown.compiled is None:
        return PlainTextResponse(shown.error, headers=_headers(_MESSAGE_POLICY))
    if view == "text":
        return PlainTextResponse(shown.content.text, headers=_headers(_MESSAGE_POLICY))
    html = shown.compiled.web if view == "web" else shown.content.html
    # A scheme is shown by rewriting its query: the reader's own machine decides nothing here.
    html = _DARK.sub("(min-width:0)" if view == "dark" else "(max-width:0)", html)
    html = html.replace(f"{shown.base_url}/media/", "/media/")
    for sha256, file in shown.media.items():
        if file.asset.cid:
            html = html.replace(f"cid:{file.asset.cid}", f"/media/{sha256}.{file.asset.extension}")
    return HTMLResponse(html, headers=_headers(_MESSAGE_POLICY))


def _headers(policy: str = "default-src 'none'") -> dict[str, str]:
    return {
        "Cache-Control": "no-store",
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
    }
