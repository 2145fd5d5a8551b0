"""A recording by its paths and what is taken of it: all that another process needs to open it again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lazystore.errors import SourceChangedError, SourceError, UsageError
from lazystore.protocols import Source, SourceIdentity, SourceInfo
from lazystore.sources.arrays.npz import ZIP_MAGIC
from lazystore.sources.casting import CastSource
from lazystore.sources.registry import open_sources
from lazystore.sources.rows import select_source
from lazystore.sources.selection import Crop, SelectedSource, Span
from lazystore.sources.video.packets import PacketSource
from lazystore.sources.video.recording import VideoSource


@dataclass(frozen=True, slots=True)
class Cut:
    """What is taken of a recording, in its own terms.

    Attributes
    ----------
    records
        (start, stop) of the records, half-open; None for all.
    span
        (start, stop) in native seconds, for rows; None for all.
    crop
        (y0, y1, x0, x1) in pixels, half-open.
    every
        Keep every k-th record.
    dtype, keep_bits
        Smaller values.
    """

    records: tuple[int, int] | None = None
    span: Span | None = None
    crop: Crop | None = None
    every: int | None = None
    dtype: str | None = None
    keep_bits: int | None = None

    @property
    def casts(self) -> bool:
        """Whether values change on the way."""
        return self.dtype is not None or self.keep_bits is not None

    def of(self, source: Source) -> Source:
        """The source that gives just this."""
        if self.records is not None:
            source = SelectedSource(source, records=self.records)
        source = select_source(source, time=self.span, crop=self.crop, every=self.every)
        return CastSource(source, dtype=self.dtype, keep_bits=self.keep_bits) if self.casts else source


@dataclass(frozen=True, slots=True)
class OpenRecording:
    """What was opened: the source of the stored records, and the stream below it."""

    source: Source
    stream: Source

    def close(self) -> None:
        """Release the files."""
        self.source.close()
        self.stream.close()


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording in files; pickles small.

    Attributes
    ----------
    paths
        One absolute path, or several that make one recording.
    kind, format, options
        As they were given to open it the first time.
    suffix
        Which of its streams.
    cut
        What is taken of it.
    is_encoded
        Whether its packets are, instead of its values.
    identity
        Of its files, when it was opened the first time.
    """

    paths: str | tuple[str, ...]
    kind: str | None
    format: str | None
    options: Mapping[str, Any]
    suffix: str
    cut: Cut
    is_encoded: bool
    identity: tuple[SourceIdentity, ...]

    def open(self) -> OpenRecording:
        """Open it again.

        Raises
        ------
        SourceChangedError
            If it is not what it was the first time.
        SourceError
            If it cannot be opened.
        """
        paths = self.paths if isinstance(self.paths, str) else list(self.paths)
        streams = open_sources(paths, kind=self.kind, format=self.format, options=dict(self.options))
        chosen = [stream for stream in streams if stream.info.suffix == self.suffix]
        for stream in streams:
            if stream not in chosen[:1]:
                stream.close()
        if not chosen:
            raise SourceChangedError(f"{self.identity[0].name!r} has no stream {self.suffix!r} any more")
        try:
            self._check(chosen[0].info)
            return OpenRecording(self._source_of(chosen[0]), chosen[0])
        except BaseException:
            chosen[0].close()
            raise

    def _source_of(self, stream: Source) -> Source:
        source = self.cut.of(stream)
        if not self.is_encoded:
            return source
        assert isinstance(stream, VideoSource)
        start, stop = self.cut.records or (0, len(stream.frames))
        frames = range(start, stop, self.cut.every or 1)
        return PacketSource(stream, shown=source, frames=frames, crop=self.cut.crop)

    def _check(self, info: SourceInfo) -> None:
        for known, seen in zip(self.identity, info.identity, strict=False):
            if known.sha256_sampled != seen.sha256_sampled:
                raise SourceChangedError(
                    f"{known.name!r} has {seen.size_bytes} bytes or content of its own here; expected the "
                    f"{known.size_bytes} bytes that the conversion began with"
                )
        if len(self.identity) != len(info.identity):
            raise SourceChangedError(f"{len(info.identity)} files are here; expected {len(self.identity)}")


def absolute_paths(source: Any) -> str | tuple[str, ...] | None:
    """The paths that a source was given by; None if it was not."""
    if isinstance(source, str | os.PathLike):
        return os.path.abspath(os.fspath(source))
    if isinstance(source, Sequence) and source and all(isinstance(s, str | os.PathLike) for s in source):
        return tuple(os.path.abspath(os.fspath(path)) for path in source)
    return None


def check_opens_anywhere(recording: Recording | None, described: str) -> Recording:
    """Refuse what several processes cannot each read a part of.

    Raises
    ------
    UsageError
        If it lies in memory, or in an archive that is read front to back.
    """
    if recording is None:
        raise UsageError(
            f"client= is for recordings in files, which workers open by themselves, not for {described} in "
            "memory; leave client out, or save it first"
        )
    first = recording.paths if isinstance(recording.paths, str) else recording.paths[0]
    if os.path.isfile(first):
        try:
            with open(first, "rb") as file:
                is_archive = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
        except OSError as error:
            raise SourceError(f"cannot read {first!r}: {error.strerror}") from error
        if is_archive:
            raise UsageError(
                f"{os.path.basename(first)!r} is a zip archive, which is read front to back: every worker "
                "would read all that lies before its part; leave client out, or save it as .npy"
            )
    return recording
