"""Tasks of a conversion on the workers of a dask.distributed cluster; the only file that knows it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from lazystore.convert.lanes import Lanes
from lazystore.convert.worker import Job, forget, stage_in_worker
from lazystore.errors import LazystoreError, MissingExtraError, StoreError, UsageError
from lazystore.store.staged import StagedTask

# One that a thread works on and one that waits for it, so that no thread waits for the coordinator.
TASKS_A_THREAD = 2
# How often workers are counted: they come and go.
COUNT_EVERY_S = 2.0
# For workers to release their files; one that stands still must not hold up the end.
FORGET_S = 1.0
CONNECT_S = 10.0


def checked_client(client: Any) -> Any:
    """The client, if it is one that can be waited for.

    Raises
    ------
    UsageError
        If it is something else, asynchronous, closed, or its cluster has no workers.
    MissingExtraError
        If dask.distributed is not installed.
    """
    distributed = _distributed()
    if not isinstance(client, distributed.Client):
        raise UsageError(
            f"client={client!r} is no dask.distributed Client; pass Client(CLUSTER) or Client('tcp://HOST:PORT')"
        )
    if client.asynchronous:
        raise UsageError("client= is an asynchronous Client, which nobody can wait for; pass a plain one")
    if client.status != "running":
        raise UsageError(f"client= is {client.status}, not connected; pass a new Client")
    if not client.nthreads():
        raise UsageError(
            f"the cluster of {client.scheduler.address} has no workers; start some, "
            "or wait for them with client.wait_for_workers(1)"
        )
    return client


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """A client of a running scheduler.

    Raises
    ------
    UsageError
        If nobody answers there.
    MissingExtraError
        If dask.distributed is not installed.
    """
    distributed = _distributed()
    try:
        client = distributed.Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"no dask scheduler answers at {address!r}: {reason}") from error
    with client:
        yield checked_client(client)


def stage_on_client(client: Any, job: Job, tasks: Sequence[int]) -> Generator[StagedTask]:
    """Tasks as they are staged, in any order; ending the iteration cancels the rest.

    Parameters
    ----------
    client
        From `checked_client`.
    job
        What its workers do.
    tasks
        Numbers of the tasks.

    Raises
    ------
    LazystoreError
        The first error of any worker.
    """
    distributed = _distributed()
    packed = job.packed()
    running = distributed.as_completed(loop=client.loop)
    lanes = Lanes(tasks)
    worker_of: dict[Any, str] = {}
    threads: dict[str, int] = {}
    counted_at = 0.0

    def submit() -> None:
        """Fill the free places."""
        nonlocal threads, counted_at
        if time.monotonic() - counted_at > COUNT_EVERY_S:
            # Where all are gone, dask keeps what is submitted for the next one to come.
            threads = client.nthreads() or {"": 1}
            counted_at = time.monotonic()
        taken = Counter(worker_of.values())
        for worker, n_threads in threads.items():
            while taken[worker] < TASKS_A_THREAD * n_threads:
                if (task := lanes.next(worker)) is None:
                    return
                future = client.submit(
                    stage_in_worker, packed, job.token, task,
                    key=f"lazystore-{job.token}-{task}", pure=False,
                    # A wish: another one does it if this one is gone.
                    workers=[worker] if worker else None, allow_other_workers=bool(worker),
                )  # fmt: skip
                worker_of[future] = worker
                taken[worker] += 1
                running.add(future)

    try:
        submit()
        for future in running:
            del worker_of[future]
            staged = _result(future, distributed)
            submit()
            yield staged
    finally:
        if worker_of:
            client.cancel(list(worker_of))
        _forget(client, job.token)


def _result(future: Any, distributed: Any) -> StagedTask:
    try:
        staged: StagedTask = future.result()
    except (LazystoreError, MemoryError):
        raise
    except distributed.scheduler.KilledWorker as error:
        raise StoreError(
            f"{error.allowed_failures + 1} workers died at the same shard, the last at "
            f"{error.last_worker.address}: see its log, it may lack memory; "
            "the same call goes on where this one stopped"
        ) from error
    except Exception as error:
        raise StoreError(
            f"a worker failed with {type(error).__name__}: {error}; "
            "the same call goes on where this one stopped"
        ) from error
    return staged


def _forget(client: Any, token: str) -> None:
    """Let workers release their files, but wait for none that stands still."""

    def tell() -> None:
        # Best effort: a worker closes what is left when it opens other recordings.
        with contextlib.suppress(Exception):
            client.run(forget, token, on_error="ignore")

    telling = threading.Thread(target=tell, name="lazystore-forget", daemon=True)
    telling.start()
    telling.join(FORGET_S)


def _distributed() -> Any:
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            'client= needs the package distributed, which is missing; pip install "lazystore[distributed]"'
        ) from error
    return distributed
