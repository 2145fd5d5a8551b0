"""Conversions on the workers of a dask cluster: the same bytes, whoever dies, stops or comes back."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import lazystore as ls
from lazystore.cli import convert as convert_command
from lazystore.convert import on_client, worker
from lazystore.convert.recording import Cut, Recording
from lazystore.convert.worker import Job, forget, stage_in_worker
from lazystore.errors import (
    LazystoreError,
    MissingExtraError,
    SourceChangedError,
    SourceError,
    StoreError,
    UsageError,
)
from lazystore.sources.identity import identify_file
from lazystore.sources.stacks import images as stack_images
from lazystore.store.location import LocalLocation
from lazystore.store.progress import ProgressArea
from lazystore.store.verify import verify
from tests import samples
from tests.scoreboard import record, scaled

distributed = pytest.importorskip("distributed")  # an extra; CI installs it, and fails where it is missing

N_SHARDS = 10
# A process that begins imports all there is, from a cold disk perhaps.
PATIENCE_S = 120.0


def new_cluster() -> Any:
    """Two processes with a thread each."""
    return distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
    )


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with new_cluster() as running:
        yield running


@pytest.fixture
def client(cluster: Any) -> Iterator[Any]:
    with distributed.Client(cluster, set_as_default=False) as connected:
        connected.wait_for_workers(2, timeout=60)
        yield connected


@pytest.fixture
def field(tmp_path: Path) -> Path:
    """Ten shards of four frames."""
    path = tmp_path / "field.npy"
    np.save(path, np.random.default_rng(0).random((4 * N_SHARDS, 16, 12), dtype=np.float32))
    return path


LAYOUT: dict[str, Any] = {"chunks": 2, "shards": 4}


def files_of(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def by_threads(source: Any, store: Path, **options: Any) -> dict[str, bytes]:
    """The files of an undisturbed conversion here."""
    undisturbed = store.with_name("by_threads.zarr")
    ls.convert(source, undisturbed, **options)
    return files_of(undisturbed)


# --- every kind -----------------------------------------------------------------------------------


def images(folder: Path) -> Path:
    """Thirty pictures, one of them damaged."""
    path = folder / "images"
    path.mkdir()
    for number in range(30):
        values = np.random.default_rng(number).integers(0, 255, (20, 24), dtype=np.uint8)
        Image.fromarray(values).save(path / f"{number}.png")
    content = (path / "11.png").read_bytes()
    (path / "11.png").write_bytes(content[: len(content) // 2])
    return path


def made(name: str, make: Callable[[Path], None]) -> Callable[[Path], Path]:
    def at(folder: Path) -> Path:
        make(folder / name)
        return folder / name

    return at


def joined(folder: Path) -> list[Path]:
    for number in range(3):
        np.save(folder / f"{number}.npy", np.full((7, 5, 6), number, np.int16))
    return [folder / f"{number}.npy" for number in range(3)]


def zarr_folder(folder: Path) -> Path:
    import zarr

    array = np.random.default_rng(1).random((20, 6, 5))
    zarr.create_array(folder / "in.zarr", data=array, chunks=(3, 6, 5))
    return folder / "in.zarr"


CASES: dict[str, tuple[Callable[[Path], Any], dict[str, Any]]] = {
    "field": (made("f.npy", samples.make_field), {"chunks": 8, "shards": 16}),
    "cut": (
        made("f.npy", samples.make_field),
        {"chunks": 4, "shards": 8, "rate_hz": 10.0, "time": (3.0, 12.0), "crop": (2, 30, 1, 20), "every": 2,
         "dtype": "float16"},
    ),
    "times": (
        made("f.npy", samples.make_field),
        {"chunks": 4, "shards": 8, "times": np.arange(200) * 0.5 + 1, "time": (11.0, 50.0)},
    ),
    "zarr": (zarr_folder, {"chunks": 2, "shards": 4, "kind": "stack"}),
    "several files": (joined, {"chunks": 2, "shards": 4, "kind": "stack"}),
    "images": (images, {"chunks": 2, "shards": 4}),
    "pages": (made("s.tif", samples.make_stack), {"chunks": 1, "shards": 3}),
    "pixels": (made("v.mp4", samples.make_video), {"chunks": 2, "shards": 8, "codec": "balanced"}),
    "gray": (
        made("v.mp4", samples.make_video),
        {"chunks": 2, "shards": 4, "codec": "fast", "source_options": {"color": "gray"}, "every": 3},
    ),
    "packets": (made("v.mp4", samples.make_video), {"chunks": 256, "shards": 512, "codec": "encoded"}),
    "packets of a part": (
        made("v.mp4", samples.make_video),
        {"chunks": 128, "shards": 256, "codec": "encoded", "time": (0.5, 1.7), "every": 2},
    ),
    "events": (made("e.h5", samples.make_events), {"chunks": 1024, "shards": 4096}),
    "events of a part": (
        made("e.h5", samples.make_events),
        {"chunks": 1024, "shards": 2048, "time": (0.2, 0.7), "crop": (4, 40, 3, 60)},
    ),
    "track": (made("t.csv", samples.make_track), {"chunks": 8, "shards": 16}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_workers_write_what_threads_write(case: str, client: Any, tmp_path: Path, store_path: Path) -> None:
    """Every file of the store is the same, and nothing is left beside it."""
    make, options = CASES[case]
    source = make(tmp_path)
    report = ls.convert(source, store_path, client=client, **options).items[0]
    assert report.tasks_done >= 3
    assert report.tasks_resumed == 0
    assert files_of(store_path) == by_threads(source, store_path, **options)
    assert verify(LocalLocation(store_path)).ok
    assert not Path(f"{store_path}.progress").exists()
    assert set(client.run(lambda: len(worker._registry)).values()) == {0}


# --- begun here, ended there ----------------------------------------------------------------------


class Stop(BaseException):
    """Like Ctrl-C."""


def stop_after(n_tasks: int) -> Callable[[Any], None]:
    calls = []

    def progress(_: Any) -> None:
        calls.append(1)
        if len(calls) == n_tasks:
            raise Stop

    return progress


@pytest.mark.parametrize("begins", ["here", "there"])
def test_one_goes_on_where_the_other_stopped(begins: str, client: Any, field: Path, store_path: Path) -> None:
    first, then = ({}, {"client": client}) if begins == "here" else ({"client": client}, {})
    with pytest.raises(Stop):
        ls.convert(field, store_path, **LAYOUT, **first, progress=stop_after(3))
    told: list[Any] = []
    report = ls.convert(field, store_path, **LAYOUT, **then, progress=told.append).items[0]
    assert report.tasks_resumed >= 3
    assert report.tasks_done + report.tasks_resumed == N_SHARDS
    assert len(told) == report.tasks_done
    assert told[-1].records == told[-1].total_records == 4 * N_SHARDS
    assert files_of(store_path) == by_threads(field, store_path, **LAYOUT)
    assert ls.convert(field, store_path, **LAYOUT, client=client).items[0].already_there


COORDINATOR = """
import sys
import distributed
import lazystore as ls
address, source, store = sys.argv[1:]
if __name__ == "__main__":
    with distributed.Client(address) as client:
        ls.convert(source, store, chunks=2, shards=4, client=client)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system kills no processes")
