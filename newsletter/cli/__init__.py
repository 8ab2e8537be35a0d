"""The command line. Commands only parse, call the library and print."""

from newsletter.cli.main import main

__all__ = ["main"]
