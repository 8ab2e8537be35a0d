"""Secrets as references: what is read, and that a line's end is no part of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from newsletter.errors import BadInput
from newsletter.settings import Secret
from newsletter.workspace import Workspace


def test_white_space_around_a_secret_is_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIN_API_KEY", " s3cr3t\n")
    (tmp_path / "key").write_text("s3cr3t\r\n", encoding="utf-8")
    assert Secret(env="MAIN_API_KEY").reveal(tmp_path) == "s3cr3t"
    assert Secret(file=Path("key")).reveal(tmp_path) == "s3cr3t"


def test_the_key_of_all_tokens_is_neither_written_down_nor_short(
    make_workspace: Callable[..., Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadInput, match="secret_key: a secret is not written here") as refused:
        make_workspace(f'[security]\nsecret_key = "{"k" * 32}"\n')
    assert "kkk" not in str(refused.value)
    workspace = make_workspace('[security]\nsecret_key = { env = "SITE_KEY" }\n')
    monkeypatch.setenv("SITE_KEY", "k" * 31)
    with pytest.raises(BadInput, match="31 characters"):
        _ = workspace.key
    monkeypatch.setenv("SITE_KEY", "k" * 32)
    assert make_workspace('[security]\nsecret_key = { env = "SITE_KEY" }\n').key == b"k" * 32
