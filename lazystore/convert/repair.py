"""`repair`: what `verify` names, made again where that is possible and proven by the manifest's hashes.

Metadata comes from the other place that has it, files from the item's source. Nothing is replaced by
bytes of another hash than those that were committed, and what is replaced is kept beside the store.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import batched
from pathlib import Path
from typing import Any

from lazystore.convert.recorded import Given, remaker_of
from lazystore.errors import DamagedStoreError, LazystoreError, NoSpaceError, StoreError, UsageError
from lazystore.schema import JSON, canonical_json
from lazystore.store.amend import settle
from lazystore.store.index import ItemRecord
from lazystore.store.location import LocalLocation, parts_of, write_error
from lazystore.store.lock import file_lock
from lazystore.store.manifest import ENTRIES_A_PAGE, Entry, read_entries, read_root
from lazystore.store.mend import mended_metadata
from lazystore.store.open_location import open_location
from lazystore.store.progress import ProgressArea
from lazystore.store.verify import STATUS_DAMAGED, STATUS_NO_MANIFEST, STATUS_OK, VerifyReport, verify

QUARANTINE_SUFFIX = ".quarantine"
# A file of ours is far smaller; what somebody put in its place may be a hole of a terabyte.
MAX_COPIED_BYTES = 4 << 30

METADATA, FROM_SOURCE, REMOVED = "metadata", "from source", "removed"


@dataclass(frozen=True, slots=True)
class Repaired:
    """One file that was made good, or would be.

    Attributes
    ----------
    key
        The file, below the store's root.
    how
        ``"metadata"``: from the store's other copy; ``"from source"``; ``"removed"``: what a killed
        writer left half-written.
    """

    key: str
    how: str


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What a repair did, or would do.

    Attributes
    ----------
    done
        False for a dry run.
    repaired
        Files that are good now; of a dry run those that could be, if their source gives what it gave.
    left
        One line for each thing that stays wrong, and why.
    quarantine
        The folder with the files that were replaced; None where there was nothing to keep.
    has_manifest
        False for a store that lazystore did not write.
    """

    done: bool
    repaired: tuple[Repaired, ...] = ()
    left: tuple[str, ...] = ()
    quarantine: str | None = None
    has_manifest: bool = True

    @property
    def exit_status(self) -> int:
        """0 sound now, 3 still damaged (always after a dry run that found damage), 5 no manifest."""
        if not self.has_manifest:
            return STATUS_NO_MANIFEST
        return STATUS_DAMAGED if self.left or (self.repaired and not self.done) else STATUS_OK

    def to_json(self) -> dict[str, JSON]:
        """Plain values for ``--json``."""
        return {
            "done": self.done,
            "repaired": [{"file": one.key, "how": one.how} for one in self.repaired],
            "left": list(self.left),
            "quarantine": self.quarantine,
        }


def repair(
    store: str | os.PathLike[str] | Any,
    source: Any = None,
    *,
    yes: bool = False,
    level: str = "full",
    source_options: Mapping[str, Any] | None = None,
    env: Any = None,
    times: Any = None,
    times_mismatch: str | None = None,
) -> RepairReport:
    """Make damaged and missing files of a store again; only looks, unless `yes` is true.

    Parameters
    ----------
    store
        A folder.
    source
        What items were made from: a path, a list of paths, or an array. Not needed for metadata, nor for
        pixels that were decoded from an item of the same store.
    yes
        Do it. Damaged files are copied to ``<store>.quarantine`` before they are replaced.
    level
        How to look for damage, as in `verify`: ``"full"`` reads every byte, ``"quick"`` finds only what is
        missing or of another size.
    source_options, env
        As given to `convert`, for items that do not record their options, and for a field's geometry.
    times, times_mismatch
        As given to `convert`, for items whose times are damaged: they lie in no recording.

    Raises
    ------
    UsageError
        If the store is remote.
    StoreError
        If an item is being written, or its conversion was interrupted.
    SourceChangedError
        If the source is not any more what the item was made from; nothing is replaced then.
    """
    location = open_location(store)
    if not isinstance(location, LocalLocation):
        raise UsageError(f"{location.url} is remote and cannot be repaired in place; copy it to a disk first")
    sources = source if isinstance(source, list | tuple) else [] if source is None else [source]
    paths = tuple(os.fspath(one) if isinstance(one, os.PathLike) else one for one in sources)
    given = Given(paths, source_options, env, times, times_mismatch)
    return _Repair(location, given, yes=yes, level=level).run()


