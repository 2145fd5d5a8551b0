"""Every I/O point of one change to a store, failed once each; run as a script by `test_faults`.

One process imports everything and then forks a child for each point, so that a point costs some
milliseconds. After each fault the parent looks at the store, lets the change run again, and
compares the outcome, byte by byte, with that of an undisturbed run.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

import lazystore as ls
from lazystore.convert.correct import correct
from lazystore.errors import DamagedStoreError, LazystoreError, StoreError
from lazystore.store.location import LocalLocation
from lazystore.store.verify import verify
from tests.store.failpoints import Failpoints

# No frames of pixels, which would have overviews: as many calls again, of the code that writes statistics.
FIELD = np.random.default_rng(1).random((8, 20), np.float32)
OTHER = np.random.default_rng(2).integers(0, 999, (6, 4, 5)).astype(np.uint16)
TASKS = 2


@dataclass(frozen=True)
class Scenario:
    """A change to a store.

    Attributes
    ----------
    prepare
        Makes what is there before: gets the work folder.
    act
        The change; the same call goes on with it after a fault. Gives the tasks it did, or None.
    states
        Names of the outcomes that a reader may meet between fault and resume.
    """

    prepare: Callable[[Path], None]
    act: Callable[[Path], int | None]
    states: frozenset[str]


def convert(folder: Path, source: str, name: str, **options: Any) -> int:
    """Convert with one worker, so that the order of I/O is always the same; gives tasks done."""
    report = ls.convert(
        folder / source, folder / "s.zarr", name=name, chunks=2, shards=4, workers=1, **options
    )
    return report.items[0].tasks_done


def make_sources(folder: Path) -> None:
    np.save(folder / "field.npy", FIELD)
    np.save(folder / "other.npy", OTHER)
    for name in ("field.npy", "other.npy"):
        os.utime(folder / name, ns=(0, 10**18))


def with_field(folder: Path) -> None:
    make_sources(folder)
    convert(folder, "field.npy", "field")


def set_start(folder: Path) -> None:
    correct(LocalLocation(folder / "s.zarr"), "field", {"clock.start": "100", "subject": "m7"})


def overwrite(folder: Path) -> int:
    # What a person does after a fault: the same command; it must not begin the removal anew.
    return convert(folder, "other.npy", "field", overwrite=True)


def with_damage(folder: Path) -> None:
    """A shard with a flipped bit, a missing array of statistics, an altered document."""
    with_field(folder)
    item = folder / "s.zarr/field"
    shard = item / "data/c/1/0"
    content = bytearray(shard.read_bytes())
    content[20] ^= 1
    shard.write_bytes(content)
    (item / "stats/sum/c/0").unlink()
    (item / "data/zarr.json").write_bytes(b"{}")


def repair(folder: Path) -> None:
    ls.repair(folder / "s.zarr", folder / "field.npy", yes=True)


SCENARIOS = {
    "convert": Scenario(
        make_sources, lambda f: convert(f, "field.npy", "field"), frozenset({"none", "field"})
    ),
    "add": Scenario(with_field, lambda f: convert(f, "other.npy", "day2/cam"), frozenset({"field", "both"})),
    "set": Scenario(with_field, set_start, frozenset({"field", "moved"})),
    "overwrite": Scenario(with_field, overwrite, frozenset({"field", "none", "over"})),
    "repair": Scenario(with_damage, repair, frozenset({"damaged", "field"})),
}


def snapshot(folder: Path) -> dict[str, str]:
    """Hash of every file of the store and its progress area; a lock that nobody holds is nothing."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".npy" and not path.name.endswith("lock")
    }


def what_lazystore_reads(folder: Path) -> str:
    """The state's name, with every value checked; an honest refusal is "none"."""
    try:
        store = ls.open(folder / "s.zarr")
    except DamagedStoreError:
        raise
    except StoreError:
        return "none"
    with store:
        values = store.array_values
        return state_of({name: (values(name, "data"), values(name, "time")) for name in store})


def what_zarr_reads(folder: Path) -> str:
    """The same through zarr-python and the root's consolidated metadata alone."""
    try:
        root = zarr.open_group(folder / "s.zarr", mode="r")
    except FileNotFoundError:
        return "none"
    names = [name for name in ("field", "day2/cam") if name in root and "data" in root[name]]
    return state_of({name: (root[f"{name}/data"][:], root[f"{name}/time"][:]) for name in names})


_MEMORY: dict[tuple[tuple[str, str], ...], str] = {}


def what_zarr_reads_here(folder: Path) -> str:
    """`what_zarr_reads`, asked once for equal files: most faults lie beside the store."""
    files = tuple((key, sha) for key, sha in snapshot(folder).items() if key.startswith("s.zarr/"))
    if files not in _MEMORY:
        _MEMORY[files] = what_zarr_reads(folder)
    return _MEMORY[files]


def state_of(items: dict[str, tuple[Any, Any]]) -> str:
    if not items:
        return "none"
    if "day2/cam" in items:
        assert np.array_equal(items.pop("day2/cam")[0], OTHER)
        assert list(items) == ["field"]
        expected = "both"
    else:
        expected = "field"
    data, time = items["field"]
    if data.dtype == np.uint16:
        assert np.array_equal(data, OTHER)
        return "over"
    assert np.array_equal(data, FIELD)
    if time[0] == 100:
        assert np.array_equal(time, 100 + np.arange(8))
        return "moved"
    assert np.array_equal(time, np.arange(8)), time
    return expected


