"""The shape of the project: imports run one way, documentation is true, lock files are clean."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.site import ROOT

sys.path.insert(0, str(ROOT))  # for docs.generate, which is no part of the package

BIN = Path(sys.executable).parent


@pytest.mark.slow
def test_imports_run_one_way() -> None:
    done = subprocess.run([BIN / "lint-imports"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_the_documentation_is_true() -> None:
    from docs.generate import faults

    assert faults() == []


def test_the_schedulers_entry_only_hands_over() -> None:
    text = (ROOT / "scheduler.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    assert "newsletter" in text


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_lock_files_have_hashes_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "http" not in re.sub(r"^(httpx|httpcore|httptools)==", "", text, flags=re.MULTILINE)
    requirements = re.split(r"\n(?=\S)", text.strip())
    assert len(requirements) > 30
    assert all("==" in r and "--hash=sha256:" in r for r in requirements)


def test_long_running_commands_start_without_heavy_imports() -> None:
    """Every command imports the command line: what is heavy waits until it is needed."""
    heavy = ("sqlalchemy", "alembic", "trafilatura", "PIL", "starlette", "uvicorn", "lxml")
    code = (
        "import importlib, sys; from newsletter.cli import main as m; "
        "from newsletter.cli.main import ROOMS; "
        "[importlib.import_module(f'newsletter.cli.{room}') for room in ROOMS]; "
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
