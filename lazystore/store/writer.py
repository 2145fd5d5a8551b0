"""Writing one item: tasks in any order, then the commit, its metadata last.

Nothing of an item can be seen, by us or by plain Zarr, before every byte of it is durable.
"""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from lazystore.errors import DamagedStoreError, StoreError
from lazystore.schema import JSON, ArraySpec, check_item_name, group_metadata
from lazystore.store.amend import settle, superseded_keys
from lazystore.store.index import (
    METADATA,
    ItemRecord,
    item_from_document,
    read_document,
    read_index,
    update_root,
    write_json,
)
from lazystore.store.item_plan import ItemPlan
from lazystore.store.location import LocalLocation, Writable, WriteBatch, is_partial
from lazystore.store.lock import file_lock
from lazystore.store.manifest import Entry, read_entries, read_root, write_manifest
from lazystore.store.progress import PLAN, REMOVAL, ProgressArea, TaskRecord, unfinished_items
from lazystore.store.shard import cut_in_files, encode_file
from lazystore.store.staged import StagedTask

MANIFEST_FOLDER = "manifest"
# Keys below an item that a conversion may have written; anything else there is a person's own.
_OURS = re.compile(r"(.*/)?(zarr\.json|c([/.]\d+)*|manifest/(root|page-\d+)-[0-9a-f]{12}\.json)")


