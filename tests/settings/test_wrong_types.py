"""What is wrong says what to write and where; in the environment everything is text."""

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
    monkeypatch.setenv("NEWSLETTER_DELIVERY__CANARY", "50")
    settings = make_workspace().settings
    assert (settings.web.port, settings.checks.network_blocks) == (81, True)
    assert settings.delivery.canary == "50"


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("[web]\nhost = 3\n", "web.host: write text in quotes"),
        ("[web]\ntrusted_proxies = '::1'\n", "web.trusted_proxies: write a list"),
        ("[tracking]\nclicks = 'all'\n", "tracking.clicks: write 'none', 'anonymous' or 'ind"),
        ("[theme]\naccent = 'red'\n", "theme.accent: 'red': write a colour such as #"),
        ("[[feeds]]\n", "feeds.0.url: missing"),
        (f"{MORE}in_flight = 99\n", "providers.1.in_flight: write a number of at most 64"),
        (f"{MORE}api_key = 3\n", "providers.1.api_key: write { env"),
        (MORE.replace("more", "no more"), "providers.1.name: 'no more': write letters"),
    ],
)
def test_what_is_wrong_says_what_to_write(
    make_workspace: Callable[..., Workspace], written: str, told: str
) -> None:
    with pytest.raises(BadInput) as caught:
        make_workspace(written)
    assert told in caught.value.message
    assert caught.value.where is not None


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("PROVIDERS", '[{"name": "a", "kind": "mailbox", "in_flight": "x"}]', "0.in_flight: write"),
        ("PROVIDERS", '[{"name": "a"}]', "providers.0.kind: missing"),
        ("PROVIDERS", "main", "write it as JSON, such as [{"),
        ("PROVIDERS__0__NAME", "a", "providers: a list comes from the environment only as a whole"),
        ("EDITORS__NOTIFY", "ada@example.com", 'write it as JSON, such as ["'),
        ("WEB__PORT", "http", "web.port: write a whole number"),
    ],
)
def test_what_is_wrong_in_the_environment_names_its_variable(
    make_workspace: Callable[..., Workspace],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    told: str,
) -> None:
    monkeypatch.setenv(f"NEWSLETTER_{variable}", value)
    with pytest.raises(BadInput) as caught:
        make_workspace()
    assert told in caught.value.message
    assert f"NEWSLETTER_{variable} in the environment" in caught.value.message
    assert caught.value.where is None  # not in the file


def test_a_variable_is_not_named_for_what_is_in_the_file(
    make_workspace: Callable[..., Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEWSLETTER_TRACKING", '{"opens": "none"}')
    with pytest.raises(BadInput, match=r"tracking.clicks: write 'none', .*'individual'$") as caught:
        make_workspace("[tracking]\nclicks = 'all'\n")
    assert caught.value.where is not None
