"""Checking a store byte by byte against its manifests, and naming what each damage costs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.chunks import chunk_region
from lazystore.errors import LazystoreError, UsageError
from lazystore.schema import (
    JSON,
    ArraySpec,
    UnfamiliarLayoutError,
    canonical_json,
    group_metadata,
    spec_from_metadata,
)
from lazystore.store.amend import superseded_keys
from lazystore.store.direct import DirectChunkReader, read_array
from lazystore.store.incomplete import read_unfinished
from lazystore.store.index import (
    METADATA,
    ItemRecord,
    StoreIndex,
    check_item,
    item_from_document,
    parents_of,
    parse_document,
    parse_root,
    read_document,
    root_document,
)
from lazystore.store.location import Location, is_partial, parts_of
from lazystore.store.manifest import Entry, read_entries, read_root

LEVELS = ("quick", "sample", "full")

STATUS_OK, STATUS_DAMAGED, STATUS_INCOMPLETE, STATUS_NO_MANIFEST = 0, 3, 4, 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes
    ----------
    problem
        ``"missing"``, ``"wrong size"``, ``"wrong hash"``, ``"metadata"``, ``"stray"``, ``"orphan"``.
    key
        The file, below the store's root.
    detail
        What was found and what was expected.
    records
        Records [start, stop) that it costs; None where it costs none, or all.
    seconds
        The same in session seconds, where the times can be read.
    """

    problem: str
    key: str
    detail: str = ""
    records: tuple[int, int] | None = None
    seconds: tuple[float, float] | None = None

    def __str__(self) -> str:
        cost = "" if self.records is None else f"; costs records {self.records[0]} to {self.records[1]}"
        if self.seconds is not None:
            cost += f", {self.seconds[0]:.3f} s to {self.seconds[1]:.3f} s"
        return f"{self.problem}: {self.key}{f' ({self.detail})' if self.detail else ''}{cost}"


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a check found.

    Attributes
    ----------
    level
        How much was read.
    files, n_bytes
        Files that were checked, and bytes that were read of them.
    findings
        What is wrong; empty for a sound store.
    unfinished
        One line for each item whose conversion has not finished.
    has_manifest
        False for a store that lazystore did not write.
    """

    level: str
    files: int = 0
    n_bytes: int = 0
    findings: tuple[Finding, ...] = field(default_factory=tuple)
    unfinished: tuple[str, ...] = ()
    has_manifest: bool = True

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong and nothing unfinished."""
        return self.exit_status == STATUS_OK

    @property
    def exit_status(self) -> int:
        """0 sound, 3 damaged, 4 unfinished, 5 no manifest."""
        if not self.has_manifest:
            return STATUS_NO_MANIFEST
        if self.findings:
            return STATUS_DAMAGED
        return STATUS_INCOMPLETE if self.unfinished else STATUS_OK

    def counts(self) -> dict[str, int]:
        """Number of findings by problem."""
        found: dict[str, int] = {}
        for finding in self.findings:
            found[finding.problem] = found.get(finding.problem, 0) + 1
        return found

    def to_json(self) -> dict[str, JSON]:
        """Plain values for ``--json``."""
        return {
            "level": self.level,
            "ok": self.ok,
            "files": self.files,
            "bytes": self.n_bytes,
            "counts": self.counts(),
            "findings": [
                {
                    "problem": f.problem,
                    "key": f.key,
                    "detail": f.detail,
                    "records": None if f.records is None else list(f.records),
                    "seconds": None if f.seconds is None else list(f.seconds),
                }
                for f in self.findings
            ],
            "unfinished": list(self.unfinished),
        }


def verify(
    location: Location,
    *,
    level: str = "full",
    fraction: float = 0.05,
    progress: Callable[[int], None] | None = None,
) -> VerifyReport:
    """Check every item of a store.

    Parameters
    ----------
    location
        The store.
    level
        ``"quick"`` looks at metadata, presence and sizes; ``"sample"`` also reads a fraction of
        the files; ``"full"`` reads every byte.
    fraction
        For ``"sample"``: 0 to 1, the same files at every call.
    progress
        Called with the bytes read so far.

    Raises
    ------
    UsageError
        If the level or the fraction is unknown.
    """
    if level not in LEVELS:
        raise UsageError(f"level {level!r} is not one of {', '.join(LEVELS)}")
    if not 0 < fraction <= 1:
        raise UsageError(f"fraction {fraction!r} is not between 0 and 1")
    unfinished = tuple(item.describe() for item in read_unfinished(location).values())
    try:
        content = location.read(METADATA)
    except FileNotFoundError:
        return VerifyReport(level, has_manifest=bool(unfinished), unfinished=unfinished)
    share = {"quick": 0.0, "sample": fraction, "full": 1.0}[level]
    check = _Check(location, share, progress)
    try:
        document = parse_document(content, METADATA)
        index = parse_root(location, document)
    except LazystoreError as error:
        check.add(Finding("metadata", METADATA, str(error)))
        return check.report(level, unfinished)
    if index is None:
        return VerifyReport(level, has_manifest=False)
    check.store(index, document)
    return check.report(level, unfinished)


