"""What a conversion did, for a person and for a script."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from lazystore.schema import JSON


@dataclass(frozen=True, slots=True)
class ItemReport:
    """One item.

    Attributes
    ----------
    name, kind, format
        The item, what it became and what it was.
    shape, dtype
        Of its main array.
    records
        Frames, events, samples.
    source_bytes, decoded_bytes, stored_bytes
        Size of the input, of the decoded arrays, of the files that hold them.
    tasks_done, tasks_resumed
        Shards of records written now, and those that an earlier run had finished.
    already_there
        The item stood in the store, from the same source and settings; nothing was done.
    missing_records
        Records that the source lost.
    seconds
        Time this run took.
    codec
        ``"encoded"``, ``"balanced"``, ...
    problems
        One line for each survivable thing that is wrong, or that somebody should know.
    """

    name: str
    kind: str
    format: str
    shape: tuple[int, ...]
    dtype: str
    records: int
    source_bytes: int
    decoded_bytes: int
    stored_bytes: int
    tasks_done: int
    tasks_resumed: int
    already_there: bool
    missing_records: int
    seconds: float
    codec: str = ""
    problems: tuple[str, ...] = ()

    @property
    def ratio(self) -> float:
        """Decoded bytes over stored bytes."""
        return self.decoded_bytes / max(1, self.stored_bytes)


@dataclass(frozen=True, slots=True)
class ConversionReport:
    """A conversion of one source: usually one item, several where a file holds several streams."""

    store: str
    items: tuple[ItemReport, ...] = field(default_factory=tuple)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the items."""
        return tuple(item.name for item in self.items)

    def to_json(self) -> dict[str, JSON]:
        """Plain values for ``--json``."""
        return {"store": self.store, "items": [asdict(item) for item in self.items]}

    def __str__(self) -> str:
        lines = [f"{self.store}:"]
        for item in self.items:
            done = "was there already" if item.already_there else f"in {item.seconds:.2f} s"
            lines.append(
                f"  {item.name}: {item.kind} {'x'.join(map(str, item.shape))} {item.dtype}, "
                f"{item.stored_bytes / 1e6:,.1f} MB stored, ratio {item.ratio:.2f}, {done}"
            )
            lines += [f"    note: {problem}" for problem in item.problems]
        return "\n".join(lines)
