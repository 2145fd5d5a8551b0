"""Pictures for the page of results: dots on a scale of powers of ten, ours in one colour, others in grey."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.tables import Row, is_ours, text_of, value_of

OUR_COLOUR, OTHER_COLOUR, LIMIT_COLOUR = "#d1495b", "#8d99ae", "#2b2d42"
FRAME_MS = 1e3 / 30

type Ways = list[tuple[str, float]]
type Panels = dict[str, Ways]


def playback_panels(rows: Sequence[Row]) -> Panels:
    """Painted frames at random, ms, in three sizes of one length and the longest movie."""
    panels: Panels = {}
    for row in rows:
        if "random_p50_ms" in row and str(row["case"]).startswith("RGB: "):
            panels.setdefault(row["group"], []).append(
                (row["case"].removeprefix("RGB: "), row["random_p50_ms"])
            )
    return panels


def read_panels(rows: Sequence[Row]) -> Panels:
    """A frame at random, ms, by codec; the first movie of the run."""
    panels: Panels = {}
    movies = [row["movie"] for row in rows if row.get("case") == "random"]
    for row in rows:
        if row.get("case") == "random" and row["movie"] == movies[0]:
            ways = {"lazystore": "ours", "read + checksum + decode": "bare", "np.memmap": "memmap"}
            ways |= {name: name for name in ("zarr-python", "tensorstore")}
            bars = [(way, value_of(row, f"us.{key}")) for way, key in ways.items()]
            panels[f"{row['movie']}, {row['codec']}"] = [
                (way, us / 1e3) for way, us in bars if us is not None
            ]
    return panels


def remote_panels(rows: Sequence[Row]) -> Panels:
    """The longest waits but one in a hundred while playing, ms."""
    panels: Panels = {}
    for row in rows:
        if "p99_ms" in row:
            panels.setdefault(str(row["group"]), []).append((row["case"], row["p99_ms"]))
    return {group: found for group, found in panels.items() if len(found) > 1}


# What each picture shows: a title, the panels, and whether the time of a frame is drawn.
PICTURES: dict[str, tuple[str, Callable[[Sequence[Row]], Panels], bool]] = {
    "playback": ("A field frame at random, painted: median, ms (less is better)", playback_panels, False),
    "read": ("A frame at random from a local disk, ms (less is better)", read_panels, False),
    "remote": ("Playing at 30 fps from 50 ms away: 99th percentile of the waits, ms", remote_panels, True),
}


def draw(rows: Mapping[str, Sequence[Row]], folder: Path) -> list[Path]:
    """Write the pictures that the measurements allow; the files written."""
    written = []
    for name, (title, panels_of, has_limit) in PICTURES.items():
        panels = panels_of(rows.get(name, []))
        if panels:
            folder.mkdir(parents=True, exist_ok=True)
            written.append(folder / f"performance-{name.replace('_', '-')}.svg")
            _picture(title, panels, has_limit, written[-1])
    return written


def _picture(title: str, panels: Panels, has_limit: bool, path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib.figure import Figure

    columns = 2 if len(panels) == 4 else min(3, len(panels))
    lines = -(-len(panels) // columns)
    n_ways = max(map(len, panels.values()))
    # The same bytes for the same numbers: no date, and names of clip paths that do not change. Text
    # stays text, which is smaller than its outlines.
    style = {"svg.hashsalt": "lazystore", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}
    numbers = [value for ways in panels.values() for _, value in ways if value > 0]
    limits = (min(numbers) / 3, max(max(numbers), FRAME_MS if has_limit else 0) * 5)
    with matplotlib.rc_context(style):
        size = (2.6 * columns + 2.2, (0.26 * n_ways + 0.75) * lines + 0.4)
        figure = Figure(figsize=size, layout="constrained")
        figure.suptitle(title, fontsize=11)
        axes = figure.subplots(lines, columns, squeeze=False, sharex=True)
        named: list[list[str]] = [[] for _ in range(lines)]
        for i, ax in enumerate(axes.ravel()):
            if i >= len(panels):
                ax.set_axis_off()
                continue
            group, ways = list(panels.items())[i]
            _dots(ax, group, ways, limits)
            names = [name for name, _ in ways]
            # The names stand once a line of panels, where they are the same.
            if named[i // columns] == names:
                ax.set_yticklabels([])
            named[i // columns] = names
            if i + columns >= len(panels):
                ax.tick_params(labelbottom=True)
            if has_limit:
                ax.axvline(FRAME_MS, color=LIMIT_COLOUR, linewidth=1, linestyle="--")
                ax.text(FRAME_MS * 0.85, len(ways) - 0.45, "time of a frame", ha="right", fontsize=7)
        figure.savefig(path, metadata={"Date": None})


def _dots(ax: Any, group: str, ways: Ways, limits: tuple[float, float]) -> None:
    # A bar would have to begin at zero, which this scale does not have; and a line that leaves the panel
    # is not cut off by every viewer.
    for place, (name, value) in enumerate(ways):
        colour = OUR_COLOUR if is_ours(name) else OTHER_COLOUR
        shown = max(value, limits[0])
        ax.plot([limits[0], shown], [place, place], color=colour, linewidth=1.5, alpha=0.5)
        ax.plot([shown], [place], "o", color=colour, markersize=6)
        ax.text(shown * 1.3, place, f" {text_of(value, 2)}", va="center", fontsize=8)
    ax.set_xscale("log")
    ax.set_xlim(limits)
    ax.minorticks_off()
    ax.xaxis.set_major_formatter(lambda tick, _: f"{tick:g}")
    ax.set_yticks(range(len(ways)), [name for name, _ in ways])
    ax.set_ylim(len(ways) - 0.4, -0.6)
    ax.set_title(group, fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)