class ItemWriter:
    """The one writer of one item; a context manager that holds the item's lock.

    `publish` may be called from several threads; everything else from one.
    """

    def __init__(
        self, location: LocalLocation, plan: ItemPlan, *, resume: bool = True, overwrite: bool = False
    ) -> None:
        check_item_name(plan.name)
        self.location = location
        self.plan = plan
        self._resume = resume
        self._overwrite = overwrite
        self._area = ProgressArea(location.root, plan.name)
        self._stack = contextlib.ExitStack()
        self._finished: set[int] = set()
        self._records: list[TaskRecord] | None = None
        self._checksums: dict[str, dict[tuple[int, ...], int]] = {}
        # Set where the item is there already, from the same source and settings: nothing to do.
        self.already: ItemRecord | None = None

    def __enter__(self) -> Self:
        check_output(self.location)
        lock = file_lock(
            self._area.lock_path,
            wait=False,
            held_message=f"item {self.plan.name!r} of {self.location.url} is being converted by another "
            "process; wait for it, or choose another name",
        )
        self._stack.enter_context(lock)
        try:
            self._begin()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        self._stack.close()
        with contextlib.suppress(OSError):
            self._area.top.rmdir()

    # --- before the first task ----------------------------------------------------------------

    def _begin(self) -> None:
        name = self.plan.name
        self._finish_removal()
        settle(self.location, name, self._area)
        kept = self._area.read_document(PLAN)
        committed = self._committed()
        if committed is not None:
            same = self._resume and committed.generation == self.plan.generation
            # Killed between the commit point and the end: what is left to do costs no task.
            ended_late = kept is not None and kept.get("generation") == committed.generation
            if ended_late:
                self._finish_commit()
                kept = None
            if same and (ended_late or not self._overwrite):
                self.already = committed
                return
            if not self._overwrite:
                raise StoreError(
                    f"item {name!r} is already in {self.location.url}; "
                    "pass --overwrite to replace it, or --name to add another"
                )
            self._remove(committed)
            kept = None
        # Under the lock, so that of two that begin at once each sees the other's name.
        with self._root_lock():
            check_name_is_free(self.location, name)
            self._claim(kept)
        self._finished = {
            task
            for task in self._area.recorded_tasks()
            if task < self.plan.n_tasks and self._is_durable(task)
        }

    def _claim(self, kept: Mapping[str, Any] | None) -> None:
        """Write the plan, or go on with the one that is there."""
        if kept is not None and kept.get("generation") != self.plan.generation:
            if self._resume and not self._overwrite:
                raise StoreError(
                    f"an unfinished conversion of {self.plan.name!r} into {self.location.url} had another "
                    "source or other settings; run it with those, or pass --overwrite to begin anew"
                )
            kept = None
        if kept is None or not self._resume:
            self._discard_unfinished()
            self._area.write_document(PLAN, self.plan.to_document())

    def _committed(self) -> ItemRecord | None:
        name = self.plan.name
        try:
            document = read_document(self.location, f"{name}/{METADATA}")
            return None if document is None else item_from_document(name, document)
        except DamagedStoreError:
            # The root's copy is enough to take a damaged item away.
            index = read_index(self.location) if self._overwrite else None
            if index is None or name not in index.items:
                raise
            return index.items[name]

    def _is_durable(self, task: int) -> bool:
        """Whether a recorded task's files are there in full; otherwise it is done again."""
        record = self._area.read_record(task)
        if record is None or not self._area.has_sound_record(task):
            return False
        try:
            return all(self.location.size(f"{self.plan.name}/{e.key}") == e.size for e in record.entries)
        except FileNotFoundError:
            return False

    def _discard_unfinished(self) -> None:
        """Delete what an abandoned conversion wrote: nothing of it was ever committed."""
        for key in self._keys_of_ours():
            self.location.delete(f"{self.plan.name}/{key}")
        self.location.delete_empty_folders(self.plan.name)
        self._area.clear()

    def _keys_of_ours(self) -> list[str]:
        """Keys below the item that have the shape of what a conversion writes."""
        prefix = f"{self.plan.name}/"
        keys = (key.removeprefix(prefix) for key in self.location.list(prefix))
        return [key for key in keys if _OURS.fullmatch(key) or is_partial(key)]

    # --- overwriting --------------------------------------------------------------------------

    def _remove(self, record: ItemRecord) -> None:
        """Un-commit an item, then delete its files; the list of them survives a kill."""
        keys = [METADATA, *(f"{path}/{METADATA}" for path in record.documents)]
        try:
            root = read_root(self.location, record.name, record.attributes)
            keys += [entry.key for entry in read_entries(self.location, record.name, root)]
            keys += superseded_keys(record, len(keys))
            keys += [*(page.key for page in root.pages), root.key]
        except DamagedStoreError:
            # The list is lost; the shapes of keys tell almost as well what a conversion wrote.
            keys += [key for key in self._keys_of_ours() if key not in keys]
        self._area.clear()
        self._area.write_document(REMOVAL, {"keys": keys})
        self._finish_removal()

    def _finish_removal(self) -> None:
        removal = self._area.read_document(REMOVAL)
        if removal is None:
            return
        name = self.plan.name
        with self._root_lock():
            index = read_index(self.location)
            if index is not None and name in index.items:
                update_root(self.location, add=[], remove=[name])
        for key in removal["keys"]:
            self.location.delete(f"{name}/{key}")
        self.location.delete_empty_folders(name)
        self._area.delete_document(REMOVAL)

    def _root_lock(self) -> contextlib.AbstractContextManager[None]:
        return file_lock(self._area.root_lock_path, wait=True, held_message="the root is being rebuilt")

    # --- tasks --------------------------------------------------------------------------------

    @property
    def area(self) -> ProgressArea:
        """The item's progress area."""
        return self._area

    @property
    def finished(self) -> frozenset[int]:
        """Tasks that are durable."""
        return frozenset(self._finished)

    def publish(self, staged: StagedTask) -> int:
        """Make a task count that was staged here or elsewhere; returns the bytes it takes.

        Only whoever holds the item's lock gives files their keys: a worker that was given up, and wakes
        up long after, can do no more than leave a file that nobody reads.
        """
        with WriteBatch(self.location) as batch:
            for name, key in staged.files:
                batch.publish(name, key)
        self._area.publish_record(staged.record, staged.task)
        self._finished.add(staged.task)
        return staged.n_bytes

    @contextlib.contextmanager
    def marked_run(self, token: str) -> Iterator[None]:
        """While workers elsewhere stage tasks; those that come after leave nothing behind."""
        self._area.mark_run(token)
        try:
            yield
        finally:
            self._area.unmark_run(token)

    def _write_file(
        self, target: Writable, spec: ArraySpec, file_index: Sequence[int], block: NDArray[Any]
    ) -> Entry:
        encoded = encode_file(spec, file_index, block, generation=self.plan.generation)
        key = f"{spec.path}/{spec.key(file_index)}"
        target.write(f"{self.plan.name}/{key}", encoded.parts)
        if spec.shards is None:
            self._checksums.setdefault(spec.path, {})[tuple(file_index)] = encoded.checksum
        return Entry(key, encoded.size, encoded.crc32c, encoded.sha256)

    def records(self) -> Iterator[TaskRecord]:
        """Every task's record in order, when all are finished; shares are read when asked for."""
        if self._records is None:
            self._records = list(self._area.records(range(self.plan.n_tasks)))
        return iter(self._records)

    # --- commit -------------------------------------------------------------------------------

    def commit(
        self,
        side: Iterable[tuple[ArraySpec, Callable[[], Iterable[NDArray[Any]]]]],
        attributes: Mapping[str, JSON],
    ) -> ItemRecord:
        """Write the side arrays, the manifest and all metadata; the item exists when this returns.

        Parameters
        ----------
        side
            Small arrays: the record, and a function that gives its values along axis 0 in pieces.
        attributes
            The whole `attrs.lazystore`, less `manifest` and `checksums`.

        Raises
        ------
        StoreError
            If a task is missing.
        """
        plan = self.plan
        if len(self._finished) != plan.n_tasks:
            raise StoreError(f"{plan.n_tasks - len(self._finished)} of {plan.n_tasks} tasks are not finished")
        for key in list(self.location.list(f"{plan.name}/")):
            if is_partial(key):
                self.location.delete(key)
        with WriteBatch(self.location) as batch:
            record = self._write_rest(batch, side, attributes)
        write_json(self.location, f"{plan.name}/{METADATA}", record.to_document())
        self._finish_commit()
        return record

    def _write_rest(
        self,
        batch: WriteBatch,
        side: Iterable[tuple[ArraySpec, Callable[[], Iterable[NDArray[Any]]]]],
        attributes: Mapping[str, JSON],
    ) -> ItemRecord:
        """All that must be durable before the item's own metadata, which is returned."""
        plan = self.plan
        specs = list(plan.columns)
        entries: list[Entry] = [entry for record in self.records() for entry in record.entries]
        for spec, pieces in side:
            specs.append(spec)
            for file_index, block in cut_in_files(spec, pieces()):
                entries.append(self._write_file(batch, spec, file_index, block))
        documents: dict[str, JSON] = {}
        for spec in specs:
            for depth in range(1, spec.path.count("/") + 1):
                documents["/".join(spec.path.split("/")[:depth])] = group_metadata({})
            documents[spec.path] = spec.to_metadata()
        # Sorted file numbers are C order.
        checksums = {path: [found[i] for i in sorted(found)] for path, found in self._checksums.items()}
        attributes = {**attributes, "checksums": checksums}
        folder = f"{specs[0].path}/{MANIFEST_FOLDER}"
        root = write_manifest(batch, plan.name, folder, entries, documents, attributes)
        for path in sorted(documents):
            document = documents[path]
            assert isinstance(document, dict)
            write_json(batch, f"{plan.name}/{path}/{METADATA}", document)
        return ItemRecord(plan.name, {**attributes, "manifest": root.reference()}, documents)  # type: ignore[arg-type]  # JSON documents are mappings here

    def _finish_commit(self) -> None:
        """What follows the commit point: the root's copy, and forgetting the plan."""
        with self._root_lock():
            update_root(self.location, add=[self.plan.name, *self._others_to_index()], remove=[])
        self._area.clear()

    def _others_to_index(self) -> list[str]:
        """Items committed by a converter that was killed before it rebuilt the root."""
        index = read_index(self.location)
        known = set(index.items) if index else set()
        return [
            name
            for name in unfinished_items(self.location.root)
            if name not in known and read_document(self.location, f"{name}/{METADATA}") is not None
        ]


