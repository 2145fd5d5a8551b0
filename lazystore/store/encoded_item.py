"""An item of encoded video: the array `data` that its packets stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from lazystore.errors import DamagedStoreError
from lazystore.schema import ArraySpec, check_array_limits, spec_from_metadata
from lazystore.store.column_bytes import ColumnBytes
from lazystore.store.direct import DirectChunkReader, read_array
from lazystore.store.encoded import EncodedVideoReader, encoded_spec
from lazystore.store.index import ItemRecord
from lazystore.store.location import Location
from lazystore.store.together import read_together
from lazystore.video.record import FRAME_PACKETS, PAYLOAD, EncodedVideo, tables_of_arrays
from lazystore.video.tables import FrameTable

ENTRY = "encoded"
# Frames of a dask block; the memory guard lets so much pass whatever the budget.
BLOCK_BYTES = 32 * 1024 * 1024


def is_encoded(record: ItemRecord) -> bool:
    """Whether an item holds packets instead of pixels."""
    return ENTRY in record.attributes


def spec_of_encoded(record: ItemRecord) -> ArraySpec:
    """Shape, dtype and chunks of the frames; reads nothing.

    Raises
    ------
    DamagedStoreError
        If the item's record is malformed.
    HostileStoreError
        If its frames are beyond every limit.
    """
    video = EncodedVideo.from_json(record.attributes[ENTRY])
    if FRAME_PACKETS not in record.documents:
        raise DamagedStoreError(
            f"item {record.name!r} is encoded video without {FRAME_PACKETS!r}; restore the item"
        )
    n_frames = spec_from_metadata(FRAME_PACKETS, record.documents[FRAME_PACKETS]).shape[0]
    spec = encoded_spec(video, n_frames, {"long_name": "pixel value"})
    check_array_limits(spec)
    # The shard is what dask reads at once, however few bytes of packets stand for all frames.
    frames = max(1, BLOCK_BYTES // max(1, spec.chunk_nbytes))
    return replace(spec, shards=(max(1, min(frames, n_frames)), *spec.shape[1:]))


def documents_with_frames(record: ItemRecord) -> Mapping[str, Mapping[str, Any]]:
    """The documents of an item's arrays, the one that its packets stand for among them."""
    if not is_encoded(record):
        return record.documents
    return {**record.documents, "data": spec_of_encoded(record).to_metadata()}


def open_encoded(location: Location, record: ItemRecord) -> EncodedVideoReader:
    """A reader of the frames; reads the packet table.

    Raises
    ------
    DamagedStoreError
        If tables and packets do not fit each other.
    """

    def reader_of(path: str) -> DirectChunkReader:
        spec = spec_from_metadata(path, record.documents[path])
        return DirectChunkReader(
            location,
            f"{record.name}/{path}",
            spec,
            generation=record.generation,
            checksums=record.checksums(path),
        )

    paths = [path for path in record.documents if path == FRAME_PACKETS or path.startswith("packet/")]
    arrays = read_together(
        location,
        lambda path: np.asarray(read_array(reader_of(path))),
        [path for path in paths if record.documents[path]["node_type"] == "array"],
    )
    payload = reader_of(PAYLOAD)
    packets, frames = tables_of_arrays(arrays, payload.spec.shape[0])

    def frames_called(name: str) -> set[int]:
        # Cut at the end: what metadata calls missing must not fill the memory.
        spans = record.attributes.get(name, ())
        return {index for low, high in spans for index in range(max(0, low), min(high, len(frames)))}

    return EncodedVideoReader(
        ColumnBytes(payload),
        EncodedVideo.from_json(record.attributes[ENTRY]),
        packets,
        frames,
        spec_of_encoded(record),
        missing=frames_called("missing"),
        doubtful=frames_called("doubtful"),
        sound=_is_sound(record, frames),
    )


def _is_sound(record: ItemRecord, frames: FrameTable) -> bool:
    """Whether the conversion has decoded every frame, and found no damage."""
    damage = ("missing", "doubtful", "broken_packets")
    is_checked = record.attributes.get("frames_checked") is True
    return is_checked and not len(frames.cut_packet) and not any(record.attributes.get(k) for k in damage)
