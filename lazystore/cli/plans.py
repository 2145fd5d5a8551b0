"""What a conversion would write and cost, as tables or JSON."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lazystore.cli.output import print_json, print_note, print_table, seconds_text, size_text

if TYPE_CHECKING:
    from lazystore.convert.api import Prepared
    from lazystore.convert.choices import Choice
    from lazystore.convert.report import ItemReport


def print_plans(
    prepared: Sequence[Prepared],
    free_bytes: int,
    *,
    as_json: bool,
    choices: Sequence[Sequence[Choice]] = (),
) -> None:
    """What would be written, how large it would be, and what the `choices` of each would cost."""
    if as_json:
        items = [
            {**one.plan.describe(), **({"choices": [each.to_json() for each in its]} if its else {})}
            for one, its in itertools.zip_longest(prepared, choices)
        ]
        print_json({"items": items, "free_bytes": free_bytes})
        return
    rows = []
    for one in prepared:
        plan, main, stored = one.plan, one.plan.main, one.plan.item.columns[0]
        codec = plan.trials[stored.path].codec
        is_encoded = main.name != stored.path
        rows.append(
            (
                plan.item.name,
                f"{plan.info.kind} ({plan.info.format})",
                " x ".join(map(str, main.shape)) + f" {main.dtype.name}",
                # Of packets a chunk is some bytes; frames are decoded one by one.
                "" if is_encoded else f"{stored.chunks[0]} in {stored.write_shape[0]}",
                "encoded" if is_encoded else f"{codec.cname}-{codec.level} {codec.shuffle}",
                size_text(plan.source_bytes),
                size_text(plan.stored_bytes),
                size_text(plan.overview_bytes) if plan.levels else "",
                size_text(plan.peak_bytes),
                plan.timing.clock.describe(),
            )
        )
    headings = (
        "item",
        "kind",
        "shape",
        "chunks",
        "codec",
        "source",
        "store (est.)",
        "overviews",
        "memory",
        "start",
    )
    print_table(headings, rows, title=f"{size_text(free_bytes)} free on the disk of the store")
    for one in prepared:
        ticks = one.plan.timing.ticks
        if ticks is not None and not ticks.known and one.plan.timing.times_s is None:
            rate_hz = 1 / float(ticks.step * ticks.time_base)
            print_note(
                f"note: {one.plan.item.name}: no time stamps; {rate_hz:g} Hz is assumed: pass --rate HZ"
            )
        for line in _notes_of(one):
            print_note(line)
    for one, its in zip(prepared, choices, strict=bool(choices)):
        if its:
            _print_choices(one, its)


def print_reports(reports: Sequence[ItemReport], planned: Sequence[Prepared]) -> None:
    """A line an item, and a note on standard error for each thing that is wrong with it.

    What `planned`, printed before, has noted already is not noted again.
    """
    told = {line for one in planned for line in _notes_of(one)}
    for item in reports:
        if item.already_there:
            print(f"{item.name}: was there already, from the same source and settings")
        else:
            resumed = (
                f", {item.tasks_resumed} of {item.tasks_resumed + item.tasks_done} shards were done before"
            )
            print(
                f"{item.name}: {size_text(item.source_bytes)} -> {size_text(item.stored_bytes)} "
                f"({size_text(item.decoded_bytes)} decoded) in {seconds_text(item.seconds)}{resumed if item.tasks_resumed else ''}"
            )
        for problem in item.problems:
            line = _note(item.name, problem)
            if line not in told:
                print_note(line)


def _notes_of(one: Prepared) -> list[str]:
    return [_note(one.plan.item.name, problem) for problem in (*one.plan.info.problems, *one.plan.notes)]


def _note(name: str, problem: str) -> str:
    return f"note: {name}: {problem}"


def _print_choices(one: Prepared, found: Sequence[Choice]) -> None:
    rows = [
        (
            f"{choice.codec} ({choice.mark})" if choice.mark else choice.codec,
            size_text(choice.stored_bytes),
            f"{choice.ratio:.2f}",
            seconds_text(choice.random_s),
            f"{choice.frames_per_s:,.0f}/s",
        )
        for choice in found
    ]
    headings = ("codec", "store (est.)", "x source", "a frame anywhere", "in order")
    print_table(headings, rows, title=f"{one.plan.item.name}: what each --codec would cost, by samples of it")
