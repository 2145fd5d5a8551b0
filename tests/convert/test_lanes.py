"""Tasks as runs of neighbours: each is given once, whoever asks, and mostly in order."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from lazystore.convert.lanes import Lanes


@given(st.sets(st.integers(0, 60)), st.lists(st.sampled_from("abcd"), max_size=100))
def test_every_task_is_given_once(tasks: set[int], asking: list[str]) -> None:
    """Whoever asks how often, and whoever asks no more: the last one gets what all others left."""
    lanes = Lanes(sorted(tasks))
    given_tasks = [lanes.next(worker) for worker in asking]
    while (task := lanes.next("last")) is not None:
        given_tasks.append(task)
    assert sorted(task for task in given_tasks if task is not None) == sorted(tasks)


def test_workers_read_on_where_they_are() -> None:
    """Of four that ask in turn each jumps a few times over a hundred tasks."""
    lanes = Lanes(range(100))
    done: dict[str, list[int]] = {worker: [] for worker in "abcd"}
    for _ in range(25):
        for worker, tasks in done.items():
            task = lanes.next(worker)
            assert task is not None
            tasks.append(task)
    jumps = [sum(after != before + 1 for before, after in pairwise(t)) for t in done.values()]
    assert lanes.next("a") is None
    assert max(jumps) <= 4
