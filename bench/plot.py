"""Draws bench/growth.svg: the time of a send against its size, both on logarithmic axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path


def draw(path: Path, series: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    """`series`: name → (recipients, seconds). A line of slope one is cost that grows as n."""
    import matplotlib

    matplotlib.use("svg")
    # The same figures give the same file.
    matplotlib.rcParams |= {"svg.hashsalt": "newsletter", "font.size": 9}
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for name, points in series.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    first = next(iter(series.values()))[0]
    largest = max(people for points in series.values() for people, _ in points)
    linear = [(first[0], first[1]), (largest, first[1] * largest / first[0])]
    axes.plot(*zip(*linear, strict=True), linestyle=":", color="grey", label="grows as n")
    axes.set(xscale="log", yscale="log", xlabel="recipients", ylabel="seconds, start to end")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
