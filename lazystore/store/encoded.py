"""Frames of an encoded video as chunks, decoded on demand from the packets that a store holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.chunks import ChunkIndex, ceil_div, chunk_region, grid_shape
from lazystore.errors import DamagedStoreError, UsageError
from lazystore.schema import JSON, ArraySpec, Codec
from lazystore.store.encoded_pool import DecoderPool
from lazystore.store.encoded_session import DecodingSession
from lazystore.video.record import EncodedVideo
from lazystore.video.stored_feed import ReadBytes
from lazystore.video.tables import FrameTable, PacketTable

# Decoded frames that a decoder keeps where frames are asked for backwards one by one; 11 frames of
# 1280x720. A cache asks for a whole group of them at once, see `group_of`, and keeps what it gets.
KEEP_BYTES = 16 * 1024 * 1024
# Places of a recording at once: what is played, and two that are read ahead or computed beside it.
MAX_DECODERS = 3


def encoded_spec(record: EncodedVideo, n_frames: int, attributes: Mapping[str, JSON]) -> ArraySpec:
    """The array ``data`` that an encoded video stands for: one frame a chunk."""
    shape = record.pixels.shape
    return ArraySpec(
        "data",
        ("time", "y", "x", "channel")[: 1 + len(shape)],
        (n_frames, *shape),
        record.pixels.dtype,
        (1, *shape),
        codec=Codec("none", 0),
        attributes=attributes,
    )


class EncodedVideoReader:
    """Chunks of the array that an encoded video stands for.

    Parameters
    ----------
    read_bytes
        Reads a byte range of the packets, from several threads: a `ColumnBytes`. If it has
        `close`, that is called too.
    record, packets, frames
        From the item: `EncodedVideo.from_json`, `tables_of_arrays`.
    spec
        What is given: `encoded_spec`, or the same with more frames a chunk.
    missing
        Frames that were lost before the video was stored: zeros.
    doubtful
        Frames that were decoded after damage then.
    threads
        Decoding threads of each decoder; 0 is one a core.
    keep_bytes
        Decoded frames that each decoder keeps, in bytes.
    max_decoders
        Places of the recording that are decoded at once.
    sound
        Whether all frames were decoded when the video was stored, and nothing was damaged.

    Raises
    ------
    DamagedStoreError
        If the tables, the record and the array declare different frames.
    UsageError
        If a chunk does not hold whole frames.

    Notes
    -----
    Thread-safe; reads block. Chunks are read-only. Decoders are made when first needed and kept
    until `close`. Pickles without them, and survives a fork.
    """

    def __init__(
        self,
        read_bytes: ReadBytes,
        record: EncodedVideo,
        packets: PacketTable,
        frames: FrameTable,
        spec: ArraySpec,
        *,
        missing: Set[int] = frozenset(),
        doubtful: Set[int] = frozenset(),
        threads: int = 0,
        keep_bytes: int = KEEP_BYTES,
        max_decoders: int = MAX_DECODERS,
        sound: bool = False,
    ) -> None:
        held = (len(frames), *record.pixels.shape)
        if spec.shape != held or spec.dtype != record.pixels.dtype:
            raise DamagedStoreError(
                f"encoded video declares {spec.shape} {spec.dtype}, but its packets hold "
                f"{held} {record.pixels.dtype}; restore the item"
            )
        if spec.chunks[1:] != spec.shape[1:]:
            raise UsageError(f"chunks {spec.chunks} do not hold whole frames of {spec.shape[1:]}")
        self._read_bytes = read_bytes
        self._record = record
        self._packets = packets
        self._frames = frames
        self._spec = spec
        self._missing, self._doubtful = frozenset(missing), frozenset(doubtful)
        self._threads = threads
        self._keep_bytes = keep_bytes
        self._max_decoders = max_decoders
        self._sound = sound
        self._n_chunks = grid_shape(spec.shape, spec.chunks)[0]
        self._pool = DecoderPool(self._make_session, max_decoders)

    @property
    def spec(self) -> ArraySpec:
        return self._spec

    @property
    def decoded_frames(self) -> int:
        """Frames that came out of decoders so far, wanted or not; for telemetry and tests."""
        return self._pool.decoded_frames

    def packed_bytes(self, start: int, stop: int) -> int:
        """Bytes of the packets that code the frames [start, stop)."""
        packet = self._frames.packet[start:stop]
        return int(self._packets.size[packet[packet >= 0]].sum())

    def group_of(self, chunk_index: ChunkIndex) -> range:
        """Chunk numbers along time whose frames decode together with this one's first frame.

        Reading them in one `read_chunks` costs one pass over the group.
        """
        start, _ = self._frames_of(chunk_index)
        frames = self._frames.group_of(start)
        length = self._spec.chunks[0]
        return range(frames.start // length, ceil_div(frames.stop, length))

    def read_chunk(self, chunk_index: ChunkIndex) -> NDArray[Any]:
        """One chunk, cut at the array's end.

        Raises
        ------
        DamagedStoreError
            If its packets are damaged, or a frame no longer comes out of them.
        """
        return self.read_chunks([chunk_index])[0]

    def read_chunks(self, chunk_indices: Sequence[ChunkIndex]) -> list[NDArray[Any]]:
        """Several chunks in any order, decoded in ascending order, so that no group is decoded twice."""
        chunks: dict[ChunkIndex, NDArray[Any]] = {}
        for index in chunk_indices:
            start, stop = self._frames_of(index)
            chunks[index] = np.empty((stop - start, *self._spec.shape[1:]), self._spec.dtype)
        self.fill_chunks(list(chunks), list(chunks.values()))
        for chunk in chunks.values():
            chunk.flags.writeable = False
        return [chunks[index] for index in chunk_indices]

    def read_chunks_into(
        self, chunk_indices: Sequence[ChunkIndex], memories: Sequence[memoryview]
    ) -> list[NDArray[Any]]:
        """The same into memory of the caller's: see `lazystore.protocols.InPlaceReader`."""
        spec = self._spec
        out: list[NDArray[Any]] = []
        for index, memory in zip(chunk_indices, memories, strict=True):
            start, stop = self._frames_of(index)
            out.append(np.ndarray((stop - start, *spec.shape[1:]), spec.dtype, memory))
        self.fill_chunks(chunk_indices, out)
        return out

    def fill_chunks(self, chunk_indices: Sequence[ChunkIndex], out: Sequence[NDArray[Any]]) -> None:
        """The same into arrays of the chunks' shapes; what they hold is undefined after an error."""
        parts = sorted(
            ((self._frames_of(index), array) for index, array in zip(chunk_indices, out, strict=True)),
            key=lambda part: part[0],
        )
        if not parts:
            return
        first_frame = parts[0][0][0]
        with self._pool.session_for(first_frame, self._seek_cost(first_frame)) as session:
            session.begin(first_frame)
            for (start, stop), array in parts:
                self._decode(session, start, stop, array)

    def close(self) -> None:
        """Release decoders and what reads the packets; the next read opens them again."""
        self._pool.close()
        close: Callable[[], None] | None = getattr(self._read_bytes, "close", None)
        if close is not None:
            close()

    def __repr__(self) -> str:
        parameters = self._record.parameters
        return f"EncodedVideoReader({parameters.codec!r}, shape={self._spec.shape})"

    def __reduce__(self) -> tuple[Any, ...]:
        positional = (self._read_bytes, self._record, self._packets, self._frames, self._spec)
        named = {
            "missing": self._missing,
            "doubtful": self._doubtful,
            "threads": self._threads,
            "keep_bytes": self._keep_bytes,
            "max_decoders": self._max_decoders,
            "sound": self._sound,
        }
        return _rebuild, (positional, named)

    def _make_session(self) -> DecodingSession:
        return DecodingSession(
            self._read_bytes,
            self._record,
            self._packets,
            self._frames,
            threads=self._threads,
            keep_bytes=self._keep_bytes,
            damaged=self._missing | self._doubtful,
            sound=self._sound,
        )

    def _frames_of(self, chunk_index: ChunkIndex) -> tuple[int, int]:
        fits = len(chunk_index) == len(self._spec.shape) and not any(chunk_index[1:])
        if not (fits and 0 <= chunk_index[0] < self._n_chunks):
            raise UsageError(
                f"chunk {tuple(chunk_index)} is not one of the {self._n_chunks} frames or runs of frames "
                f"of {self._spec.path!r}"
            )
        region = chunk_region(chunk_index, self._spec.chunks, self._spec.shape)[0]
        return region.start, region.stop

    def _seek_cost(self, frame_index: int) -> int:
        seek = self._frames.seek_packet[self._frames.seek_index(frame_index)]
        return max(0, int(self._frames.packet[frame_index] - seek)) + 1

    def _decode(self, session: DecodingSession, start: int, stop: int, out: NDArray[Any]) -> None:
        pixels = self._record.pixels
        for frame_index, frame in session.frames(start, stop):
            if frame is not None and pixels.fits(frame):
                pixels.write(frame, out[frame_index - start])
            elif frame_index in self._missing:
                out[frame_index - start] = 0
            else:
                raise DamagedStoreError(
                    f"frame {frame_index} no longer comes out of its packets; run lazystore verify, "
                    "and if that finds nothing, install the PyAV that the video was stored with"
                )


def _rebuild(positional: tuple[Any, ...], named: dict[str, Any]) -> EncodedVideoReader:
    return EncodedVideoReader(*positional, **named)