def check_output(location: LocalLocation) -> None:
    """Refuse an output that holds something else.

    Raises
    ------
    StoreError
        If it is a file, a folder with other content, or somebody else's Zarr store.
    """
    root = location.root
    if not root.exists():
        return
    if not root.is_dir():
        raise StoreError(f"{location.url} is a file; the output must be a new folder or a lazystore")
    if read_document(location, METADATA) is None:
        top = ProgressArea(root, "any").top
        if any(root.iterdir()) and not top.exists():
            raise StoreError(
                f"{location.url} is a folder with other content; the output must be new, empty or a lazystore"
            )
    elif read_index(location) is None:
        raise StoreError(
            f"{location.url} is a Zarr store that lazystore did not write; choose another output"
        )


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def check_name_is_free(location: LocalLocation, name: str) -> None:
    """Refuse a name that another item's name contains, or equals on some file system.

    Raises
    ------
    StoreError
        If so.
    """
    index = read_index(location)
    for other in {*(index.items if index else ()), *unfinished_items(location.root)}:
        if other == name:
            continue
        mine, theirs = _folded(name) + "/", _folded(other) + "/"
        if mine == theirs:
            raise StoreError(f"item name {name!r} equals {other!r} on some file systems; choose another")
        if mine.startswith(theirs) or theirs.startswith(mine):
            raise StoreError(
                f"item {name!r} cannot lie inside item {other!r}, or around it; choose another name"
            )
