"""The workspace: where its files are, its settings and its secret key."""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from newsletter.errors import BadInput, Where
from newsletter.settings import FILE_NAME, Settings, load_settings

_KEY_BYTES = 32


@dataclass(frozen=True)
class Workspace:
    """A folder with a `newsletter.toml`. Paths shown to people are relative to `root`."""

    root: Path
    settings: Settings

    @property
    def content(self) -> Path:
        return self.root / "content"

    @property
    def issues(self) -> Path:
        return self.root / "issues"

    @property
    def templates(self) -> Path:
        return self.root / "templates"

    @property
    def var(self) -> Path:
        return self.root / "var"

    def relative(self, path: Path) -> str:
        """`path` as output shows it: relative to the workspace where it lies within."""
        try:
            return path.resolve().relative_to(self.root.resolve()).as_posix()
        except (ValueError, OSError, RuntimeError):  # outside, or a link that leads to itself
            return str(path)

    @cached_property
    def key(self) -> bytes:
        """The key that signs tokens and hashes suppressed addresses; made on first use.

        It outlives everything: with another key no link in a mail already sent would open.
        """
        named = self.settings.security.secret_key
        if named is not None:
            secret = named.reveal(self.root)
            if len(secret) < _KEY_BYTES:
                raise BadInput(
                    f"security.secret_key: it has {len(secret)} characters, which can be guessed",
                    where=Where(FILE_NAME),
                    hint=f"Name at least {_KEY_BYTES} random ones, for example of `openssl rand"
                    " -hex 32`.",
                )
            return secret.encode()
        path = self.var / "secret.key"
        try:
            self.var.mkdir(exist_ok=True)
            if not path.exists():
                self._make_key(path)
            key = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(
                f"the secret key cannot be kept or read: {error}",
                where=Where("var/secret.key"),
                hint="Make var/ writable, restore the key, or name one: [security] secret_key.",
            ) from error
        if len(key) < _KEY_BYTES:
            raise BadInput(
                "the secret key is too short", where=Where("var/secret.key"), hint="Restore it."
            )
        return key.encode()

    def _make_key(self, path: Path) -> None:
        """Write the key under another name first: no process ever reads half of it."""
        draft = self.var / f"secret.key.{os.getpid()}"
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_hex(_KEY_BYTES), encoding="ascii")
        with contextlib.suppress(FileExistsError):  # another process was first: its key stands
            os.link(draft, path)
        draft.unlink()


def find_workspace(given: Path | None = None) -> Workspace:
    """The workspace that was named, that `NEWSLETTER_WORKSPACE` names, or the nearest parent's."""
    named = given or (
        Path(os.environ["NEWSLETTER_WORKSPACE"]) if os.environ.get("NEWSLETTER_WORKSPACE") else None
    )
    if named is not None:
        root = named.resolve()
        if not (root / FILE_NAME).is_file():
            raise BadInput(
                f"{named} is no workspace: it has no {FILE_NAME}",
                hint=f"Make one with: newsletter init {named}",
            )
        return Workspace(root, load_settings(root / FILE_NAME))
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FILE_NAME).is_file():
            return Workspace(folder, load_settings(folder / FILE_NAME))
    raise BadInput(
        f"no {FILE_NAME} here or in a parent folder",
        hint="Make a workspace with `newsletter init DIR`, or name one with --workspace DIR.",
    )


def bundled(name: str) -> Path:
    """A folder of the sample workspace (`templates`, `content`, …): in the wheel or beside it."""
    package = Path(__file__).parent
    packed = package / "_workspace" / name
    return packed if packed.exists() else package.parent / name