class _Check:
    """One pass over a store; gathers findings and the keys that belong there."""

    def __init__(self, location: Location, share: float, progress: Callable[[int], None] | None) -> None:
        self._location = location
        self._share = share
        self._progress = progress
        self._findings: list[Finding] = []
        self._known: set[str] = {METADATA}
        self._files = 1
        self._bytes = 0

    def add(self, finding: Finding) -> None:
        self._findings.append(finding)

    def report(self, level: str, unfinished: tuple[str, ...]) -> VerifyReport:
        return VerifyReport(level, self._files, self._bytes, tuple(self._findings), unfinished)

    def store(self, index: StoreIndex, document: Mapping[str, Any]) -> None:
        for name, record in index.items.items():
            self._item(name, record)
            for parent in parents_of(name):
                self._document(f"{parent}/{METADATA}", group_metadata({}))
        # Index and items agree with the manifests now; is the root what they would give?
        if not self._findings and dict(document) != root_document(index):
            self.add(Finding("metadata", METADATA, "the root's copy of the items' metadata was altered"))
        self._strays(read_unfinished(self._location))

    def _item(self, name: str, record: ItemRecord) -> None:
        key = f"{name}/{METADATA}"
        self._known.add(key)
        self._files += 1
        try:
            document = read_document(self._location, key)
            own = None if document is None else item_from_document(name, document)
            if own is None:
                self.add(Finding("missing", key, "the item's own record"))
                return
            check_item(self._location, own)
            # Attributes of the user's own are nobody's business, here or in the root's copy.
            copied = (record.attributes, record.documents) == (own.attributes, own.documents)
            if document != own.to_document() or not copied:
                self.add(Finding("metadata", key, "differs from the root's copy"))
            root = read_root(self._location, name, own.attributes)
            self._known.update(f"{name}/{page.key}" for page in (*root.pages, Entry(root.key, 0, 0, "")))
            self._files += len(root.pages) + 1
            for path, child in own.documents.items():
                self._document(f"{name}/{path}/{METADATA}", child)
            labels = _Labels(self._location, own)
            number = -1
            for number, entry in enumerate(read_entries(self._location, name, root)):
                self._entry(name, entry, number, labels)
            self._known.update(f"{name}/{key}" for key in superseded_keys(own, number + 1))
        except LazystoreError as error:
            self.add(Finding("metadata", key, str(error)))

    def _document(self, key: str, expected: Mapping[str, Any]) -> None:
        self._known.add(key)
        self._files += 1
        try:
            found = read_document(self._location, key)
        except LazystoreError as error:
            self.add(Finding("metadata", key, str(error)))
            return
        if found is None:
            self.add(Finding("missing", key))
        elif canonical_json(found) != canonical_json(expected):
            self.add(Finding("metadata", key, "differs from what was committed"))

    def _entry(self, name: str, entry: Entry, number: int, labels: _Labels) -> None:
        key = f"{name}/{entry.key}"
        self._known.add(key)
        self._files += 1
        problem, detail = self._file_problem(key, entry, number)
        if problem:
            records = labels.records(entry.key)
            self.add(Finding(problem, key, detail, records, labels.seconds(records)))

    def _file_problem(self, key: str, entry: Entry, number: int) -> tuple[str, str]:
        try:
            size = self._location.size(key)
            if size != entry.size:
                return "wrong size", f"{size} bytes, {entry.size} were committed"
            # Spread evenly, and the same files at every call.
            wanted = int((number + 1) * self._share) > int(number * self._share)
            if wanted and self._sha256(key, size) != entry.sha256:
                return "wrong hash", "its bytes were altered"
        except FileNotFoundError:
            return "missing", ""
        except (OSError, LazystoreError) as error:
            return "unreadable", str(error)
        return "", ""

    def _sha256(self, key: str, size: int) -> str:
        digest = hashlib.sha256()
        for part in parts_of(self._location, key, size):
            digest.update(part)
        self._bytes += size
        if self._progress is not None:
            self._progress(self._bytes)
        return digest.hexdigest()

    def _strays(self, unfinished: Mapping[str, Any]) -> None:
        for key in self._location.list():
            if key in self._known or any(key.startswith(f"{name}/") for name in unfinished):
                continue
            kind = "orphan" if is_partial(key) else "stray"
            self.add(Finding(kind, key, "belongs to no item"))


class _Labels:
    """Which records, and which session seconds, a file of an item holds."""

    def __init__(self, location: Location, record: ItemRecord) -> None:
        self._location = location
        self._record = record
        self._specs: dict[str, ArraySpec] = {}
        for path, document in record.documents.items():
            if document.get("node_type") == "array":
                try:
                    self._specs[path] = spec_from_metadata(path, document)
                except UnfamiliarLayoutError:
                    continue
        self._times: NDArray[Any] | None = None

    def records(self, key: str) -> tuple[int, int] | None:
        """Records of a file's key, for arrays along the record axis that are cut in shards."""
        for path, spec in self._specs.items():
            if spec.shards is not None and key.startswith(f"{path}/c{spec.separator}"):
                parts = key[len(path) + 3 :].split(spec.separator)
                region = chunk_region(tuple(map(int, parts)), spec.write_shape, spec.shape)
                records = region[0].start, region[0].stop
                return self._frames_in(records) if spec.dims == ("byte",) else records
        return None

    def _frames_in(self, span: tuple[int, int]) -> tuple[int, int] | None:
        """Frames of an encoded video whose packets lie in a span of bytes, at least in part."""
        try:
            offset, size, packet = (
                self._read(path) for path in ("packet/offset", "packet/size", "packet_of_frame")
            )
        except LazystoreError:
            return None
        is_hit = (offset < span[1]) & (offset + size > span[0])
        frames = np.flatnonzero(is_hit[packet])
        return (int(frames[0]), int(frames[-1]) + 1) if len(frames) else None

    def _read(self, path: str) -> NDArray[Any]:
        reader = DirectChunkReader(self._location, f"{self._record.name}/{path}", self._specs[path])
        return np.asarray(read_array(reader))

    def seconds(self, records: tuple[int, int] | None) -> tuple[float, float] | None:
        if records is None or "time" not in self._specs:
            return None
        try:
            if self._times is None:
                self._times = self._read("time")
        except LazystoreError:
            return None
        return float(self._times[records[0]]), float(self._times[records[1] - 1])
