"""Secrets as references: what is read, and that a line's end is no part of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from newsletter.settings import Secret


def test_white_space_around_a_secret_is_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIN_API_KEY", " s3cr3t\n")
    (tmp_path / "key").write_text("s3cr3t\r\n", encoding="utf-8")
    assert Secret(env="MAIN_API_KEY").reveal(tmp_path) == "s3cr3t"
    assert Secret(file=Path("key")).reveal(tmp_path) == "s3cr3t"
