"""Makes a new workspace: the folders and a settings file that says what each value is for."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from newsletter.errors import BadInput, Conflict
from newsletter.settings import FILE_NAME

_FOLDERS = ("content/articles", "content/tips", "issues", "templates")


def create_workspace(folder: Path) -> Path:
    """Make a workspace in `folder`, which may exist; nothing in it is overwritten.

    Returns the folder, absolute. Raises `Conflict` where there is a workspace already.
    """
    settings = folder / FILE_NAME
    if settings.exists():
        raise Conflict(f"{folder} is a workspace already", hint=f"Edit {settings} instead.")
    try:
        for name in _FOLDERS:
            (folder / name).mkdir(parents=True, exist_ok=True)
        ignore = folder / ".gitignore"
        if not ignore.exists():
            ignore.write_text("/var/\n", encoding="utf-8")
        text = files(__name__).joinpath(FILE_NAME).read_text(encoding="utf-8")
        settings.write_text(text, encoding="utf-8")  # last: with it the folder is a workspace
    except OSError as error:
        settings.unlink(missing_ok=True)  # half of one would be taken for a workspace
        raise BadInput(
            f"the workspace cannot be made: {error}",
            hint="Name a folder that can be written to; the same command then finishes it.",
        ) from error
    return folder.resolve()