class _Repair:
    """One repair of one store."""

    def __init__(self, location: LocalLocation, given: Given, *, yes: bool, level: str) -> None:
        self._location = location
        self._given = given
        self._yes = yes
        self._level = level
        self._quarantine = LocalLocation(f"{location.root}{QUARANTINE_SUFFIX}")
        self._kept_any = False
        self._repaired: list[Repaired] = []
        self._left: list[str] = []

    def run(self) -> RepairReport:
        with contextlib.ExitStack() as stack:
            mended = mended_metadata(self._location)
            if self._yes:
                self._hold(stack, mended.items)
            with self._root_lock() if self._yes else contextlib.nullcontext():
                if self._yes:
                    # Again: somebody may have written until the locks were held.
                    mended = mended_metadata(self._location)
                for patch in mended.patches:
                    self._replace(patch.key, [patch.content], METADATA)
            if not mended.items and not mended.lost:
                return RepairReport(self._yes, has_manifest=False)
            self._left += mended.lost
            if self._yes or not mended.patches:
                for record in mended.items.values():
                    self._pages(record)
                self._files(mended.items)
            else:
                self._left.append("files cannot be looked at before the metadata is repaired: pass --yes")
        kept = self._quarantine.url if self._kept_any else None
        return RepairReport(self._yes, tuple(self._repaired), tuple(self._left), kept)

    def _root_lock(self) -> contextlib.AbstractContextManager[None]:
        path = ProgressArea(self._location.root, "any").root_lock_path
        return file_lock(path, wait=True, held_message="the root is being rebuilt")

    def _hold(self, stack: contextlib.ExitStack, names: Iterable[str]) -> None:
        """Lock every item; a change that was interrupted is settled first."""
        stack.callback(_remove_if_empty, ProgressArea(self._location.root, "any").top)
        for name in sorted(names):
            area = ProgressArea(self._location.root, name)
            if area.has_plan():
                raise StoreError(
                    f"the conversion of {name!r} was interrupted; run the same command again before a repair"
                )
            held = f"item {name!r} of {self._location.url} is being written by another process; try later"
            stack.enter_context(file_lock(area.lock_path, wait=False, held_message=held))
            with contextlib.suppress(DamagedStoreError):
                settle(self._location, name, area)
            # Shares of a repair that was killed.
            area.clear()

    # --- replacing ------------------------------------------------------------------------------

    def _replace(self, key: str, parts: Iterable[bytes], how: str) -> None:
        if self._yes:
            # A folder that is a link would have the bytes land outside.
            with contextlib.suppress(FileNotFoundError):
                self._location.path_without_links(key)
            self._keep(key)
            self._location.delete_partials(key.rpartition("/")[0])
            self._location.write(key, parts)
        self._repaired.append(Repaired(key, how))

    def _keep(self, key: str) -> None:
        """Put what lies at a key aside; it stays in its place until the new bytes are there."""
        if not os.path.lexists(self._location.path(key)):
            return
        self._kept_any = True
        self._quarantine.delete_partials(key.rpartition("/")[0])
        kept, number = key, 1
        while os.path.lexists(self._quarantine.path(kept)):
            if self._is_kept(key, kept):
                return
            number += 1
            kept = f"{key}.{number}"
        try:
            if self._location.size(key) > MAX_COPIED_BYTES:
                self._move(key, kept)
            else:
                self._quarantine.write(kept, parts_of(self._location, key, self._location.size(key)))
        except NoSpaceError:
            raise
        except StoreError:
            # A link, a pipe, a bad sector: what cannot be read can be moved.
            self._move(key, kept)

    def _is_kept(self, key: str, kept: str) -> bool:
        """Whether a repair that was killed has put this very file aside already."""
        with contextlib.suppress(OSError, LazystoreError):
            size = self._location.size(key)
            if size == self._quarantine.size(kept) and size <= MAX_COPIED_BYTES:
                sha256 = _sha256(self._location, key)
                return sha256 is not None and sha256 == _sha256(self._quarantine, kept)
        return False

    def _move(self, key: str, kept: str) -> None:
        target = self._quarantine.path(kept)
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.replace(self._location.path(key), target)
        except OSError as error:
            raise write_error(error, kept, self._quarantine.url) from error

    # --- what the manifest lists ----------------------------------------------------------------

    def _pages(self, record: ItemRecord) -> None:
        """Make a damaged page of an item's manifest again: all its files are, to know their hashes."""
        root = read_root(self._location, record.name, record.attributes)
        try:
            for _ in read_entries(self._location, record.name, root):
                pass
            return
        except DamagedStoreError as error:
            problem = str(error)
        if not self._yes:
            self._left.append(f"{problem}; a repair makes all files of the item again to know their hashes")
            return
        try:
            entries = list(self._all_entries(record))
        except LazystoreError as error:
            self._left.append(f"{problem}; {error}")
            return
        # Arrays that `lazystore set` wrote anew were listed last.
        for order in (entries, sorted(entries, key=lambda entry: "/c." in entry.key)):
            contents = [
                canonical_json([[e.key, e.size, e.crc32c, e.sha256] for e in batch])
                for batch in batched(order, ENTRIES_A_PAGE)
            ]
            found = [hashlib.sha256(content).hexdigest() for content in contents]
            if found == [page.sha256 for page in root.pages]:
                for page, content in zip(root.pages, contents, strict=True):
                    key = f"{record.name}/{page.key}"
                    if not self._holds(key, page.sha256):
                        self._replace(key, [content], METADATA)
                return
        self._left.append(f"{problem}; the source gives other bytes than were committed, so it is lost")

    def _all_entries(self, record: ItemRecord) -> Iterable[Entry]:
        area = ProgressArea(self._location.root, record.name)
        remaker = remaker_of(self._location, record, self._given)
        try:
            for key, file in remaker.files(None, area):
                yield Entry(key, file.size, file.crc32c, file.sha256)
        finally:
            remaker.close()
            area.clear()

    def _files(self, items: Mapping[str, ItemRecord]) -> None:
        report: VerifyReport = verify(self._location, level=self._level)
        bad: dict[str, set[str]] = {}
        for finding in report.findings:
            owner = next((name for name in items if finding.key.startswith(f"{name}/")), None)
            if finding.problem == "orphan":
                if self._yes:
                    # Another process may be writing the root's metadata, but under its lock.
                    with self._root_lock():
                        self._location.delete(finding.key)
                self._repaired.append(Repaired(finding.key, REMOVED))
            elif finding.problem in ("stray", "metadata") or owner is None:
                if finding.problem != "stray":
                    self._left.append(str(finding))
            else:
                bad.setdefault(owner, set()).add(finding.key.removeprefix(f"{owner}/"))
        for name, keys in bad.items():
            self._item(items[name], keys)

    def _item(self, record: ItemRecord, keys: set[str]) -> None:
        """Make files of one item again; those whose hash comes out another stay as they are."""
        name, location = record.name, self._location
        area = ProgressArea(location.root, name)
        try:
            remaker = remaker_of(location, record, self._given)
        except LazystoreError as error:
            self._leave(name, keys, str(error))
            return
        left = set(keys)
        try:
            if not self._yes:
                self._repaired += [Repaired(f"{name}/{key}", FROM_SOURCE) for key in sorted(keys)]
                return
            root = read_root(location, name, record.attributes)
            wanted = {e.key: e.sha256 for e in read_entries(location, name, root) if e.key in keys}
            for key, file in remaker.files(keys, area):
                left.discard(key)
                if file.sha256 != wanted[key]:
                    self._left.append(
                        f"{name}/{key}: the source gives other bytes than were committed (other versions of "
                        "its decoder or codecs may); left as it is: convert it again with --overwrite"
                    )
                    continue
                self._replace(f"{name}/{key}", file.parts, FROM_SOURCE)
                if not self._holds(f"{name}/{key}", file.sha256):
                    raise StoreError(f"{name}/{key} does not read back as it was written; check the disk")
            self._leave(
                name,
                left,
                "neither the source, --times nor --env gives it; convert it again with --overwrite",
            )
        finally:
            remaker.close()
            if self._yes:
                area.clear()

    def _leave(self, name: str, keys: set[str], reason: str) -> None:
        if keys:
            more = f" and {len(keys) - 1} more files" if len(keys) > 1 else ""
            self._left.append(f"{name}/{min(keys)}{more}: {reason}")

    def _holds(self, key: str, sha256: str) -> bool:
        return _sha256(self._location, key) == sha256


def _sha256(location: LocalLocation, key: str) -> str | None:
    """Of a file that can be read."""
    digest = hashlib.sha256()
    try:
        for part in parts_of(location, key, location.size(key)):
            digest.update(part)
    except (OSError, LazystoreError):
        return None
    return digest.hexdigest()


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
