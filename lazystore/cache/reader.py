"""CachedReader: a chunk reader around a chunk reader, with memory."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict
from time import monotonic
from typing import Any, cast

from numpy.typing import NDArray

from lazystore.cache.loading import copied_into, read_chunks, read_into_slots
from lazystore.cache.passes import passes
from lazystore.cache.planning import jobs_ahead
from lazystore.cache.policy import after_lingering, ahead_of, motion_of, predict
from lazystore.cache.pool import ChunkPool, shared_pool
from lazystore.cache.prefetch import Job, Plan, Prefetcher, shared_prefetcher
from lazystore.cache.shelf import Entry, Load, Shelf, sealed
from lazystore.cache.telemetry import CacheInfo, Counts
from lazystore.chunks import ChunkIndex, grid_shape
from lazystore.protocols import ChunkReader, GroupedReader, InPlaceReader, PrefetchPolicy
from lazystore.schema import ArraySpec
from lazystore.telemetry import logger

# One group of a batch reserves its room at once, so it must leave room for others.
GROUP_SHARE_OF_BUDGET = 4
# What a reader does not decode in place lies beside the budget until it is copied.
COPIED_GROUP_SHARE_OF_BUDGET = 16
# A read slower than this pays for a round trip, which neighbours of a prefetch then share.
SLOW_READ_S = 0.005
MAX_SHARED_READ = 8
# Passes over groups of frames at a time, backwards; a decoder each, and one is left for demands.
MAX_PASSES_BACK = 2
# Prefetch may fill this part of the budget ahead of the playhead.
AHEAD_SHARE_OF_BUDGET = 2
# Causes of failed prefetches that are remembered, so that each is logged once.
MAX_CAUSES = 64
# How long close() waits for a prefetch that is reading; that thread closes the reader itself if late.
CLOSE_WAIT_S = 1.0


class CachedReader:
    """Chunks from memory where they are there, else from another reader, once.

    Parameters
    ----------
    reader
        Where chunks come from: a store, or a slower cache around one. Called from several threads.
    key
        What the chunks are: place, array and generation. Readers with equal keys share chunks;
        None shares with nobody.
    prefetch, policy
        Whether chunks that playback will want are read ahead, on background threads, and which those are.
    pool, prefetcher
        Budget and threads; the process's own unless given.

    Notes
    -----
    Thread-safe. A hit takes no lock. A miss reads in the calling thread; others who want the same
    chunk wait for it. Errors reach everyone who waits, and are never kept. What is handed out is
    read-only. Pickles without its chunks and survives a fork.
    """

    def __init__(
        self,
        reader: ChunkReader,
        *,
        key: Hashable | None = None,
        prefetch: bool = True,
        policy: PrefetchPolicy = predict,
        pool: ChunkPool | None = None,
        prefetcher: Prefetcher | None = None,
    ) -> None:
        spec = reader.spec
        self.reader = reader
        self._reads_into = reader.read_chunks_into if isinstance(reader, InPlaceReader) else None
        self.key: Hashable = key if key is not None else f"unshared-{next(_numbers)}"
        self.policy = policy
        self._shares = key is not None
        self._spec = spec
        self._chunk_nbytes = spec.chunk_nbytes
        self._grid = grid_shape(spec.shape, spec.chunks)
        self._pool = pool if pool is not None else shared_pool
        self._prefetcher = prefetcher if prefetcher is not None else shared_prefetcher
        self._prefetches = prefetch and len(self._grid) > 0 and self._grid[0] > 1
        self._has_neighbours = any(count > 1 for count in self._grid[1:])
        self._counts = Counts()
        self._causes: set[str] = set()
        self._read_s = 0.0
        self._group_of = _group_of(reader, len(self._grid)) if isinstance(reader, GroupedReader) else None
        # Where another record of a chunk was asked for that had taken long to read.
        self._lingers_in = -1
        self._holds_several = self._prefetches and spec.chunks[0] > 1
        self.is_open = False
        with self._pool.lock:
            self._attach()

    # --- reading --------------------------------------------------------------------------------

    @property
    def spec(self) -> ArraySpec:
        return self._spec

    def read_chunk(self, chunk_index: ChunkIndex) -> NDArray[Any]:
        entry = self._entries.get(chunk_index)
        if entry is None:
            return self._demand(chunk_index)
        now = entry.used = monotonic()
        self._counts.hits += 1
        if entry.is_watched:
            self._watched_hit(chunk_index, entry)
        if chunk_index and (chunk_index[0] != self._playhead.last or self._has_neighbours):
            self._observe(chunk_index, now)
        return entry.array

    def read_chunks(self, chunk_indices: Sequence[ChunkIndex]) -> list[NDArray[Any]]:
        """Several chunks; those that are missing are read together, a bounded part of the budget at once."""
        share = GROUP_SHARE_OF_BUDGET if self._reads_into is not None else COPIED_GROUP_SHARE_OF_BUDGET
        group = max(1, self._pool.limit_bytes // share // max(1, self._chunk_nbytes))
        # `batched` makes room for a whole group at once: for chunks of a few bytes that is gigabytes.
        group = min(group, max(1, len(chunk_indices)))
        found: list[NDArray[Any]] = []
        for part in itertools.batched(chunk_indices, group):
            now = monotonic()
            for chunk_index in part:
                self._observe(chunk_index, now)
            found.extend(self._demand_all(part))
        return found

    def absent(self, chunk_indices: Sequence[ChunkIndex]) -> list[ChunkIndex]:
        """Those of the chunks that are worth reading ahead of their use, together.

        They are neither in memory nor more, all in all, than the part of the budget that one batch
        may take; none are where they would push each other out before they are used.
        """
        missing = [index for index in chunk_indices if index not in self._entries]
        fits = len(missing) * self._chunk_nbytes * GROUP_SHARE_OF_BUDGET <= self._pool.limit_bytes
        return missing if fits else []

    def read_through(self, chunk_indices: Sequence[ChunkIndex]) -> list[NDArray[Any]]:
        """Chunks for a scan: from memory where they are there, else read and not kept.

        Neither the playhead nor the order of eviction hears of it.
        """
        found: dict[ChunkIndex, NDArray[Any]] = {}
        absent = []
        for chunk_index in chunk_indices:
            entry = self._entries.get(chunk_index)
            if entry is None:
                absent.append(chunk_index)
            else:
                found[chunk_index] = entry.array
        self._counts.uncached += len(absent)
        if absent:
            found.update(zip(absent, map(sealed, self.reader.read_chunks(absent)), strict=True))
        return [found[chunk_index] for chunk_index in chunk_indices]

    def read_through_into(
        self, chunk_indices: Sequence[ChunkIndex], memories: Sequence[memoryview]
    ) -> list[NDArray[Any]]:
        """As `read_through`, into memory of the caller's: see `lazystore.protocols.InPlaceReader`."""
        if self._reads_into is None or any(index in self._entries for index in chunk_indices):
            return copied_into(self._spec, self.read_through(chunk_indices), memories)
        self._counts.uncached += len(chunk_indices)
        return self._reads_into(chunk_indices, memories)

    def _demand(self, chunk_index: ChunkIndex) -> NDArray[Any]:
        started = monotonic()
        if chunk_index and (chunk_index[0] != self._playhead.last or self._has_neighbours):
            self._observe(chunk_index, started)
        if self._group_of is None:
            return self._demand_all((chunk_index,))[0]
        return self._demand_all((chunk_index, *self._rest_of_pass(chunk_index)))[0]

    def _rest_of_pass(self, chunk_index: ChunkIndex) -> list[ChunkIndex]:
        """What playback backwards will ask for next of the group that has to be decoded anyway."""
        if self._playhead.rises:
            return []
        with self._pool.lock:
            motion = self._shelf.motion()
            if motion is None or not motion.is_steady or not motion.is_regular:
                return []
            room = self._pool.limit_bytes // GROUP_SHARE_OF_BUDGET // max(1, self._chunk_nbytes)
            assert self._group_of is not None
            (numbers,) = passes([chunk_index[0]], motion, self._group_of, max(1, room))
            indices = [(number, *chunk_index[1:]) for number in numbers[1:]]
            known = self._shelf.entries.keys() | self._shelf.loads.keys()
            return [index for index in indices if index not in known]

    def _demand_all(self, chunk_indices: Sequence[ChunkIndex]) -> list[NDArray[Any]]:
        """Chunks in order; reads what is missing as one batch, joins what others are reading."""
        started = monotonic()
        arrays: dict[ChunkIndex, NDArray[Any]] = {}
        is_first = True
        while len(arrays) < len(set(chunk_indices)):
            mine: dict[ChunkIndex, Load] = {}
            others: dict[ChunkIndex, Load] = {}
            with self._pool.lock:
                shelf = self._attach()
                for chunk_index in chunk_indices:
                    if chunk_index in arrays or chunk_index in mine or chunk_index in others:
                        continue
                    entry = shelf.entries.get(chunk_index)
                    load = shelf.loads.get(chunk_index)
                    if entry is not None:
                        arrays[chunk_index] = self._use(entry, is_first)
                    elif load is not None:
                        others[chunk_index] = load
                    else:
                        mine[chunk_index] = shelf.loads[chunk_index] = Load()
                if is_first:
                    self._counts.misses += len(mine) + len(others)
                    self._counts.waits += len(others)
            is_first = False
            if mine:
                arrays.update(self._read(shelf, mine))
            for chunk_index, load in others.items():
                load.done.wait()
                if load.error is not None:
                    self._counts.wait_s += monotonic() - started
                    raise load.error
                if load.array is not None:
                    arrays[chunk_index] = load.array
                # Else the reading thread was interrupted: its chunk is ours to read in the next round.
        self._counts.wait_s += monotonic() - started
        return [arrays[chunk_index] for chunk_index in chunk_indices]

    def _use(self, entry: Entry, is_hit: bool) -> NDArray[Any]:
        entry.used = monotonic()
        self._counts.hits += is_hit
        if entry.is_unused:
            self._first_use(entry)
        return entry.array

    def _first_use(self, entry: Entry) -> None:
        entry.is_unused = False
        self._counts.prefetch_used += 1

    def _watched_hit(self, chunk_index: ChunkIndex, entry: Entry) -> None:
        entry.is_watched = False
        if entry.is_unused:
            self._first_use(entry)
        elif chunk_index[0] == self._playhead.last:
            # Its next record was asked for: playback goes on inside the chunk.
            self._lingers_in = chunk_index[0]
            self._prefetcher.wake(self)

    def _read(
        self, shelf: Shelf, loads: dict[ChunkIndex, Load], *, is_prefetch: bool = False
    ) -> dict[ChunkIndex, NDArray[Any]]:
        """Read the chunks of loads that this thread has begun, and end these loads, come what may.

        Room for a prefetch has been reserved by its caller.
        """
        pool = self._pool
        indices = list(loads)
        nbytes = self._chunk_nbytes * len(indices)
        is_reserved = is_prefetch
        arrays: dict[ChunkIndex, NDArray[Any]] = {}
        error: Exception | None = None
        is_watched = is_prefetch
        try:
            with pool.lock:
                if self._reads_into is not None and self._spec.codec.cname != "none":
                    pool.decoders.note(self._chunk_nbytes)
                is_reserved = is_prefetch or pool.reserve(shelf, nbytes)
                # What will not be kept is not worth a slot.
                slots = shelf.memory.borrow(len(indices)) if is_reserved else []
            started = monotonic()
            if is_reserved and shelf.memory.add(slots, len(indices)):
                arrays = read_into_slots(self.reader, indices, slots, self._reads_into)
            else:
                arrays = read_chunks(self.reader, indices)
            is_watched |= self._holds_several and monotonic() - started > SLOW_READ_S
        except Exception as failure:
            # Of a batch nobody knows which chunk failed: those who wait for one read it themselves.
            error = failure if len(loads) == 1 else None
            raise
        finally:
            with pool.lock:
                if is_reserved:
                    pool.release(shelf, nbytes)
                for chunk_index, load in loads.items():
                    # A fork or a close may have cleared the shelf since.
                    if shelf.loads.get(chunk_index) is load:
                        del shelf.loads[chunk_index]
                    load.array, load.error = arrays.get(chunk_index), error
                    if is_reserved and load.array is not None:
                        pool.keep(
                            shelf, chunk_index, load.array, is_unused=is_prefetch, is_watched=is_watched
                        )
                if not is_reserved:
                    self._counts.uncached += len(arrays)
                pool.room.notify_all()
            for load in loads.values():
                load.done.set()
        return arrays

    # --- the playhead, and reading ahead of it --------------------------------------------------

    def _observe(self, chunk_index: ChunkIndex, now: float) -> None:
        if not chunk_index:
            return
        playhead, number = self._playhead, chunk_index[0]
        if number != playhead.last:
            if self._has_neighbours:
                playhead.tails_before, playhead.tails = playhead.tails, {}
            playhead.observe(now, number)
            if self._prefetches:
                self._prefetcher.wake(self)
        if self._has_neighbours:
            playhead.tails[chunk_index[1:]] = None

    def plan(self) -> Plan:
        """What to read ahead now; called by the prefetcher's planning thread."""
        playhead, n_chunks = self._playhead, self._grid[0]
        history = playhead.history()
        motion = motion_of(history, n_chunks)
        is_still = motion is not None and not motion.stride and self._lingers_in != motion.position
        if motion is None or is_still or not self.is_open:
            return Plan()
        tails = list(playhead.tails_before | playhead.tails) or [(0,) * (len(self._grid) - 1)]
        room = self._pool.limit_bytes // AHEAD_SHARE_OF_BUDGET // max(1, self._chunk_nbytes * len(tails))
        if motion.stride:
            usual = self.policy is predict  # which would work out the same motion again
            numbers = ahead_of(motion, n_chunks, room) if usual else self.policy(history, n_chunks, room)
        else:
            numbers = after_lingering(motion, n_chunks)[:room]
        return jobs_ahead(numbers, motion, tails, self._entries, self._group_of, room)

    @property
    def has_place(self) -> bool:
        """Whether another thread may read ahead: passes over groups are few at a time."""
        if self._group_of is None:
            return True
        # Of two passes forwards the later one may get the decoder first, and frames were decoded twice.
        return self._shelf.reads_ahead < (1 if self._playhead.rises else MAX_PASSES_BACK)

    @property
    def shared_reads(self) -> int:
        """How many neighbours one prefetch reads together: several where a read costs a round trip."""
        return MAX_SHARED_READ if self._read_s > SLOW_READ_S else 1

    def prefetch(self, jobs: Sequence[Job]) -> bool:
        """Read chunks ahead, on this thread; False where they are not worth the room they need.

        An error is counted, and logged once for each cause; the demand for the chunk will raise it.
        """
        pool, shelf = self._pool, self._shelf
        earlier: list[Load] = []
        with pool.lock:
            if not self.is_open:
                return False
            shelf.begin_reading_ahead(id(self))
            if self._group_of is not None and self._playhead.rises:
                # A demand that waits for the room or the decoder that this takes would decode its group anew.
                first = jobs[0].chunk_index[0]
                earlier = [load for index, load in shelf.loads.items() if index[0] < first]
        try:
            for load in earlier:
                load.done.wait(CLOSE_WAIT_S)
            return self._prefetch(shelf, jobs)
        finally:
            with pool.lock:
                shelf.end_reading_ahead(id(self))
                pool.room.notify_all()
            if not self.is_open:
                # Closed meanwhile: what this read opened again is ours to close.
                self.reader.close()

    def _prefetch(self, shelf: Shelf, jobs: Sequence[Job]) -> bool:
        pool = self._pool
        with pool.lock:
            if not self.is_open:
                return False
            # A playhead that outruns the reading threads needs what is ahead of it now.
            loads = {
                job.chunk_index: Load()
                for job in jobs
                if job.chunk_index not in shelf.entries
                and job.chunk_index not in shelf.loads
                and not job.is_passed(self._playhead.last)
            }
            if not loads:
                return True
            if not pool.reserve(shelf, self._chunk_nbytes * len(loads), within_s=jobs[0].within_s):
                return False
            shelf.loads.update(loads)
        started = monotonic()
        try:
            self._read(shelf, loads, is_prefetch=True)
            self._counts.prefetched += len(loads)
            self._time_read(monotonic() - started, len(loads))
        except Exception as error:
            cause = f"{type(error).__name__}: {error}"
            with pool.lock:
                # Two threads may fail of one cause at once.
                self._counts.prefetch_errors += 1
                is_new = cause not in self._causes and len(self._causes) < MAX_CAUSES
                if is_new:
                    self._causes.add(cause)
            if is_new:
                logger.warning("prefetch failed, and will be tried again at demand: %s", cause)
        return True

    def _time_read(self, seconds: float, n_chunks: int) -> None:
        """Learn how long one read takes; a shared one says something only if it was quick as a whole."""
        if n_chunks == 1:
            self._read_s = 0.75 * self._read_s + 0.25 * seconds if self._read_s else seconds
        elif seconds < SLOW_READ_S:
            self._read_s = seconds

    def count_cancelled(self, n_jobs: int) -> None:
        """Planned loads that were dropped before they began."""
        self._counts.prefetch_cancelled += n_jobs

    # --- life -----------------------------------------------------------------------------------

    def cache_info(self) -> CacheInfo:
        """What the cache did for this reader, and what it holds of its array."""
        pool = self._pool
        with pool.lock:
            shelf = self._shelf
            return CacheInfo(
                **asdict(self._counts),
                evictions=shelf.evictions,
                chunks=len(shelf.entries),
                bytes=shelf.nbytes,
                in_flight_bytes=shelf.in_flight_bytes,
                total_bytes=pool.resident_bytes + pool.reserved_bytes,
                limit_bytes=pool.limit_bytes,
            )

    def close(self) -> None:
        """Let go of the chunks and close the reader below; waits at most 1 s for a prefetch.

        Idempotent. The next read opens everything again.
        """
        with self._pool.lock:
            was_open, self.is_open = self.is_open, False
        give_up_at = monotonic() + CLOSE_WAIT_S
        self._prefetcher.forget(self, give_up_at)
        with self._pool.lock:
            if was_open:
                self._finalizer.detach()
                self._pool.detach(self.key, self._shelf)
            while self._shelf.is_reading_ahead(id(self)) and (left := give_up_at - monotonic()) > 0:
                self._pool.room.wait(left)
        self.reader.close()

    def _attach(self) -> Shelf:
        """The array's shelf; takes part in it again after a close. Lock held."""
        if not self.is_open:
            self._shelf = self._pool.attach(self.key, self._grid[0] if self._grid else 1, self._chunk_nbytes)
            # Read without the lock at every hit.
            self._entries, self._playhead = self._shelf.entries, self._shelf.playhead
            self._finalizer = weakref.finalize(self, self._pool.forget_later, self.key)
            self._finalizer.atexit = False
            self.is_open = True
        return self._shelf

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self.reader, self.key if self._shares else None, self._prefetches, self.policy)

    def __repr__(self) -> str:
        return f"CachedReader({self.reader!r})"


_numbers = itertools.count()


def _group_of(reader: GroupedReader, n_dims: int) -> Callable[[int], range]:
    return lambda number: reader.group_of((number, *(0 for _ in range(1, n_dims))))


def _rebuilt(
    reader: ChunkReader, key: Hashable | None, prefetch: bool, policy: PrefetchPolicy
) -> CachedReader:
    return CachedReader(reader, key=key, prefetch=prefetch, policy=policy)


def cached(reader: ChunkReader, *, prefetch: bool = True) -> CachedReader:
    """The reader behind the process's chunk cache.

    Parameters
    ----------
    reader
        Where it has a `generation` (and `location`, `prefix`), all readers of that array and
        generation share their chunks; else it shares with nobody.
    prefetch
        Whether to read ahead of playback on background threads.
    """
    generation = getattr(reader, "generation", None)
    key = None
    if generation:
        described = cast(Any, reader)
        key = (described.location.url, described.prefix, generation)
    return CachedReader(reader, key=key, prefetch=prefetch)