def test_a_coordinator_that_was_killed(client: Any, field: Path, store_path: Path) -> None:
    """Its workers publish nothing for it any more; threads go on with what it published."""
    command = [sys.executable, "-c", COORDINATOR, client.scheduler.address, str(field), str(store_path)]
    coordinator = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    records = Path(f"{store_path}.progress/field/records")
    while not (records.is_dir() and any(name.isdigit() for name in os.listdir(records))):
        assert coordinator.poll() is None
        time.sleep(0.001)
    coordinator.kill()
    coordinator.wait()
    with pytest.raises(StoreError, match="conversion .* has not finished"):
        ls.open(store_path)
    assert ls.convert(field, store_path, **LAYOUT).items[0].tasks_resumed >= 1
    assert files_of(store_path) == by_threads(field, store_path, **LAYOUT)
    assert not list(store_path.rglob("*.partial"))


# --- workers that die, stop and come back ---------------------------------------------------------


def test_a_killed_worker_costs_only_time(field: Path, store_path: Path) -> None:
    """Another one does its shards, at whatever moment it dies."""
    wanted = by_threads(field, store_path, **LAYOUT)
    kills = 0
    for number in range(scaled(1, 30)):
        # Its own: now and then a nanny does not bring a killed worker back.
        with new_cluster() as cluster, distributed.Client(cluster, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
            victim = min(client.run(os.getpid).values())
            due = time.monotonic() + 0.02 * (number // 2)

            killed: list[int] = []

            def kill(_: Any, victim: int = victim, due: float = due, killed: list[int] = killed) -> None:
                if time.monotonic() >= due and not killed:
                    os.kill(victim, signal.SIGKILL)
                    killed.append(victim)

            ls.convert(field, store_path, **LAYOUT, client=client, progress=kill, overwrite=True)
        assert files_of(store_path) == wanted
        assert verify(LocalLocation(store_path)).ok
        kills += len(killed)
    record(2, workers_killed=kills, wrong=0)


# At these calls a worker stops itself: before a shard is staged, between shard and record, after both.
STOPS = {
    "before": ("stage", "before", "data/c/"),
    "between": ("stage", "after", "data/c/"),
    "after": ("stage", "after", "records/"),
}


def stop_at(moment: str, marks: str) -> None:
    """Let this process stop itself once, and say when the task that it was in has ended."""
    from lazystore.convert import worker as here
    from lazystore.store.location import LocalLocation

    name, when, part = STOPS[moment]
    real, real_stage = getattr(LocalLocation, name), here._Running.stage
    stopped: list[str] = []

    def stopping(self: Any, key: str, parts: Any) -> Any:
        def stop() -> None:
            if part in key and not stopped:
                stopped.append(key)
                Path(marks, "stopped").write_text(key)
                os.kill(os.getpid(), signal.SIGSTOP)

        if when == "before":
            stop()
        result = real(self, key, parts)
        if when == "after":
            stop()
        return result

    def stage(self: Any, task: int) -> Any:
        try:
            return real_stage(self, task)
        finally:
            if stopped:
                Path(marks, "ended").touch()

    setattr(LocalLocation, name, stopping)
    here._Running.stage = stage  # type: ignore[method-assign]  # in that process only


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system stops no processes")
@pytest.mark.parametrize(
    ("moment", "then"),
    [
        ("before", "overwritten"),
        ("between", "committed"),
        ("between", "overwritten"),
        ("after", "committed"),
        ("after", "overwritten"),
    ],
)
def test_a_worker_that_was_stopped_and_revived_changes_nothing(
    moment: str, then: str, client: Any, field: Path, store_path: Path, tmp_path: Path
) -> None:
    """Given up and replaced, it wakes after the commit, or when another recording has the item's name."""
    marks = tmp_path / "marks"
    marks.mkdir()
    wanted = by_threads(field, store_path, **LAYOUT, name="a")
    stale = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_worker", client.scheduler.address, "--no-nanny",
         "--nthreads", "1", "--no-dashboard", "--name", "stale", "--local-directory", str(tmp_path)],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        client.wait_for_workers(3, timeout=60)
        workers = client.scheduler_info(n_workers=-1)["workers"]
        address = next(where for where, about in workers.items() if about["name"] == "stale")
        client.run(stop_at, moment, str(marks), workers=[address])

        def give_up(_: Any) -> None:
            # What the scheduler does when a worker's time to live is over; that takes seconds.
            if (marks / "stopped").exists() and not (marks / "given up").exists():
                (marks / "given up").touch()
                client.run_on_scheduler(remove_worker, address)

        waiting = WaitUntilStopped(marks, give_up)
        ls.convert(field, store_path, **LAYOUT, name="a", client=client, progress=waiting)
        assert (marks / "given up").exists()
        assert files_of(store_path) == wanted
        if then == "overwritten":
            other = tmp_path / "other.npy"
            np.save(other, np.load(field) + 1)
            shutil.rmtree(store_path.with_name("by_threads.zarr"))
            wanted = by_threads(other, store_path, **LAYOUT, name="a")
            ls.convert(other, store_path, **LAYOUT, name="a", client=client, overwrite=True)
        os.kill(stale.pid, signal.SIGCONT)
        give_up_at = time.monotonic() + PATIENCE_S
        while not (marks / "ended").exists() and stale.poll() is None:
            assert time.monotonic() < give_up_at, "the revived worker did not end its task"
            time.sleep(0.01)
        assert (marks / "ended").exists()
        assert files_of(store_path) == wanted
        assert verify(LocalLocation(store_path)).ok
        record(8, workers_stopped_and_revived=1, wrong=0)
    finally:
        stale.kill()
        stale.wait()


class WaitUntilStopped:
    """A progress callback that lets the first shard wait for the stale worker's stop."""

    def __init__(self, marks: Path, give_up: Callable[[Any], None]) -> None:
        self._marks, self._give_up = marks, give_up

    def __call__(self, progress: Any) -> None:
        give_up_at = time.monotonic() + PATIENCE_S
        while not (self._marks / "stopped").exists():
            assert time.monotonic() < give_up_at, "no task went to the worker that was to be stopped"
            time.sleep(0.01)
        self._give_up(progress)


async def remove_worker(address: str, dask_scheduler: Any) -> None:
    await dask_scheduler.remove_worker(address, stimulus_id="test", close=False)


def test_workers_that_die_at_the_same_shard_end_the_conversion(
    client: Any, field: Path, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard that kills whoever takes it is told, and what is durable stays."""
    error = distributed.scheduler.KilledWorker("task", FakeWorker(), 3)

    class Dead:
        def result(self) -> Any:
            raise error

    with pytest.raises(
        StoreError, match="4 workers died at the same shard, the last at tcp://x: see its log"
    ):
        on_client._result(Dead(), distributed)


class FakeWorker:
    address = "tcp://x"


def test_an_error_of_a_worker_is_told_and_leaves_what_is_done(
    client: Any, tmp_path: Path, store_path: Path
) -> None:
    """The error is the one that threads raise, and the same call goes on after."""
    folder = images(tmp_path)

    def break_disk() -> None:
        read = stack_images._read_image

        def read_or_fail(path: Path) -> Any:
            if path.name == "29.png":
                raise OSError(errno.EIO, "Input/output error")
            return read(path)

        vars(read_or_fail)["before"] = read
        stack_images._read_image = read_or_fail

    def mend_disk() -> None:
        # A worker that came for one that was killed has never been broken.
        read = stack_images._read_image
        stack_images._read_image = getattr(read, "before", read)

    client.run(break_disk)
    try:
        with pytest.raises(SourceError, match=r"frame 29 cannot be read.*bring the file or the disk back"):
            ls.convert(folder, store_path, **LAYOUT, client=client)
    finally:
        client.run(mend_disk)
    assert not list(store_path.rglob("zarr.json"))
    report = ls.convert(folder, store_path, **LAYOUT, client=client).items[0]
    assert report.tasks_done + report.tasks_resumed == 8
    assert files_of(store_path) == by_threads(folder, store_path, **LAYOUT)


# --- what is refused ------------------------------------------------------------------------------


def test_clients_that_cannot_work(field: Path, store_path: Path, client: Any) -> None:
    closed = distributed.Client(client.scheduler.address, set_as_default=False)
    closed.close()
    for wrong, message in (
        (5, r"client=5 is no dask.distributed Client; pass Client\(CLUSTER\)"),
        (closed, "client= is closed, not connected; pass a new Client"),
    ):
        with pytest.raises(UsageError, match=message):
            ls.convert(field, store_path, client=wrong)
    with pytest.raises(UsageError, match="workers=2 are threads here, client= works elsewhere; pass one"):
        ls.convert(field, store_path, client=client, workers=2)
    assert not store_path.exists()


def test_an_asynchronous_client_is_refused(client: Any) -> None:
    async def attempt() -> None:
        async with distributed.Client(
            client.scheduler.address, asynchronous=True, set_as_default=False
        ) as one:
            on_client.checked_client(one)

    with pytest.raises(UsageError, match="asynchronous Client, which nobody can wait for"):
        asyncio.run(attempt())


def test_a_cluster_without_workers_is_refused(field: Path, store_path: Path) -> None:
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0", processes=False) as empty,
        distributed.Client(empty, set_as_default=False) as nobody,
        pytest.raises(UsageError, match=r"has no workers; start some, or wait.*wait_for_workers\(1\)"),
    ):
        ls.convert(field, store_path, client=nobody)


def test_what_workers_cannot_open_is_refused(client: Any, tmp_path: Path, store_path: Path) -> None:
    """Arrays in memory, and archives that are read front to back."""
    array = np.zeros((4, 3, 2), np.uint8)
    with pytest.raises(
        UsageError, match="workers open by themselves, not for ndarray in memory; leave client"
    ):
        ls.convert(array, store_path, client=client)
    np.savez_compressed(tmp_path / "a.npz", data=array)
    with pytest.raises(UsageError, match=r"'a.npz' is a zip archive, which is read front to back.*as \.npy"):
        ls.convert(tmp_path / "a.npz", store_path, client=client)
    assert not store_path.exists()


def test_distributed_is_an_extra(monkeypatch: pytest.MonkeyPatch, field: Path, store_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtraError, match=r'pip install "lazystore\[distributed\]"'):
        ls.convert(field, store_path, client=5)


# --- in a worker ----------------------------------------------------------------------------------


@pytest.fixture
def job(field: Path, store_path: Path) -> Iterator[Job]:
    """What a worker is told; its run goes on."""
    from lazystore.convert.api import Request, prepare
    from lazystore.convert.plan import Settings

    (one,) = prepare(field, Request(settings=Settings(chunks=2, shards=4)))
    one.close()
    assert one.recording is not None
    yield Job.of(one.plan, one.recording, LocalLocation(store_path), "token")
    forget("token")


def test_a_worker_that_does_not_see_the_store_says_so(job: Job) -> None:
    with pytest.raises(
        StoreError, match="does not see the conversion of 'field' in .*the store at the same path"
    ):
        stage_in_worker(job.packed(), job.token, 0)


def test_a_worker_that_sees_another_recording_says_so(job: Job, field: Path, store_path: Path) -> None:
    ProgressArea(store_path, "field").mark_run(job.token)
    np.save(field, np.load(field) + 1)
    with pytest.raises(
        SourceChangedError, match="cannot open the recording: 'field.npy' has .* at the same path"
    ):
        stage_in_worker(job.packed(), job.token, 0)
    field.unlink()
    with pytest.raises(SourceError, match="cannot open the recording: no such file .* at the same path"):
        stage_in_worker(job.packed(), job.token, 0)


def test_a_worker_of_other_versions_says_so(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = job.packed()
    monkeypatch.setattr(worker, "versions_here", lambda: {**job.versions, "numpy": "1.0"})
    with pytest.raises(LazystoreError, match=r"has numpy 1\.0, not .*; install the same versions everywhere"):
        stage_in_worker(packed, job.token, 0)


def test_a_stream_that_is_gone(field: Path) -> None:
    recording = Recording(str(field), None, None, {}, "second", Cut(), False, (identify_file(field),))
    with pytest.raises(SourceChangedError, match=r"'field\.npy' has no stream 'second' any more"):
        recording.open()


def test_a_job_is_small(job: Job) -> None:
    """Of ten thousand images, too, although every path goes with every task."""
    from dataclasses import replace

    paths = tuple(f"/data/of/somebody/session 5/images/frame_{number:06d}.png" for number in range(10_000))
    assert len(job.packed()) < 4_000
    assert len(replace(job, recording=replace(job.recording, paths=paths)).packed()) < 60_000


def test_few_recordings_stay_open(job: Job, store_path: Path) -> None:
    """Where nobody said that a run is over, the one used longest ago is closed."""
    from dataclasses import replace

    area = ProgressArea(store_path, "field")
    for number in range(worker.MAX_OPEN + 2):
        token = f"token{number}"
        area.mark_run(token)
        stage_in_worker(replace(job, token=token).packed(), token, number)
    try:
        assert list(worker._registry) == [f"token{number}" for number in range(2, worker.MAX_OPEN + 2)]
    finally:
        for token in list(worker._registry):
            forget(token)


# --- the command line -----------------------------------------------------------------------------


def test_the_command_line_connects_to_a_scheduler(
    client: Any, field: Path, store_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        convert_command.convert(
            [str(field), str(store_path)], chunks=2, shards=4, scheduler=client.scheduler.address, quiet=True
        )
        == 0
    )
    assert files_of(store_path) == by_threads(field, store_path, **LAYOUT)
    with pytest.raises(UsageError, match="--workers 2 are threads here, --scheduler works elsewhere"):
        convert_command.convert([str(field), str(store_path)], workers=2, scheduler="tcp://127.0.0.1:1")


def test_a_scheduler_that_is_not_there(
    field: Path, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_client, "CONNECT_S", 0.3)
    with pytest.raises(UsageError, match=r"no dask scheduler answers at 'tcp://127\.0\.0\.1:1'"):
        convert_command.convert([str(field), str(store_path)], scheduler="tcp://127.0.0.1:1", quiet=True)
