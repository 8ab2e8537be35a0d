"""Writes the reference pages that are made from the code, and checks that all pages are true to it.

`python -m docs.generate` writes; `--check` fails when a page is out of date, a link between pages
leads nowhere, or a setting is not described.
"""

from __future__ import annotations

import importlib
import re
import sys
import typing
from pathlib import Path

import typer

from newsletter.checks import COMPILED_RULES, DRAFT_RULES
from newsletter.cli.main import ROOMS, app
from newsletter.providers import known_kinds
from newsletter.providers.base import Capabilities
from newsletter.settings import Section, Settings

DOCS = Path(__file__).parent
ROOT = DOCS.parent
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def command_reference() -> str:
    """docs/commands.md: every command with its help, arguments and options."""
    for room in ROOMS:
        importlib.import_module(f"newsletter.cli.{room}").register(app)
    group = typer.main.get_command(app)
    lines = [
        "# Commands",
        "",
        "Made from `--help` by `make docs`. Exit codes and JSON shapes are in"
        " [the contract](contract.md).",
        "",
    ]
    lines += _command_section(group, "newsletter", depth=2)
    return "\n".join(lines).rstrip() + "\n"


def _command_section(command: typing.Any, name: str, depth: int) -> list[str]:
    lines: list[str] = []
    if hasattr(command, "commands"):
        for child_name, child in sorted(command.commands.items()):
            lines += _command_section(child, f"{name} {child_name}", depth)
        return lines
    lines += [f"{'#' * depth} `{name}`", "", (command.help or "").strip(), ""]
    rows = [row for row in map(_parameter_row, command.params) if row]
    if rows:
        lines += ["| | |", "|---|---|", *rows, ""]
    return lines


def _parameter_row(parameter: typing.Any) -> str:
    if parameter.param_type_name == "argument":
        title = parameter.metavar or str(parameter.name).upper()
        text = parameter.help or ""
    else:
        if "--help" in parameter.opts:
            return ""
        title = ", ".join([*parameter.opts, *parameter.secondary_opts])
        text = parameter.help or ""
    return f"| `{title.replace('|', chr(92) + '|')}` | {' '.join(text.split())} |"


def provider_matrix() -> str:
    """docs/providers-matrix.md: the capabilities that each provider declares."""
    capabilities: dict[str, Capabilities] = {
        kind: importlib.import_module(f"newsletter.providers.{kind}").CAPABILITIES
        for kind in known_kinds()
    }
    lines = [
        "# What each provider can do",
        "",
        "Made from the capabilities that each provider's module declares, by `make docs`.",
        "",
        "| | " + " | ".join(capabilities) + " |",
        "|---|" + "---|" * len(capabilities),
    ]
    for field in Capabilities.__dataclass_fields__:
        values = [_value(getattr(c, field)) for c in capabilities.values()]
        lines.append(f"| {field.replace('_', ' ')} | " + " | ".join(values) + " |")
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, frozenset):
        return ", ".join(sorted(value)) or "–"
    return "–" if value is None else str(value)


def checks_reference() -> str:
    """docs/checks.md: every rule of the checks, from the registry."""
    lines = [
        "# Checks",
        "",
        "Made from the rules in `newsletter/checks` by `make docs`; [writing](writing.md#checks)"
        " says how they are used. A rule may find less than its severity.",
        "",
    ]
    for title, rules in (
        ("On the file", DRAFT_RULES),
        ("On the compiled issue, and again when its send starts", COMPILED_RULES),
    ):
        lines += [
            f"## {title}",
            "",
            "| rule | | what to do | who asks for it |",
            "|---|---|---|---|",
        ]
        for rule in rules:
            hint = rule.hint.replace("|", "\\|")
            lines.append(f"| `{rule.name}` | {rule.severity} | {hint} | {rule.source} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


PAGES = {
    "checks.md": checks_reference,
    "commands.md": command_reference,
    "providers-matrix.md": provider_matrix,
}


def faults() -> list[str]:
    """What is untrue in the documentation, one line each."""
    found = []
    for page, make in PAGES.items():
        path = DOCS / page
        if not path.exists() or path.read_text(encoding="utf-8") != make():
            found.append(f"docs/{page} is out of date: run make docs")
    for page in [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]:
        for target in _LINK.findall(page.read_text(encoding="utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                found.append(f"{page.relative_to(ROOT)}: no such file: {target}")
    described = (DOCS / "settings.md").read_text(encoding="utf-8")
    found += [f"docs/settings.md: {key} is missing" for key in _keys() if key not in described]
    return found


def _keys() -> list[str]:
    keys = []
    for section, field in Settings.model_fields.items():
        model = next(
            (a for a in (field.annotation, *typing.get_args(field.annotation)) if _is_section(a)),
            None,
        )
        assert model is not None, section
        keys += [f"`{section}.{key}`" for key in model.model_fields]
    return keys


def _is_section(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


def main() -> int:
    if "--check" in sys.argv[1:]:
        found = faults()
        return 1 if found else 0
    for page, make in PAGES.items():
        (DOCS / page).write_text(make(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
