"""The command line. Commands only parse, call the library and print."""

from newsletter.cli.main import main, run

__all__ = ["main", "run"]
