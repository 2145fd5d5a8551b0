"""The progress area beside a store: the plan of an unfinished item and one record a finished task.

Nothing in here is ever read as data. It says what is durable already, and keeps each task's share
of the statistics, so that a resumed conversion reads no part of the source twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
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
from lazystore.store.location import PARTIAL_SUFFIX, LocalLocation
from lazystore.store.manifest import Entry

PROGRESS_SUFFIX = ".progress"
PLAN = "plan.json"
REMOVAL = "removal.json"
RECORDS = "records/"


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

    def to_bytes(self) -> bytes:
        """The record's file: a JSON line, then the arrays' bytes; the line holds their hash."""
        payload = b"".join(np.ascontiguousarray(array).tobytes() for array in self.shares.values())
        header: JSON = {
            "task": self.task,
            "entries": [[e.key, e.size, e.crc32c, e.sha256] for e in self.entries],
            "shares": [[name, a.dtype.str, list(a.shape)] for name, a in self.shares.items()],
            "missing": list(self.missing),
            "reasons": list(self.reasons),
            "sha256": hashlib.sha256(payload).hexdigest(),
        }
        return canonical_json(header) + b"\n" + payload

    @classmethod
    def from_bytes(cls, content: bytes) -> TaskRecord:
        """The record in a file.

        Raises
        ------
        ValueError
            If the bytes are not those that were written.
        """
        line, _, payload = content.partition(b"\n")
        header = json.loads(line)
        if hashlib.sha256(payload).hexdigest() != header["sha256"]:
            raise ValueError("payload hash")
        file = io.BytesIO(payload)
        shares = {}
        for name, dtype, shape in header["shares"]:
            kind = np.dtype(dtype)
            count = int(np.prod(shape, dtype=np.int64))
            shares[name] = np.frombuffer(file.read(count * kind.itemsize), kind).reshape(shape)
        entries = tuple(Entry(*entry) for entry in header["entries"])
        return cls(header["task"], entries, shares, tuple(header["missing"]), tuple(header["reasons"]))


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

    def write_record(self, record: TaskRecord) -> None:
        """Record a task whose files are durable."""
        self._location.write(f"{RECORDS}{record.task:08d}", [record.to_bytes()])

    def read_record(self, task: int) -> TaskRecord | None:
        """A task's record; None if the task is not finished or its record is damaged.

        A damaged record only costs doing the task again.
        """
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            return TaskRecord.from_bytes(self._location.read(f"{RECORDS}{task:08d}"))
        return None

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
        """Remove the item's area, its plan last: without a plan nothing is left to resume."""
        shutil.rmtree(self.folder / RECORDS, ignore_errors=True)
        self._location.delete(PLAN)

    def has_plan(self) -> bool:
        """Whether a conversion of the item was begun and not finished."""
        return (self.folder / PLAN).is_file()


def unfinished_items(store_root: Path) -> list[str]:
    """Names of the items whose conversion was begun and has not finished."""
    top = Path(f"{store_root}{PROGRESS_SUFFIX}")
    if not top.is_dir():
        return []
    return sorted(unquote(folder.name) for folder in top.iterdir() if (folder / PLAN).is_file())


def is_partial(key: str) -> bool:
    """Whether a key is a file that a killed writer left half-written."""
    return key.endswith(PARTIAL_SUFFIX)
