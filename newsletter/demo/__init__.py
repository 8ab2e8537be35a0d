"""The main job in view, on the sample content; it is also what a newcomer reads first."""

from newsletter.demo.steps import run_demo

__all__ = ["run_demo"]
