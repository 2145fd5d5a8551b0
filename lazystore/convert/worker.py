"""A task of a conversion in a process that shares nothing with the coordinator but the files."""

from __future__ import annotations

import os
import pickle
import socket
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from lazystore.convert.plan import ConversionPlan, codec_versions
from lazystore.convert.recording import OpenRecording, Recording
from lazystore.convert.summaries import Summary, summary_for
from lazystore.convert.task import read_task, stage_block
from lazystore.convert.watch import Watch
from lazystore.errors import LazystoreError, SourceError, StoreError
from lazystore.overviews.levels import Levels
from lazystore.store.item_plan import ItemPlan
from lazystore.store.location import LocalLocation
from lazystore.store.progress import ProgressArea
from lazystore.store.staged import StagedTask

# Recordings of conversions whose end nobody told this process of; each holds a few files open.
MAX_OPEN = 4


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker needs to know of a conversion; a few kilobytes.

    Attributes
    ----------
    token
        Tells this run from any other.
    root
        Absolute path of the store.
    item
        What is written, without its attributes.
    levels
        Overviews of a movie.
    recording
        What is read.
    versions
        Of what decides the bytes.
    """

    token: str
    root: str
    item: ItemPlan
    levels: Levels
    recording: Recording
    versions: Mapping[str, str]

    @classmethod
    def of(cls, plan: ConversionPlan, recording: Recording, location: LocalLocation, token: str) -> Job:
        """The job of a plan."""
        item = replace(plan.item, attributes={})
        return cls(token, str(location.root), item, plan.levels, recording, versions_here())

    def packed(self) -> bytes:
        """As it goes with every task: the paths of thousands of images repeat themselves."""
        return zlib.compress(pickle.dumps(self))


def versions_here() -> dict[str, str]:
    """Versions of what decides the bytes of a shard."""
    return {"lazystore": version("lazystore"), **codec_versions()}


class _Running:
    """A job in this process: its recording is opened once, and read by one thread at a time."""

    def __init__(self, job: Job) -> None:
        self.job = job
        # Guarded by `_registry_lock`: tasks at work, and whether nobody will ask for more.
        self.n_tasks = 0
        self.watch = Watch()
        self._location = LocalLocation(job.root)
        self._area = ProgressArea(Path(job.root), job.item.name)
        self._reading = threading.Lock()
        self._opened: tuple[OpenRecording, Summary] | None = None

    def stage(self, task: int) -> StagedTask:
        """One task, staged; nothing is left of it where the run is over meanwhile."""
        self._check_runs()
        with self._reading:
            opened, summary = self._open()
            block = read_task(self.job.item, opened.source, task)
        staged = stage_block(self.job.item, summary, self._location, self._area, task, block)
        try:
            self._check_runs()
        except StoreError:
            staged.discard(self._location, self._area)
            raise
        return staged

    def close(self) -> None:
        """Release the recording's files; no task is at work."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened[0].close()

    def _open(self) -> tuple[OpenRecording, Summary]:
        if self._opened is None:
            item = self.job.item
            try:
                opened = self.job.recording.open()
            except SourceError as error:
                raise type(error)(
                    f"{_here()} cannot open the recording: {error}; workers must see it at the same path"
                ) from error
            try:
                info = opened.source.info
                summary = summary_for(
                    info, item.columns, item.n_tasks, opened.source, self.job.levels, watch=self.watch
                )
            except BaseException:
                opened.close()
                raise
            self._opened = opened, summary
        return self._opened

    def _check_runs(self) -> None:
        if not self._area.has_run(self.job.token):
            raise StoreError(
                f"{_here()} does not see the conversion of {self.job.item.name!r} in {self._area.folder}: it "
                "is over, or workers do not see the store at the same path"
            )


def _here() -> str:
    return f"worker {socket.gethostname()}:{os.getpid()}"


# By the run's token, the one used last at the end.
_registry: dict[str, _Running] = {}
_registry_lock = threading.Lock()


def stage_in_worker(packed: bytes, token: str, task: int) -> StagedTask:
    """Convert one task of a job in this process and stage what comes out.

    Raises
    ------
    SourceError, StoreError, NoSpaceError
        If the recording or the store is not to be had here, or cannot be read or written.
    """
    with _registry_lock:
        running = _registry.pop(token, None) or _Running(_unpacked(packed))
        _registry[token] = running
        running.n_tasks += 1
        idle = [other for other, one in _registry.items() if not one.n_tasks]
        surplus = [_registry.pop(other) for other in idle[: max(0, len(_registry) - MAX_OPEN)]]
    for one in surplus:
        one.close()
    try:
        return running.stage(task)
    finally:
        with _registry_lock:
            running.n_tasks -= 1
            is_last = running.watch.stopping and not running.n_tasks
        if is_last:
            running.close()


def forget(token: str) -> None:
    """Release what this process holds for a run, or let its last task do it; never waits."""
    with _registry_lock:
        running = _registry.pop(token, None)
        if running is None:
            return
        running.watch.stop()
        is_idle = not running.n_tasks
    if is_idle:
        running.close()


def _unpacked(packed: bytes) -> Job:
    job: Job = pickle.loads(zlib.decompress(packed))
    here = versions_here()
    different = [
        f"{name} {here[name]}, not {wanted}" for name, wanted in job.versions.items() if here[name] != wanted
    ]
    if different:
        raise LazystoreError(f"{_here()} has {', '.join(different)}; install the same versions everywhere")
    return job
