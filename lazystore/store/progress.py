"""The progress area beside a store: the plan of an unfinished item and one record a finished task.

Nothing in here is ever read as data. It says what is durable already, and keeps each task's share
of the statistics, so that a resumed conversion reads no part of the source twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import DamagedStoreError
from lazystore.schema import JSON, canonical_json
from lazystore.store.location import LocalLocation, WriteBatch, write_error
from lazystore.store.manifest import Entry

PROGRESS_SUFFIX = ".progress"
PLAN = "plan.json"
REMOVAL = "removal.json"
RECORDS = "records/"
# A new name for every run: a file server's clients may remember for a while what a name held before.
RUN_MARK = "run-"
HEADER_GUESS_BYTES = 4096


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """What one finished task left: its files, and its share of what is computed on the way.

    `missing` are the records that the source lost, `reasons` what it said of some of them.
    """

    task: int
    entries: tuple[Entry, ...]
    shares: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    missing: tuple[int, ...] = ()
    reasons: tuple[str, ...] = ()

    def to_parts(self) -> list[bytes | memoryview]:
        """The record's file: a JSON line, then the arrays' bytes; the line holds a crc32c of each."""
        payloads = [memoryview(np.ascontiguousarray(array)).cast("B") for array in self.shares.values()]
        header: JSON = {
            "task": self.task,
            "entries": [[e.key, e.size, e.crc32c, e.sha256] for e in self.entries],
            "shares": [
                [name, array.dtype.str, list(array.shape), crc32c_of(payload)]
                for (name, array), payload in zip(self.shares.items(), payloads, strict=True)
            ],
            "missing": list(self.missing),
            "reasons": list(self.reasons),
        }
        return [canonical_json(header), b"\n", *payloads]


def _record_key(task: int) -> str:
    return f"{RECORDS}{task:08d}"


def crc32c_of(data: bytes | memoryview) -> int:
    """CRC-32C of any bytes; sha256 would cost a tenth of a conversion, against nobody's malice."""
    import google_crc32c

    # The library takes arrays, but no memoryview.
    value: int = google_crc32c.value(np.frombuffer(data, np.uint8) if len(data) else b"")
    return value