def run_child(folder: Path, scenario: Scenario, at: int, action: str) -> dict[str, Any]:
    """The change in a forked child, failed at one point; what became of it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        outcome: dict[str, Any] = {"end": "done"}
        try:
            points = Failpoints([str(folder / "s.zarr")], at, action)
            points.install()
            try:
                scenario.act(folder)
            except LazystoreError as error:
                outcome = {"end": "refused", "type": type(error).__name__, "text": str(error)}
            outcome["calls"] = points.calls
        except BaseException as error:
            outcome = {"end": "crashed", "type": type(error).__name__, "text": str(error), "calls": []}
        with os.fdopen(writer, "w") as pipe:
            json.dump(outcome, pipe)
            pipe.flush()
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return {"end": "killed"}
    result: dict[str, Any] = json.loads(text)
    return result


def damaged_keys(folder: Path) -> set[str]:
    """Files that a full check names, but for those that a killed writer left half-written."""
    findings = verify(LocalLocation(folder / "s.zarr")).findings
    return {finding.key for finding in findings if finding.problem != "orphan"}


def finished_tasks(folder: Path) -> int:
    """Tasks with a record, which must not be done again."""
    records = folder / "s.zarr.progress" / "field" / "records"
    return len([path for path in records.iterdir() if path.name.isdigit()]) if records.is_dir() else 0


def check_point(
    base: Path, work: Path, scenario: Scenario, at: int, action: str, wanted: list[dict[str, str]], name: str
) -> list[str]:
    """What is wrong after a fault at one point; nothing, if all is well."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(base, work)
    outcome = run_child(work, scenario, at, action)
    problems = []
    if outcome["end"] == "crashed":
        problems.append(f"no error of lazystore's: {outcome['type']}: {outcome['text']}")
    if outcome["end"] == "refused":
        if "\n" in outcome["text"]:
            problems.append(f"not one line: {outcome['text']!r}")
        if action == "ENOSPC" and outcome["type"] != "NoSpaceError":
            problems.append(f"{outcome['type']} where NoSpaceError was expected: {outcome['text']}")
    for reads in (what_lazystore_reads, what_zarr_reads_here):
        try:
            state = reads(work)
            if state not in scenario.states:
                problems.append(f"{reads.__name__}: {state}")
        except Exception as error:
            # Damage may stand until it is repaired; what reads must be right.
            if "damaged" not in scenario.states or isinstance(error, AssertionError):
                problems.append(f"{reads.__name__}: {type(error).__name__}: {error}")
    if "damaged" in scenario.states and (more := damaged_keys(work) - damaged_keys(base)):
        problems.append(f"worse than before: {sorted(more)}")
    try:
        done_before = finished_tasks(work)
        committed = name == "convert" and (work / "s.zarr/field/zarr.json").exists()
        again = scenario.act(work)
        if name == "convert" and again is not None:
            most = 0 if committed else TASKS - done_before
            if again > most:
                problems.append(f"{again} tasks done again where {most} were open")
        found = snapshot(work)
        if found not in wanted:
            keys = sorted(key for key in {*found, *wanted[0]} if found.get(key) != wanted[0].get(key))
            problems.append(f"differs from an undisturbed run in {keys}")
        report = verify(LocalLocation(work / "s.zarr"))
        if not report.ok:
            problems.append(f"verify after resuming: {[str(finding) for finding in report.findings]}")
    except Exception as error:
        problems.append(f"resuming: {type(error).__name__}: {error}")
    return problems


def main(name: str, actions: list[str], folder: Path, every: int = 1, first: int = 1) -> dict[str, Any]:
    """Points first, first + every, ... of a scenario; the report for the test.

    An action "A/B" does A and B by turns.
    """
    scenario = SCENARIOS[name]
    base, work = folder / "base", folder / "work"
    shutil.rmtree(folder, ignore_errors=True)
    base.mkdir(parents=True)
    scenario.prepare(base)
    shutil.copytree(base, work)
    scenario.act(work)  # compiles the kernels here, once for all children
    wanted = [snapshot(work)]
    if name == "set":
        # Done twice, because a fault came after its commit, it writes to the other keys again.
        scenario.act(work)
        wanted.append(snapshot(work))
    shutil.rmtree(work)
    shutil.copytree(base, work)
    calls = run_child(work, scenario, 0, "count")["calls"]
    report: dict[str, Any] = {"points": len(calls), "runs": 0, "problems": []}
    assert snapshot(work) == wanted[0], "two undisturbed runs differ"
    for several in actions:
        by_turns = itertools.cycle(several.split("/"))
        for at in range(first, len(calls) + 1, every):
            action = next(by_turns)
            if action == "tear" and not calls[at - 1].startswith("write"):
                continue
            report["runs"] += 1
            for problem in check_point(base, work, scenario, at, action, wanted, name):
                call = calls[at - 1].replace(str(work), "")
                report["problems"].append(f"{action} at {at}/{len(calls)} ({call}): {problem}")
    return report


if __name__ == "__main__":
    warnings.simplefilter("error")
    name, actions, folder, every, first = sys.argv[1:]
    json.dump(main(name, actions.split(","), Path(folder), int(every), int(first)), sys.stdout)
