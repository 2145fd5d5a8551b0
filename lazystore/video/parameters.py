"""What a decoder must be told besides the packets, so that they decode without their container."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lazystore.errors import MissingExtraError, StoreError
from lazystore.schema import JSON

if TYPE_CHECKING:
    from av import VideoCodecContext
    from av.video.stream import VideoStream

# Set on the context as they are; where the bit stream says otherwise, the decoder follows it.
_PLAIN_FIELDS = (
    "codec_tag", "width", "height", "bits_per_coded_sample", "color_range", "color_primaries", "color_trc",
    "colorspace", "chroma_sample_location", "field_order",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DecoderParameters:
    """A stream's codec and what its container says about it; JSON-able.

    Attributes
    ----------
    codec, decoder
        FFmpeg's name of the codec (``"av1"``), and of the decoder used when it was stored
        (``"libdav1d"``).
    extradata
        The codec's global header (parameter sets), empty if it has none.
    codec_tag, width, height, pix_fmt, bits_per_coded_sample, color_range, color_primaries, color_trc,
    colorspace, chroma_sample_location, field_order
        As FFmpeg's codec context holds them, numbers in FFmpeg's (ITU-T H.273) code.
    reorder_depth
        Frames that the decoder holds back.
    """

    codec: str
    decoder: str
    extradata: bytes
    codec_tag: str
    width: int
    height: int
    pix_fmt: str | None
    bits_per_coded_sample: int
    color_range: int
    color_primaries: int
    color_trc: int
    colorspace: int
    chroma_sample_location: int
    field_order: int
    reorder_depth: int

    @classmethod
    def of_stream(cls, stream: VideoStream) -> DecoderParameters:
        """The parameters of a stream whose decoder was not used yet."""
        context = stream.codec_context
        return cls(
            codec=context.codec.canonical_name,
            decoder=context.codec.name,
            extradata=context.extradata or b"",
            pix_fmt=context.pix_fmt,
            reorder_depth=context.reorder_depth,
            **{name: getattr(context, name) for name in _PLAIN_FIELDS},
        )

    def to_json(self) -> dict[str, JSON]:
        """The record as plain JSON; `from_json` turns it back."""
        return {**asdict(self), "extradata": base64.b64encode(self.extradata).decode("ascii")}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> DecoderParameters:
        """The record of `to_json`."""
        return cls(**{**record, "extradata": base64.b64decode(record["extradata"], validate=True)})

    def open_decoder(self, threads: int, options: Mapping[str, str] | None = None) -> VideoCodecContext:
        """A decoder that is ready for the first packet; `threads` 0 is one a core.

        `options` are the decoder's, as FFmpeg spells them.

        Raises
        ------
        MissingExtraError
            If PyAV is not installed.
        StoreError
            If this FFmpeg has no such decoder, or it refuses the parameters.
        """
        try:
            import av
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                "encoded video is decoded by PyAV, which is not installed; pip install 'lazystore[video]'"
            ) from error
        context = self._new_context()
        for name in _PLAIN_FIELDS:
            setattr(context, name, getattr(self, name))
        if self.pix_fmt is not None:
            context.pix_fmt = self.pix_fmt
        if self.extradata:
            context.extradata = self.extradata
        context.thread_count = threads
        context.thread_type = av.codec.context.ThreadType.AUTO
        context.options = dict(options or {})
        try:
            context.open()
        except av.FFmpegError as error:
            raise StoreError(
                f"the {self.decoder} decoder refuses the stored parameters: {error.strerror}; "
                "the item's metadata is damaged, or this FFmpeg differs from the one that stored it"
            ) from error
        context.reorder_depth = max(context.reorder_depth, self.reorder_depth)
        return context

    def _new_context(self) -> VideoCodecContext:
        import av

        for name in (self.decoder, self.codec):
            try:
                return av.VideoCodecContext.create(name, "r")  # type: ignore[return-value]  # by the name
            except av.codec.codec.UnknownCodecError:
                continue
        raise StoreError(
            f"this FFmpeg has no decoder for {self.codec!r} (nor {self.decoder!r}); "
            "install PyAV from PyPI, whose FFmpeg has it"
        )
