"""A send from its hour to its end, over a provider that behaves."""

from __future__ import annotations

from functools import partial

import pytest
from support.ledger import everybody, make_world


@pytest.fixture
def world(workspace, store, clock):
    return partial(make_world, workspace, store, clock)


def test_everybody_gets_the_issue_once_and_the_send_is_sent(world):
    here = world(people=10)
    report = here.run()
    assert report.sent == ["milia.1"]
    assert here.provider.received == everybody(10)
    told = here.status()
    assert told["state"] == "sent"
    assert told["started_at"]
    assert told["finished_at"]
    assert here.counts() == {"total": 10, "accepted": 10}
    assert here.verify() == []
    here.clock.advance(hours=1)
    here.run()
    assert here.provider.received == everybody(10)