class StoredShares(Mapping[str, NDArray[Any]]):
    """A recorded task's shares; each is read when it is asked for, and checked.

    The commit asks for one share of every task, then for the next share of every task: reading
    records whole would read them once a share.
    """

    def __init__(self, location: LocalLocation, key: str, offset: int, shares: Sequence[Any]) -> None:
        self._location = location
        self._key = key
        self._places: dict[str, tuple[int, int, np.dtype[Any], list[int], int]] = {}
        for name, dtype, shape, checksum in shares:
            kind = np.dtype(dtype)
            n_bytes = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
            self._places[name] = (offset, n_bytes, kind, shape, checksum)
            offset += n_bytes

    def __getitem__(self, name: str) -> NDArray[Any]:
        offset, n_bytes, kind, shape, checksum = self._places[name]
        data = self._location.read_range(self._key, offset, n_bytes)
        if len(data) != n_bytes or crc32c_of(data) != checksum:
            raise DamagedStoreError(
                f"{self._location.url}: {self._key} is damaged; run the same command again to redo its task"
            )
        return np.frombuffer(data, kind).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class ProgressArea:
    """The folder ``<store>.progress/<item>`` beside a local store."""

    def __init__(self, store_root: Path, item: str) -> None:
        self.top = Path(f"{store_root}{PROGRESS_SUFFIX}")
        self.folder = self.top / quote(item, safe="")
        self._location = LocalLocation(self.folder)

    @property
    def lock_path(self) -> Path:
        """Held by the one converter that may write the item."""
        return self.folder / ".lock"

    @property
    def root_lock_path(self) -> Path:
        """Held while the root's metadata is rebuilt."""
        return self.top / ".root-lock"

    def write_document(self, name: str, document: Mapping[str, JSON]) -> None:
        """Keep a JSON document, durably."""
        self._location.write(name, [canonical_json(document)])

    def read_document(self, name: str) -> dict[str, Any] | None:
        """A kept document; None if there is none."""
        try:
            content = self._location.read(name)
        except FileNotFoundError:
            return None
        try:
            document: dict[str, Any] = json.loads(content)
        except ValueError as error:
            raise DamagedStoreError(
                f"{self.folder / name} is damaged ({error}); remove {self.folder} and convert again"
            ) from error
        return document

    def delete_document(self, name: str) -> None:
        """Forget a document."""
        self._location.delete(name)

    def delete_partials(self) -> None:
        """Delete what a killed converter left half-written; the caller holds the item's lock."""
        self._location.delete_partials()
        self._location.delete_partials(RECORDS.rstrip("/"))

    def write_record(self, record: TaskRecord) -> None:
        """Record a task whose files are durable."""
        self.publish_record(self.stage_record(record), record.task)

    def stage_record(self, record: TaskRecord) -> str:
        """Keep a record that counts once it is published; gives its name until then."""
        return self._location.stage(_record_key(record.task), record.to_parts())

    def publish_record(self, staged: str, task: int) -> None:
        """Let a staged record count; the task's files are durable."""
        with WriteBatch(self._location) as batch:
            batch.publish(staged, _record_key(task))

    def discard_record(self, staged: str) -> None:
        """Forget a staged record."""
        self._location.discard([staged])

    def mark_run(self, token: str) -> None:
        """Let workers elsewhere know that the run of this token goes on."""
        self._location.write(f"{RUN_MARK}{token}", [])

    def unmark_run(self, token: str) -> None:
        """The run of this token is over: whoever still works for it shall leave nothing."""
        self._location.delete(f"{RUN_MARK}{token}")

    def has_run(self, token: str) -> bool:
        """Whether the run of this token goes on, as far as can be seen from here."""
        return (self.folder / f"{RUN_MARK}{token}").is_file()

    def read_record(self, task: int) -> TaskRecord | None:
        """A task's record; None if the task is not finished or its record is damaged.

        A damaged record only costs doing the task again.
        """
        key = _record_key(task)
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            line = self._first_line(key)
            header = json.loads(line)
            return TaskRecord(
                header["task"],
                tuple(Entry(*entry) for entry in header["entries"]),
                StoredShares(self._location, key, len(line) + 1, header["shares"]),
                tuple(header["missing"]),
                tuple(header["reasons"]),
            )
        return None

    def _first_line(self, key: str) -> bytes:
        length = HEADER_GUESS_BYTES
        while True:
            head = self._location.read_range(key, 0, length)
            line, newline, _ = head.partition(b"\n")
            if newline or len(head) < length:
                return line
            length *= 8

    def has_sound_record(self, task: int) -> bool:
        """Whether a task's record is there, every byte of it as it was written."""
        record = self.read_record(task)
        try:
            return record is not None and all(share is not None for share in record.shares.values())
        except DamagedStoreError:
            return False

    def recorded_tasks(self) -> list[int]:
        """Numbers of the tasks that have a record, ascending."""
        names = (key.rpartition("/")[2] for key in self._location.list(RECORDS))
        return sorted(int(name) for name in names if name.isdigit())

    def records(self, tasks: Sequence[int]) -> Iterator[TaskRecord]:
        """Records of finished tasks, one in memory at a time.

        Raises
        ------
        DamagedStoreError
            If one cannot be read any more.
        """
        for task in tasks:
            record = self.read_record(task)
            if record is None:
                raise DamagedStoreError(
                    f"the record of task {task} in {self.folder} is damaged; run the same command again"
                )
            yield record

    def clear(self) -> None:
        """Empty the item's area but for its lock, the plan last: without it nothing is left to resume."""
        try:
            shutil.rmtree(self.folder / RECORDS)
        except FileNotFoundError:
            pass
        except OSError as error:
            # Records that stay would be taken for those of the next conversion.
            raise write_error(error, RECORDS, str(self.folder)) from error
        keep = (PLAN, self.lock_path.name)
        for name in [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []:
            if name not in keep:
                self._location.delete(name)
        self._location.delete(PLAN)

    def has_plan(self) -> bool:
        """Whether a conversion of the item was begun and not finished."""
        return (self.folder / PLAN).is_file()


def unfinished_items(store_root: Path) -> list[str]:
    """Names of the items whose conversion was begun and has not finished."""
    top = Path(f"{store_root}{PROGRESS_SUFFIX}")
    try:
        names = os.listdir(top)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(unquote(name) for name in names if (top / name / PLAN).is_file())
