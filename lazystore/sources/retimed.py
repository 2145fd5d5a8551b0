"""A recording whose times somebody knows better than the file does."""

from __future__ import annotations

from dataclasses import replace

from lazystore.protocols import Block, Source, SourceInfo, Ticks, TwinSource


class RetimedSource:
    """The same records with other ticks.

    Parameters
    ----------
    source
        Any source with ticks.
    ticks
        When its records were taken.
    """

    def __init__(self, source: Source, ticks: Ticks) -> None:
        self._source = source
        self._info = replace(source.info, ticks=ticks)

    @property
    def info(self) -> SourceInfo:
        return self._info

    def read(self, start: int, stop: int) -> Block:
        return self._source.read(start, stop)

    def twin(self, threads: int) -> RetimedSource | None:
        """The same records for another thread; see `TwinSource`."""
        other = self._source.twin(threads) if isinstance(self._source, TwinSource) else None
        if other is None or self._info.ticks is None:
            return None
        return RetimedSource(other, self._info.ticks)

    def close(self) -> None:
        self._source.close()
