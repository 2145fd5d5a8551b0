"""What a conversion found damaged: lost records, pictures that may be made up, broken packets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.chunks import ranges_of
from lazystore.protocols import Block
from lazystore.schema import JSON

# A task keeps them beside its share of the statistics, so that they are resumed with it.
MISSING = "missing"
DOUBTFUL = "damage/doubtful"
BROKEN = "damage/broken_packets"


def damage_shares(blocks: Iterable[Block], *, with_missing: bool = False) -> dict[str, NDArray[Any]]:
    """What a task adds to its share: by name, int64 numbers; nothing where nothing is damaged."""
    found: dict[str, set[int]] = {DOUBTFUL: set(), BROKEN: set(), MISSING: set()}
    for block in blocks:
        found[DOUBTFUL].update(block.doubtful)
        found[BROKEN].update(block.broken_packets)
        found[MISSING].update(block.missing if with_missing else ())
    return {name: np.array(sorted(numbers), np.int64) for name, numbers in found.items() if numbers}


@dataclass(frozen=True, slots=True)
class Damage:
    """Numbers of records and of packets, ascending.

    Attributes
    ----------
    missing
        Records that are lost: reading one is an error.
    doubtful
        Records that came out, but of a broken packet, or after one they may be predicted from.
    broken_packets
        Packets that the decoder refused, or whose checksums do not fit.
    """

    missing: tuple[int, ...] = ()
    doubtful: tuple[int, ...] = ()
    broken_packets: tuple[int, ...] = ()

    @classmethod
    def of_shares(cls, missing: Iterable[int], shares: Iterable[Mapping[str, NDArray[Any]]]) -> Damage:
        """All tasks' together; neighbours may have met the same packet."""
        found: dict[str, set[int]] = {DOUBTFUL: set(), BROKEN: set(), MISSING: set(missing)}
        for share in shares:
            for name, numbers in found.items():
                if name in share:
                    numbers.update(share[name].tolist())
        # What is lost is not doubtful.
        doubtful = found[DOUBTFUL] - found[MISSING]
        return cls(tuple(sorted(found[MISSING])), tuple(sorted(doubtful)), tuple(sorted(found[BROKEN])))

    @classmethod
    def of_attributes(cls, attributes: Mapping[str, Any]) -> Damage:
        """What an item says of itself."""
        numbers = (
            tuple(number for low, high in attributes.get(name, ()) for number in range(low, high))
            for name in ("missing", "doubtful", "broken_packets")
        )
        return cls(*numbers)

    def attributes(self, n_records: int, problems: Sequence[str], reasons: Sequence[str]) -> dict[str, JSON]:
        """Entries of ``attrs.lazystore``; none where nothing is damaged.

        Parameters
        ----------
        problems
            What is known already, which these come after.
        reasons
            Why single records are lost.
        """
        entries: dict[str, JSON] = {}
        lines = []
        if self.broken_packets:
            entries["broken_packets"] = [list(pair) for pair in ranges_of(self.broken_packets)]
            lines.append(
                f"{len(self.broken_packets)} packets are broken, the first is {self.broken_packets[0]}"
            )
        if self.missing:
            entries["missing"] = [list(pair) for pair in ranges_of(self.missing)]
            lines.append(
                f"{len(self.missing)} of {n_records} records could not be read from the source, "
                f"the first is {self.missing[0]}; reading one is an error"
            )
        if self.doubtful:
            entries["doubtful"] = [list(pair) for pair in ranges_of(self.doubtful)]
            lines.append(
                f"{len(self.doubtful)} frames come from a damaged packet, or after one in their group, and "
                f"may be made up in parts, the first is {self.doubtful[0]}"
            )
        return {**entries, "problems": [*problems, *lines, *reasons]} if lines else {}
