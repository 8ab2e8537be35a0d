"""Workers killed (SIGKILL) at points spread over a send, and restarted until all is done.

What counts is the provider's own record: exactly one message for everybody who should get one.
A failed test's id holds its seed and repeats it: pytest 'tests/delivery/test_kill.py::…[sqlite-7]'.
"""

from __future__ import annotations

import pytest

from support.api_process import ApiProcess
from support.killing import kill_and_restart
from support.mailboxes import running_mailbox
from support.site import SETTINGS

QUICK_LOOK_UP = 'webhook_secret = "local-hook"\nlookup_lag = "{lag}"\ntimeout = "5s"\n'
FAILING = {
    "drop_before": 0.1,
    "drop_after": 0.1,
    "error_before": 0.05,
    "error_after": 0.05,
    "html": 0.03,
    "lookup_error": 0.1,
    "rate_limit": {"probability": 0.1, "seconds": 0},
}


@pytest.fixture(scope="module")
def mailbox(tmp_path_factory):
    with running_mailbox(tmp_path_factory.mktemp("mailbox")) as running:
        yield running


@pytest.fixture(scope="module")
def postmark(tmp_path_factory):
    folder = tmp_path_factory.mktemp("postmark")
    running = ApiProcess("postmark_server", folder, "--lag", "0.3", "--token", "local-key")
    yield running
    running.end()


def settings_for(url, lag):
    settings = SETTINGS.replace("http://127.0.0.1:8025", url)
    return settings.replace('webhook_secret = "local-hook"\n', QUICK_LOOK_UP.format(lag=lag))


def own_seed(seed, database_url):
    """Other seeds on PostgreSQL than on SQLite."""
    return seed if database_url.startswith("sqlite") else 1000 + seed


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(22))
def test_killed_anywhere_over_the_mailbox_everybody_has_it_once(
    seed, make_workspace, database_url, mailbox, tmp_path
):
    kill_and_restart(
        own_seed(seed, database_url),
        make_workspace(settings=settings_for(mailbox.url, "300ms")),
        database_url,
        mailbox,
        tmp_path / "workers.log",
        faults=FAILING,
        refused={7: "refused", 1234: "inactive", 4321: "refused-too"},
        sometimes_without_keys=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_anywhere_over_postmark_everybody_has_it_once(
    seed, make_workspace, database_url, postmark, tmp_path, monkeypatch
):
    if seed % 2:  # the workers are forked: they leave the form there, however small the issue is
        monkeypatch.setattr("newsletter.delivery.forms.WORTH", 1)
    settings = settings_for(postmark.url, "1500ms").replace('kind = "mailbox"', 'kind = "postmark"')
    kill_and_restart(
        own_seed(seed, database_url),
        make_workspace(settings=settings),
        database_url,
        postmark,
        tmp_path / "workers.log",
        faults={**FAILING, "drop_before": 0.05, "drop_after": 0.05, "html": 0.02},
        refused={7: "inactive-1", 1234: "inactive-2"},
        sometimes_without_keys=False,
    )
