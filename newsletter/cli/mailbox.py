"""The command `mailbox`: the local provider."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from newsletter.cli.base import WorkspaceOption
from newsletter.clock import clock_from_environment
from newsletter.settings import ProviderSettings, is_loopback

_DEFAULT_TOKEN = "local-key"  # noqa: S105 (as in the sample settings; for this machine only)


def register(app: typer.Typer) -> None:
    """Add this room's commands."""
    app.command()(mailbox)


def mailbox(
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.")] = 8025,
    host: Annotated[
        str, typer.Option(help="The address to listen on. The inbox asks for no password.")
    ] = "127.0.0.1",
    token: Annotated[
        str, typer.Option(help="The API's bearer token. [default: the provider's api_key]")
    ] = "",
    webhook_url: Annotated[
        str, typer.Option(help="Where events are posted. [default: the site's, on this machine]")
    ] = "",
    webhook_secret: Annotated[
        str, typer.Option(help="What events carry. [default: the provider's webhook_secret]")
    ] = "",
    storage: Annotated[
        Path | None, typer.Option(help="The folder for messages. [default: var/mailbox]")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            envvar="MAILBOX_FAULTS",
            help="Fail on purpose: NAME=PROBABILITY[:SECONDS][*TIMES], for example"
            " drop-after=0.05; again for more. Names: latency, rate-limit, error-before,"
            " error-after, drop-before, drop-after, html, slow, refuse, lookup-error,"
            " webhook-lost, webhook-repeated.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(envvar="MAILBOX_SEED", help="Which of its failures happen when.")
    ] = 0,
    idempotency: Annotated[
        bool, typer.Option(help="Whether a repeat under its key is answered as the first was.")
    ] = True,
    lookup: Annotated[bool, typer.Option(help="Whether a batch can be looked up.")] = True,
    unsubscribe_anywhere: Annotated[
        bool,
        typer.Option(
            "--unsubscribe-anywhere",
            help="Let the inbox's button send unsubscribe requests to other machines too.",
        ),
    ] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Run the local provider: an API that takes mail, and a web inbox to read it in."""
    from newsletter.logs import configure_logging
    from newsletter.mailbox.api import MailboxOptions
    from newsletter.mailbox.app import create_app
    from newsletter.mailbox.faults import Faults, parse_fault
    from newsletter.mailbox.serving import listen, serve

    defaults = _Defaults(workspace)
    options = MailboxOptions(
        storage=storage or defaults.storage,
        token=token or defaults.token,
        webhook_url=webhook_url or defaults.webhook_url,
        webhook_secret=webhook_secret or defaults.webhook_secret,
        faults=Faults(dict(map(parse_fault, fault or [])), seed),
        idempotency=idempotency,
        lookup=lookup,
        unsubscribe_anywhere=unsubscribe_anywhere,
    )
    configure_logging()
    listening = listen(host, port)
    app = create_app(options, clock_from_environment())
    shown = f"[{host}]" if ":" in host else host
    typer.echo(
        f"Mailbox: http://{shown}:{listening.getsockname()[1]}/  (kept in {options.storage})"
    )
    serve(app, listening)


class _Defaults:
    """What the nearest workspace says of its mailbox; plain values where there is none."""

    def __init__(self, given: Path | None) -> None:
        from newsletter.cli.base import _given
        from newsletter.errors import BadInput
        from newsletter.workspace import find_workspace

        self.storage = Path("var/mailbox")
        self.token = _DEFAULT_TOKEN
        self.webhook_url = ""
        self.webhook_secret = ""
        named = given or _given["workspace"]
        try:
            workspace = find_workspace(named)
        except BadInput as error:
            if named is not None or not error.message.startswith("no newsletter.toml"):
                raise
            return
        self.storage = workspace.var / "mailbox"
        provider = next((p for p in workspace.settings.providers if p.kind == "mailbox"), None)
        if provider is not None:
            self._read(provider, workspace.root, workspace.settings.site.base_url)

    def _read(self, provider: ProviderSettings, root: Path, site: str) -> None:
        if provider.api_key is not None:
            self.token = provider.api_key.reveal(root)
        if provider.webhook_secret is not None:
            self.webhook_secret = provider.webhook_secret.reveal(root)
        if is_loopback(site):
            self.webhook_url = f"{site}/webhooks/{provider.name}"
