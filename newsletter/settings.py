"""Settings: `newsletter.toml` and `NEWSLETTER_SECTION__KEY`, checked whole before anything runs.

An unknown key, section or wrong type is `BadInput` and names the key. Secrets are references to the
environment or to a file; they are read when they are used and never shown.
"""

from __future__ import annotations

import os
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from newsletter.errors import BadInput, Where
from newsletter.setting_faults import (
    ENVIRONMENT_PREFIX,
    describe,
    of_wrong_type,
    unreadable_variables,
)
from newsletter.setting_values import (
    Colour,
    Day,
    DomainRates,
    Duration,
    Name,
    OneLine,
    Percent,
    Rate,
    Recipients,
    Sample,
    SendingHours,
    Slug,
    SomeTime,
    WebAddress,
    Zone,
)

FILE_NAME = "newsletter.toml"
NOT_SETTINGS = frozenset({"NEWSLETTER_WORKSPACE", "NEWSLETTER_NOW"})
_REFERENCE = 'write { env = "NAME" } or { file = "PATH" }'
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})


def is_loopback(url: str) -> bool:
    """Whether the address names this machine, by the three spellings that the contract allows."""
    return urlsplit(url).hostname in LOOPBACK_HOSTS


class Section(BaseModel):
    """A section refuses keys it does not know: a misspelt one is never silently a default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Secret(Section):
    """A reference to a secret; `reveal` reads it. Its value is in no representation of it."""

    env: str | None = None
    file: Path | None = None
    literal: str | None = Field(default=None, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, value: Any) -> Any:
        if not isinstance(value, str | dict | Secret):
            raise ValueError(_REFERENCE)
        return {"literal": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_source(self) -> Secret:
        if sum(source is not None for source in (self.env, self.file, self.literal)) != 1:
            raise ValueError(_REFERENCE)
        return self

    def reveal(self, root: Path) -> str:
        """The secret itself. `root` is the workspace, against which a file's path is resolved."""
        if self.literal is not None:
            return self.literal
        if self.env is not None:
            value = os.environ.get(self.env, "").strip()
            if not value:
                raise BadInput(
                    f"the environment variable {self.env} is not set",
                    where=Where(FILE_NAME),
                    hint="It holds a secret that the settings name; export it and try again.",
                )
            return value
        assert self.file is not None
        try:
            return (root / self.file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(
                f"the secret file {self.file} cannot be read: {error}", where=Where(FILE_NAME)
            ) from error


class Site(Section):
    name: OneLine = ""
    base_url: WebAddress = ""
    postal_address: str = ""
    timezone: Zone = "UTC"
    language: str = "en"

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)


class Sender(Section):
    name: OneLine = ""
    email: OneLine = ""
    reply_to: OneLine = ""
    unsubscribe_mailbox: OneLine = ""


class Editors(Section):
    notify: list[str] = []
    webhook: WebAddress = ""


class Database(Section):
    url: str = "sqlite:///var/newsletter.db"


class ProviderSettings(Section):
    """One `[[providers]]`. `extra` names of a third party's kind are not allowed: keep to these."""

    name: Name
    kind: str
    base_url: WebAddress = ""
    api_key: Secret | None = None
    webhook_secret: Secret | None = None
    rate: Rate | None = None
    domain_rates: DomainRates = {}
    daily_quota: Recipients | None = None
    warm_up: list[Recipients] = []
    warm_up_from: Day | None = None
    timeout: SomeTime = timedelta(seconds=60)
    lookup_lag: Duration | None = None
    in_flight: int = Field(default=4, ge=1, le=64)
    failover: str = ""
    domain: str = ""
    region: str = ""
    account: str = ""
    stream: str = ""
    templates: Literal["auto", "never"] = "auto"
    idempotency: bool = True

    @model_validator(mode="after")
    def _warm_up_is_whole(self) -> ProviderSettings:
        if self.warm_up and self.warm_up_from is None:
            raise ValueError("warm_up: also give the plan's first day, warm_up_from = 2026-12-01")
        if self.warm_up_from is not None and not self.warm_up:
            raise ValueError("warm_up_from: also give the plan, warm_up = [500, 1000, 2000]")
        if self.warm_up != sorted(self.warm_up):
            raise ValueError("warm_up: no day has fewer than the one before, as [500, 1000, 2000]")
        return self

    @model_validator(mode="after")
    def _literals_stay_here(self) -> ProviderSettings:
        for key in ("api_key", "webhook_secret"):
            secret: Secret | None = getattr(self, key)
            if secret and secret.literal is not None and not is_loopback(self.base_url):
                raise ValueError(
                    f'{key}: a secret is not written here; use {{ env = "NAME" }} or'
                    ' { file = "PATH" } (a literal is allowed only for a base_url on this machine)'
                )
        return self


class Delivery(Section):
    grace: Duration = timedelta(hours=6)
    lease: SomeTime = timedelta(minutes=2)
    windows: list[SendingHours] = []
    zone_passed: Literal["now", "next_day"] = "now"
    breaker_after: int = Field(default=5, ge=1)
    breaker_pause: SomeTime = timedelta(seconds=30)
    canary: Sample = ""
    canary_wait: Duration = timedelta(minutes=30)
    max_bounces: Percent = 0.05
    max_complaints: Percent = 0.003

    def canary_of(self, total: int) -> int:
        """How many of `total` recipients `canary` means; 0 where there is to be none."""
        if self.canary.endswith("%"):
            return round(total * float(self.canary[:-1]) / 100)
        return min(int(self.canary or 0), total)


