"""The real provider modules over the simulated network, with a scenario's capabilities."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from newsletter.hours import parse_hours
from newsletter.providers.mailbox import MailboxProvider
from newsletter.providers.postmark import PostmarkProvider
from newsletter.providers.sendgrid import SendgridProvider
from newsletter.settings import ProviderSettings, Settings
from simulation.network import SimulatedTransport
from simulation.plan import Scenario
from simulation.quotas import FIRST_DAY
from simulation.servers import MailboxServer, PostmarkServer, SendgridServer, Server

if TYPE_CHECKING:
    from simulation.process import Process
    from simulation.world import World

SECRET = "hook:secret"
_MODULES: dict[str, Any] = {
    "mailbox": MailboxProvider,
    "postmark": PostmarkProvider,
    "sendgrid": SendgridProvider,
}
_MAX_BYTES = 30_000
_KEY_LIFE = timedelta(days=30)


def settings_of(scenario: Scenario, name: str) -> ProviderSettings:
    """A `[[providers]]` entry of a scenario."""
    kind = scenario.kinds[name].partition(" ")[0].replace("neither", "mailbox")
    return ProviderSettings.model_construct(
        name=name,
        kind=kind,
        failover="second" if scenario.stand_in and name == "main" else "",
        base_url="http://127.0.0.1:8025",
        timeout=timedelta(seconds=scenario.timeout),
        lookup_lag=timedelta(seconds=scenario.lag),
        in_flight=scenario.in_flight,
        rate=scenario.rate,
        daily_quota=None if scenario.warm_up else scenario.quota or None,
        warm_up=[scenario.quota, 2 * scenario.quota] if scenario.warm_up else [],
        warm_up_from=FIRST_DAY if scenario.warm_up else None,
    )


def settings_for(settings: Settings, scenario: Scenario) -> Settings:
    """The workspace's settings for a scenario."""
    changes: dict[str, Any] = {
        "lease": timedelta(seconds=scenario.lease),
        "breaker_after": scenario.breaker_after,
        "breaker_pause": timedelta(seconds=scenario.breaker_pause),
        "canary": str(scenario.canary or ""),
        "canary_wait": timedelta(seconds=scenario.breaker_pause),
    }
    if scenario.closed is not None:
        ends, begins = (f"12:{minutes:02}" for minutes in scenario.closed)
        changes["windows"] = [parse_hours(f"00:00-{ends}"), parse_hours(f"{begins}-24:00")]
    delivery = settings.delivery.model_copy(update=changes)
    providers = [settings_of(scenario, name) for name in scenario.kinds]
    return settings.model_copy(update={"delivery": delivery, "providers": providers})


def open_simulated(world: World, name: str, process: Process | None) -> Any:
    """A provider as one process has it (None: the web server, which makes no request)."""
    scenario, kind = world.scenario, world.scenario.kinds[name]
    settings = settings_of(scenario, name)
    provider = _MODULES[settings.kind](
        settings,
        api_key="key",
        webhook_secrets=[SECRET],
        clock=process.machine if process else None,
        transport=SimulatedTransport(world, process, world.servers[name]) if process else None,
    )
    provider.capabilities = replace(
        provider.capabilities,
        batch_size=scenario.batch,
        max_bytes=_MAX_BYTES,
        lookup_lag=timedelta(seconds=scenario.lag),
        idempotency=_KEY_LIFE if kind == "mailbox" else None,
        lookup=kind != "neither",
    )
    return provider


def server_for(world: World, name: str) -> Server:
    kind = world.scenario.kinds[name]
    if kind.startswith("postmark"):
        return PostmarkServer(world, name, kind)
    if kind == "sendgrid":
        return SendgridServer(world, name, kind)
    return MailboxServer(world, name, kind)
