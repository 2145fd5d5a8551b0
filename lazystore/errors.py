"""Every error that lazystore raises on purpose.

A message is one line: what is wrong, the offending value, what was expected, what to do next.
The command line prints that line and exits with `exit_status`; a traceback needs ``--debug``.
"""

from __future__ import annotations

from collections.abc import Iterable


class LazystoreError(Exception):
    """Base of every error raised on purpose; `exit_status` is the command line's status."""

    exit_status = 1


class UsageError(LazystoreError, ValueError):
    """A call or a command line that cannot mean anything: an unknown option, a bad value."""

    exit_status = 2


class UnitError(UsageError):
    """A unit that is unknown, or that measures something else than what was asked for."""


class ClockError(LazystoreError, ValueError):
    """Times that do not fit a recording: wrong count, not increasing, matched pulses that disagree."""


class StartError(ClockError, UsageError):
    """A start that somebody wrote and that is no time, or two: ``--start yesterday``."""


class SourceError(LazystoreError):
    """An input that cannot be read: missing, empty, damaged beyond recovery, or of another kind."""


class UnknownFormatError(SourceError):
    """An input whose content and name fit no source that lazystore knows."""


class SourceChangedError(SourceError):
    """An input that changed while it was being converted, or since an unfinished conversion began."""


class MissingExtraError(LazystoreError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""


class NoSpaceError(LazystoreError, OSError):
    """The output does not fit on its disk."""


class StoreError(LazystoreError):
    """A store that cannot be used as asked: not a store, an item exists, another writer holds it."""


class FormatVersionError(StoreError):
    """A store written by a newer format, or one that requires a feature this version lacks."""


class IncompleteStoreError(StoreError):
    """A conversion that has not finished; the message says how far it got and how to resume."""

    exit_status = 4


class DamagedStoreError(StoreError):
    """Bytes that are missing, altered or of the wrong size; never answered with fill values."""

    exit_status = 3


class HostileStoreError(StoreError):
    """A store that asks for something no honest store needs: a link outside, a huge allocation."""


class MissingFrameError(LazystoreError, LookupError):
    """A frame that the recording itself does not hold, because its source was damaged there."""


class MemoryBudgetError(LazystoreError, MemoryError):
    """An array larger than the memory budget was about to be loaded by accident."""


class LabelError(UsageError, KeyError):
    """A label that an axis does not hold, or that it holds more than once."""

    # KeyError shows the repr of its message; this one is a sentence.
    __str__ = Exception.__str__


class UnknownItemError(UsageError, KeyError):
    """A name that a store does not hold; the message lists those that it does."""

    __str__ = Exception.__str__


def unknown_item(name: str, url: str, known: Iterable[str], what: str = "items") -> UnknownItemError:
    """The error for a name that is not among the items, or arrays, of a store.

    >>> str(unknown_item("cat", "session.zarr", ["mouse", "drone"]))
    "'cat' is not in session.zarr; its items are: drone, mouse"
    """
    return UnknownItemError(f"{name!r} is not in {url}; its {what} are: {', '.join(sorted(known)) or 'none'}")
