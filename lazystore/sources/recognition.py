"""Which of the known formats a file is in: content first, name second."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lazystore.errors import MissingExtraError, SourceError, UnknownFormatError
from lazystore.protocols import Recognition, SourceFormat
from lazystore.sources.naming import HEAD_BYTES, describe_file, describe_folder


@dataclass(frozen=True, slots=True)
class FormatRow:
    """A format that can be asked for, before its module is imported.

    Attributes
    ----------
    name
        As in ``--format``.
    target
        ``"module:OBJECT"``; the object is a `SourceFormat`, and may have `options`, a sequence of
        `Option`. `open` gets those that were given, and ``"kind"`` where the caller asked for one.
    extensions
        Lower-case endings with the dot; ``"/"`` stands for a folder.
    kinds
        What it can become, the default first.
    extra
        The extra of lazystore that brings its reader, ``""`` if none is needed.
    """

    name: str
    target: str
    extensions: tuple[str, ...]
    kinds: tuple[str, ...]
    extra: str = ""

    def load(self) -> SourceFormat:
        """The format itself, importing its module.

        Raises
        ------
        MissingExtraError
            If a package that it needs is not installed.
        """
        module, _, attribute = self.target.partition(":")
        try:
            loaded: SourceFormat = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise missing_extra(self, error) from error
        return loaded


def existing_path(path: str | os.PathLike[str]) -> Path:
    """The path of a file with content, or of a folder.

    Raises
    ------
    SourceError
        If nothing is there, or it is empty, or a device, or may not be looked at.
    """
    existing = Path(path)
    try:
        size = existing.stat().st_size
    except FileNotFoundError as error:
        raise SourceError(f"no such file or folder: {str(existing)!r}") from error
    except OSError as error:
        raise SourceError(f"cannot look at {str(existing)!r}: {error.strerror}") from error
    if existing.is_file():
        if size == 0:
            raise SourceError(f"{str(existing)!r} is empty (0 bytes); expected a recording")
    elif not existing.is_dir():
        raise SourceError(f"{str(existing)!r} is a device or pipe; expected a file or a folder")
    return existing


def _head(path: Path) -> bytes:
    if path.is_dir():
        return b""
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise SourceError(f"cannot read {str(path)!r}: {error.strerror}") from error


def _has_ending(row: FormatRow, path: Path) -> bool:
    name = path.name.lower()
    return any(name.endswith(ending) or (ending == "/" and path.is_dir()) for ending in row.extensions)


def claim_file(path: Path, rows: Sequence[FormatRow], kind: str | None) -> tuple[FormatRow, Recognition]:
    """The one format that claims a file, and its claim.

    Formats that know the file's ending are asked first; the others only if none of those is
    certain. Between equally sure claims of one kind the order of `rows` decides.

    Raises
    ------
    UnknownFormatError
        If none claims it.
    SourceError
        If equally sure claims disagree on the kind.
    MissingExtraError
        If none claims it, but a format of this ending lacks its package.
    """
    head = _head(path)
    rows = [row for row in rows if kind is None or kind in row.kinds]
    by_ending = [row for row in rows if _has_ending(row, path)]
    others = [row for row in rows if row not in by_ending]
    likely: list[tuple[FormatRow, Recognition]] = []
    unreadable: list[MissingExtraError] = []
    for group in (by_ending, others):
        claims = []
        for row in group:
            try:
                claim = row.load().recognise(path, head)
            except ModuleNotFoundError as error:
                lacking = missing_extra(row, error)
            except MissingExtraError as error:
                lacking = error
            else:
                if claim is not None:
                    claims.append((row, claim))
                continue
            if row in by_ending:
                unreadable.append(lacking)
        certain = [pair for pair in claims if pair[1].certain]
        if certain:
            return _only_one(path, certain)
        likely = likely or claims
    if likely:
        return _only_one(path, likely)
    if unreadable:
        raise unreadable[0]
    raise _unknown(path, head, kind, rows, by_ending)


def _only_one(path: Path, claims: Sequence[tuple[FormatRow, Recognition]]) -> tuple[FormatRow, Recognition]:
    kinds = {claim.kind or row.kinds[0] for row, claim in claims}
    if len(kinds) > 1:
        found = ", ".join(
            f"{claim.kind or row.kinds[0]} ({row.name}{', ' + claim.note if claim.note else ''})"
            for row, claim in claims
        )
        raise SourceError(
            f"{path.name!r} could be several things: {found}; say which with --kind or --format"
        )
    return claims[0]


def _unknown(
    path: Path,
    head: bytes,
    kind: str | None,
    rows: Sequence[FormatRow],
    by_ending: Sequence[FormatRow],
) -> UnknownFormatError:
    wanted = f" of kind {kind!r}" if kind else ""
    if path.is_dir():
        return UnknownFormatError(
            f"{path.name!r} is {describe_folder(path)}, which is no recording{wanted} that lazystore reads; "
            "pass the files themselves, with --concat where they are parts of one recording"
        )
    looks = describe_file(head)
    named = f" although it is named like {' or '.join(row.name for row in by_ending)}" if by_ending else ""
    known = ", ".join(row.name for row in rows)
    return UnknownFormatError(
        f"{path.name!r} looks like {looks}{named}, which is no format{wanted} that lazystore reads; "
        f"the formats are: {known}; if it is one of them, say --format NAME"
    )


def missing_extra(row: FormatRow, error: ImportError) -> MissingExtraError:
    """The error that says what to install; a missing module of lazystore itself is raised again."""
    package = error.name or "a package"
    if package.startswith("lazystore"):
        raise error
    how = f'pip install "lazystore[{row.extra}]"' if row.extra else f"pip install {package}"
    return MissingExtraError(f"format {row.name!r} needs {package!r}, which is missing; {how}")
