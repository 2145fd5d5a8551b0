"""Slow decoders in plain Python, one word at a time, and an ECF encoder, from the published formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass
class Decoded:
    """What a slow decoder found."""

    events: list[tuple[int, int, int, int]] = field(default_factory=list)
    triggers: list[tuple[int, int, int]] = field(default_factory=list)
    other: int = 0
    unknown: int = 0
    dropped: int = 0
    wraps: int = 0

    def columns(self) -> dict[str, NDArray[np.generic]]:
        rows = np.array(self.events, np.int64).reshape(-1, 4)
        dtypes = ("i8", "u2", "u2", "u1")
        return {name: rows[:, at].astype(dtypes[at]) for at, name in enumerate("txyp")}


class Counter:
    """A counter of some bits that runs over; a fall by more than half of its range is a new turn."""

    def __init__(self, bits: int) -> None:
        self.span = 1 << bits
        self.value: int | None = None
        self.turn = 0

    def set(self, value: int) -> None:
        if self.value is not None:
            if self.value - value > self.span // 2:
                self.turn += 1
            elif self.turn and self.value < self.span // 64 and value >= self.span - self.span // 64:
                self.turn -= 1
        self.value = value

    @property
    def total(self) -> int:
        assert self.value is not None
        return self.turn * self.span + self.value


def decode_evt2(words: Sequence[int]) -> Decoded:
    found, clock = Decoded(), Counter(28)
    for word in words:
        kind = word >> 28
        time = (clock.total << 6) + (word >> 22 & 63) if clock.value is not None else None
        if kind in (0, 1, 10) and time is None:
            found.dropped += 1
        elif kind in (0, 1):
            found.events.append((time or 0, word >> 11 & 2047, word & 2047, kind))
        elif kind == 10:
            found.triggers.append((time or 0, word >> 8 & 31, word & 1))
        elif kind == 8:
            clock.set(word & 0xFFFFFFF)
        elif kind in (13, 14, 15):
            found.other += 1
        else:
            found.unknown += 1
    found.wraps = clock.turn
    return found


def decode_evt21(words: Sequence[int]) -> Decoded:
    found, clock = Decoded(), Counter(28)
    for word in words:
        kind = word >> 60
        time = (clock.total << 6) + (word >> 54 & 63) if clock.value is not None else None
        if kind in (0, 1):
            for bit in range(32):
                if word >> bit & 1:
                    x = (word >> 43 & 2047) + bit
                    if time is None or x > 2047:
                        found.dropped += 1
                    else:
                        found.events.append((time, x, word >> 32 & 2047, kind))
        elif kind == 8:
            clock.set(word >> 32 & 0xFFFFFFF)
        elif kind == 10 and time is None:
            found.dropped += 1
        elif kind == 10:
            found.triggers.append((time or 0, word >> 40 & 31, word >> 32 & 1))
        elif kind in (13, 14, 15):
            found.other += 1
        else:
            found.unknown += 1
    found.wraps = clock.turn
    return found


def decode_evt3(words: Sequence[int]) -> Decoded:
    found, clock = Decoded(), Counter(12)
    low = 0
    row: int | None = None
    base: int | None = None
    polarity = 0

    def emit(x: int, p: int) -> None:
        if clock.value is None or row is None or x > 2047:
            found.dropped += 1
        else:
            found.events.append(((clock.total << 12) + low, x, row, p))

    for word in words:
        kind, content = word >> 12, word & 0xFFF
        if kind == 0:
            row = content & 2047
        elif kind == 2:
            emit(content & 2047, content >> 11)
        elif kind == 3:
            base, polarity = content & 2047, content >> 11
        elif kind in (4, 5):
            width = 12 if kind == 4 else 8
            for bit in range(width):
                if content >> bit & 1:
                    emit(4096 if base is None else base + bit, polarity)
            base = None if base is None else base + width
        elif kind == 6:
            low = content
        elif kind == 8:
            if clock.value != content:
                low = 0
                clock.set(content)
        elif kind == 10 and clock.value is None:
            found.dropped += 1
        elif kind == 10:
            found.triggers.append(((clock.total << 12) + low, content >> 8, content & 1))
        elif kind in (7, 13, 14, 15):
            found.other += 1
        else:
            found.unknown += 1
            if kind == 1:
                row = None
    found.wraps = clock.turn
    return found


def decode_dat(words: Sequence[int]) -> Decoded:
    """Words in pairs: time, then polarity, y and x."""
    found, clock = Decoded(), Counter(32)
    for time, word in zip(words[::2], words[1::2], strict=True):
        clock.set(time)
        found.events.append((clock.total, word & 0x3FFF, word >> 14 & 0x3FFF, int(word >> 28 != 0)))
        found.unknown += word >> 28 > 1
    found.wraps = clock.turn
    return found


def decode_nmnist(data: bytes) -> Decoded:
    found, clock = Decoded(), Counter(23)
    for at in range(0, len(data) - 4, 5):
        x, y, *rest = data[at : at + 5]
        if y == 240:
            found.other += 1
            continue
        word = int.from_bytes(bytes(rest), "big")
        clock.set(word & 0x7FFFFF)
        found.events.append((clock.total + 8192 * found.other, x, y, word >> 23))
    found.wraps = clock.turn
    return found


# --- Prophesee's Event Compression Format ---------------------------------------------------------


def _runs(values: NDArray[np.generic], longest: int) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for value in values.tolist():
        if runs and runs[-1][0] == value and runs[-1][1] < longest:
            runs[-1] = (value, runs[-1][1] + 1)
        else:
            runs.append((value, 1))
    return runs


def _packed(values: list[int], bits: int) -> bytes:
    """Four values of 12 bits in three u16, or of 24 bits in three u32."""
    out = b""
    third = bits // 3
    size = bits // 6
    for at in range(0, len(values), 4):
        a, b, c, d = [*values[at : at + 4], 0, 0, 0][:4]
        parts = (
            a << third | b & (1 << third) - 1,
            b >> third << 2 * third | c & (1 << 2 * third) - 1,
            c >> 2 * third << 3 * third | d,
        )
        out += b"".join(part.to_bytes(size, "little") for part in parts)
    return out


def encode_ecf(
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.uint8],
    mode: str,
) -> bytes:
    """One chunk; `mode` is how rows, columns and polarities are stored: masked, columns or rows."""
    flags = {"masked": 0, "columns": 1, "rows": 2}[mode]
    out = bytearray((len(t) << 2 | flags).to_bytes(4, "little") + int(t[0]).to_bytes(8, "little"))
    now = int(t[0])
    for time, run in _runs(t, 65535):
        step = time - now
        if step >= 15:
            while step:
                out.append(0xF0 | step & 15)
                step >>= 4
        now = time
        out += bytes([step << 4 | run]) if run < 15 else bytes([step << 4 | 15, run & 255, run >> 8])
    rows = list(zip(x.tolist(), y.tolist(), p.tolist(), strict=True))
    if mode == "rows":
        return bytes(out) + _packed([b << 12 | a << 1 | c for a, b, c in rows], 24)
    for row, run in _runs(y, 65535):
        word = (row << 5 | min(run, 31)).to_bytes(2, "little")
        out += word if run < 31 else word + run.to_bytes(2, "little")
    if mode == "columns":
        return bytes(out) + _packed([a << 1 | c for a, _, c in rows], 12)
    at = 0
    columns = x.tolist()
    while at < len(columns):
        first, mask = columns[at], 0
        at += 1
        for bit in range(5):
            if at < len(columns) and columns[at] == first + bit + 1:
                mask |= 1 << 4 - bit
                at += 1
        out += (first << 5 | mask).to_bytes(2, "little")
    for polarity, run in _runs(p, 65535):
        out += (
            bytes([polarity << 7 | run]) if run < 127 else bytes([polarity << 7 | 127, run & 255, run >> 8])
        )
    return bytes(out)
