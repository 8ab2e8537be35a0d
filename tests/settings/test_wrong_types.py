"""A number or a truth value is written as one; in the environment everything is text."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from newsletter.errors import BadInput
from newsletter.workspace import Workspace

MORE = '[[providers]]\nname = "more"\nkind = "mailbox"\n'


@pytest.mark.parametrize(
    ("written", "key"),
    [
        (f"{MORE}in_flight = true\n", "providers.1.in_flight"),
        (f'{MORE}in_flight = "3"\n', "providers.1.in_flight"),
        ("[web]\nport = 80.0\n", "web.port"),
        ('[fetch]\nallow_private = "yes"\n', "fetch.allow_private"),
        ("[checks]\nnetwork_blocks = 1\n", "checks.network_blocks"),
    ],
)
def test_a_value_of_the_wrong_type_names_its_key(
    make_workspace: Callable[..., Workspace], written: str, key: str
) -> None:
    with pytest.raises(BadInput, match=f"{key}: write") as caught:
        make_workspace(written)
    assert caught.value.where is not None


def test_the_environment_is_text(
    make_workspace: Callable[..., Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEWSLETTER_WEB__PORT", "81")
    monkeypatch.setenv("NEWSLETTER_CHECKS__NETWORK_BLOCKS", "true")
    settings = make_workspace().settings
    assert (settings.web.port, settings.checks.network_blocks) == (81, True)
