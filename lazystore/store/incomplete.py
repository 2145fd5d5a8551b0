"""Items whose conversion was begun and has not finished, read from the progress area."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice

from lazystore.errors import StoreError
from lazystore.store.index import ItemRecord
from lazystore.store.location import LocalLocation, Location
from lazystore.store.progress import PLAN, ProgressArea, unfinished_items

MAX_KEYS = 1000
_CHUNK = re.compile(r"[^/]/c[./]\d+([./]\d+)*$")


@dataclass(frozen=True, slots=True)
class UnfinishedItem:
    """An item on its way.

    Attributes
    ----------
    record
        What it will be: the arrays' documents that were held back.
    finished_tasks, n_tasks
        Shards of records that are durable, and all of them.
    missing
        Record ranges [start, stop) that are not there yet.
    """

    record: ItemRecord
    finished_tasks: int
    n_tasks: int
    missing: tuple[tuple[int, int], ...]

    def describe(self) -> str:
        """One line: how far it is, and how to go on."""
        return (
            f"conversion of {self.record.name!r} has not finished: {self.finished_tasks} of {self.n_tasks} "
            "shards are done; run the same command again to resume it, or open with "
            "allow_incomplete=True to see what is there"
        )


def holds_chunks_only(location: Location) -> bool:
    """Whether there are chunks and no metadata above them: what an unfinished conversion leaves.

    Looks at the first keys, and at nothing where a location cannot list.
    """
    try:
        return any(_CHUNK.search(key) for key in islice(location.list(), MAX_KEYS))
    except StoreError:
        return False


def read_unfinished(location: Location) -> dict[str, UnfinishedItem]:
    """Unfinished items of a local store by name; none for other locations."""
    if not isinstance(location, LocalLocation):
        return {}
    found = {}
    for name in unfinished_items(location.root):
        # Committed, but killed before the root was rebuilt: still unfinished until it is resumed.
        area = ProgressArea(location.root, name)
        plan = area.read_document(PLAN)
        if plan is None:
            continue
        per_task, length = int(plan["records_per_task"]), int(plan["length"])
        n_tasks = -(-length // per_task)
        done = set(area.recorded_tasks())
        missing = tuple(
            (task * per_task, min((task + 1) * per_task, length))
            for task in range(n_tasks)
            if task not in done
        )
        record = ItemRecord(name, plan["attributes"], plan["documents"])
        found[name] = UnfinishedItem(record, n_tasks - len(missing), n_tasks, missing)
    return found
