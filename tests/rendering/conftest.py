"""Issues written to disk and compiled, as the tests of rendering need them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from PIL import Image

from newsletter.drafting import Issue, load_issue
from newsletter.rendering import Rendered, compile_issue
from newsletter.workspace import Workspace


@pytest.fixture
def write_issue(workspace: Workspace) -> Callable[..., Issue]:
    """Write an issue into the workspace and load it; `front` are further front-matter lines."""

    def write(body: str, *, slug: str = "one", subject: str = "Hello", front: str = "") -> Issue:
        folder = workspace.issues / slug
        folder.mkdir(exist_ok=True)
        quoted = subject.replace("\\", "\\\\").replace('"', '\\"')
        source = f'---\nsubject: "{quoted}"\npreheader: "A look inside"\n{front}---\n{body}\n'
        (folder / "issue.md").write_text(source, encoding="utf-8")
        return load_issue(workspace, slug)

    return write


@pytest.fixture
def render(workspace: Workspace, write_issue: Callable[..., Issue]) -> Callable[..., Rendered]:
    """Write an issue and compile it."""

    def compile_body(body: str, **options: str) -> Rendered:
        return compile_issue(workspace, write_issue(body, **options))

    return compile_body


@pytest.fixture
def make_image(workspace: Workspace) -> Callable[..., None]:
    """Save a plain image beside the issue `one`."""

    def make(name: str, size: tuple[int, int] = (1600, 800), **options: object) -> None:
        folder = workspace.issues / "one"
        folder.mkdir(exist_ok=True)
        Image.linear_gradient("L").resize(size).convert("RGB").save(folder / name, **options)

    return make