class Tracking(Section):
    clicks: Literal["none", "anonymous", "individual"] = "anonymous"
    opens: Literal["none", "individual"] = "none"


class Edition(Section):
    name: Slug
    cron: str
    draft_before: Duration = timedelta(days=2)
    excerpts: int = Field(default=3, ge=0, le=50)
    tips: int = Field(default=2, ge=0, le=50)
    topics: list[str] = []
    template: str = "default"
    audience: str = "all"
    approval: Literal["required", "automatic"] = "required"
    min_new: int = Field(default=2, ge=0)
    repeat_after: Duration = timedelta(days=180)
    local_time: bool = False


class Feed(Section):
    url: WebAddress
    every: SomeTime = timedelta(hours=1)


class Theme(Section):
    """Colours as #rrggbb, fonts as CSS stacks of fonts that the reader's machine has."""

    accent: Colour = "#a8455f"
    background: Colour = "#f7f1ee"
    surface: Colour = "#ffffff"
    text: Colour = "#3a2e31"
    heading_font: OneLine = "Georgia, 'Times New Roman', serif"
    body_font: OneLine = "Helvetica, Arial, sans-serif"
    logo: str = ""


class Fetch(Section):
    """Limits of everything fetched from outside: pages, feeds, links under check, remote images."""

    timeout: SomeTime = timedelta(seconds=20)
    max_bytes: int = Field(default=5_000_000, ge=1)
    allow_private: bool = False


class Checks(Section):
    network_blocks: bool = False


class Rendering(Section):
    images: Literal["url", "cid"] = "url"


class Web(Section):
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    trusted_proxies: list[str] = []


class Security(Section):
    secret_key: Secret | None = None

    @model_validator(mode="after")
    def _is_not_written_here(self) -> Security:
        if self.secret_key and self.secret_key.literal is not None:
            raise ValueError(
                'secret_key: a secret is not written here; use { env = "NAME" } or'
                ' { file = "PATH" }'
            )
        return self


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    site: Site = Site()
    sender: Sender = Sender()
    editors: Editors = Editors()
    database: Database = Database()
    providers: list[ProviderSettings] = []
    delivery: Delivery = Delivery()
    tracking: Tracking = Tracking()
    editions: list[Edition] = []
    feeds: list[Feed] = []
    theme: Theme = Theme()
    fetch: Fetch = Fetch()
    checks: Checks = Checks()
    rendering: Rendering = Rendering()
    web: Web = Web()
    security: Security = Security()

    @field_validator("providers", "editions")
    @classmethod
    def _names_are_unique(cls, value: list[Any]) -> list[Any]:
        names = [item.name for item in value]
        if doubled := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"the name {doubled!r} is given twice")
        return value

    @field_validator("providers")
    @classmethod
    def _failover_ends(cls, value: list[ProviderSettings]) -> list[ProviderSettings]:
        leads_to = {entry.name: entry.failover for entry in value}
        for entry in value:
            passed = [entry.name]
            while step := leads_to[passed[-1]]:
                if step not in leads_to:
                    raise ValueError(f"{passed[-1]}.failover: no provider is named {step!r}")
                if step in passed:
                    raise ValueError(f"{entry.name}.failover: it leads back to {step!r}")
                passed.append(step)
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (env_settings, init_settings)


def load_settings(path: Path) -> Settings:
    """Read and check the settings of the workspace whose `newsletter.toml` is at `path`.

    Raises `BadInput` that names the line (TOML that does not parse) or every wrong key.
    """
    where = Where(FILE_NAME)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"not valid TOML: {error}", where=where) from error
    except RecursionError as error:
        raise BadInput("not valid TOML: nested too deeply", where=where) from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"cannot be read: {error}", where=where, hint="Save it as text in UTF-8."
        ) from error
    if wrong := list(of_wrong_type(Settings, values)):
        raise BadInput("\n  ".join(wrong), where=where)
    if unreadable := list(unreadable_variables(Settings)):
        raise BadInput("\n  ".join(unreadable))
    try:
        settings = Settings(**values)
    except ValidationError as error:
        lines, in_file = describe(error)
        raise BadInput("\n  ".join(lines), where=where if in_file else None) from error
    except SettingsError as error:
        raise BadInput(
            f"in the environment: {error}",
            hint="A whole section or list is given as JSON; a value as NEWSLETTER_SECTION__KEY.",
        ) from error
    _refuse_unknown_environment(settings)
    return settings


def _refuse_unknown_environment(settings: Settings) -> None:
    """A misspelt section in a variable's name is no error of pydantic's: find it here."""
    secrets = [settings.security.secret_key]
    for provider in settings.providers:
        secrets += [provider.api_key, provider.webhook_secret]
    known = NOT_SETTINGS | {secret.env for secret in secrets if secret and secret.env}
    sections = set(Settings.model_fields)
    for name in os.environ:
        if not name.upper().startswith(ENVIRONMENT_PREFIX) or name in known:
            continue
        section = name[len(ENVIRONMENT_PREFIX) :].split("__")[0].lower()
        if section not in sections:
            raise BadInput(
                f"{name}: the settings have no section {section!r}",
                hint=f"Sections: {', '.join(sorted(sections))}.",
            )
