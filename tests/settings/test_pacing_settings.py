"""Settings of pacing: what is wrong is told by its key, before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import pytest

from newsletter.errors import BadInput
from newsletter.hours import Hours
from newsletter.workspace import Workspace

MORE = '[[providers]]\nname = "more"\nkind = "mailbox"\n'


def test_pacing_as_it_is_written(make_workspace: Callable[..., Workspace]) -> None:
    settings = make_workspace(
        MORE
        + 'domain_rates = { "Gmail.com" = "20/s", "outlook.com, hotmail.com" = "300/m" }\n'
        + "daily_quota = 50_000\nwarm_up = [500, 1000]\nwarm_up_from = 2026-12-01\n"
        + '[delivery]\nwindows = ["mon-fri 08:00-20:00", "sat,sun 22:00-06:00"]\n'
        + 'zone_passed = "next_day"\n'
    ).settings
    more = settings.providers[1]
    assert more.domain_rates == {"gmail.com": 20.0, "outlook.com hotmail.com": 5.0}
    assert (more.daily_quota, more.warm_up) == (50_000, [500, 1000])
    assert more.warm_up_from == date(2026, 12, 1)
    assert settings.delivery.windows == [
        Hours((0, 1, 2, 3, 4), 8 * 60, 20 * 60),
        Hours((5, 6), 22 * 60, 30 * 60),
    ]


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (f'{MORE}domain_rates = {{ "gmail" = "20/s" }}', "domain_rates: 'gmail' is no domain"),
        (f'{MORE}domain_rates = {{ "a.com" = 20 }}', "domain_rates.a.com: write a rate"),
        (
            f'{MORE}domain_rates = {{ "a.com" = "1/s", "b.com A.com" = "1/s" }}',
            "domain_rates: the domain a.com is given twice",
        ),
        (f'{MORE}daily_quota = "500"', "daily_quota: write a whole number"),
        (f"{MORE}daily_quota = 0", "daily_quota: write a number of at least 1"),
        (f'{MORE}warm_up = ["500"]', "warm_up: write whole numbers"),
        (f"{MORE}warm_up = [500]", "warm_up: also give the plan's first day"),
        (
            f"{MORE}warm_up = [1000, 500]\nwarm_up_from = 2026-12-01",
            "warm_up: no day has fewer than the one before",
        ),
        ('[delivery]\ncanary = "5"', 'delivery.canary: write a part, as "5%", or a number w'),
        ('[delivery]\ncanary = "500%"', "delivery.canary: write a part of the recipients"),
        (f"{MORE}warm_up_from = 2026-12-01", "warm_up_from: also give the plan"),
        (f"{MORE}warm_up = [5]\nwarm_up_from = 5", "warm_up_from: write a date"),
        ('[delivery]\nwindows = ["8-20"]', "delivery.windows.0: write hours"),
        ('[delivery]\nwindows = ["mo 08:00-20:00"]', "delivery.windows.0: 'mo' is no day"),
        ('[delivery]\nwindows = ["25:00-26:00"]', "delivery.windows.0: there is no time"),
        ('[delivery]\nwindows = ["08:00-08:00"]', "delivery.windows.0: the hours are empty"),
        ('[delivery]\nzone_passed = "later"', "delivery.zone_passed: "),
    ],
)
def test_what_is_wrong_names_its_key(
    make_workspace: Callable[..., Workspace], written: str, told: str
) -> None:
    with pytest.raises(BadInput, match=told):
        make_workspace(written + "\n")
