"""Cuts and mutations of a recording: every one ends in events that can be read, or in a SourceError."""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from lazystore.errors import SourceError
from tests.scoreboard import scaled
from tests.sources.event_files import Events
from tests.sources.event_samples import SAMPLES, Sample

N_CUTS = 200
N_MUTATIONS = scaled(300, 1000)
# Of the processor, because other work on the machine must not fail a test.
MAX_SECONDS = 5.0
# Above what the process holds already: a block of every format fits several times.
MAX_BYTES = 1 << 30


def mutate(data: bytes, chooser: random.Random) -> bytes:
    """A few bytes changed, zeroed, doubled, left out, or put in; the beginning more often."""
    out = bytearray(data)
    for _ in range(chooser.choice((1, 1, 1, 2, 8))):
        span = len(out) if chooser.random() < 0.6 else min(len(out), 512)
        at = chooser.randrange(span)
        kind = chooser.randrange(6)
        if kind == 0:
            out[at] ^= 1 << chooser.randrange(8)
        elif kind == 1:
            out[at] = chooser.randrange(256)
        elif kind == 2:
            out[at : at + 8] = bytes(8)
        elif kind == 3:
            out[at : at + 4] = b"\xff\xff\xff\x7f"
        elif kind == 4:
            del out[at : at + chooser.randrange(1, 20)]
        else:
            out[at:at] = bytes(chooser.randrange(256) for _ in range(chooser.randrange(1, 20)))
    return bytes(out)


def try_one(sample: Sample, path: Path, whole: Events | None) -> str:
    """Open and read a damaged file; `whole` is what a prefix of it has to agree with."""
    started = time.process_time()
    try:
        streams = list(sample.source_format.open(path, {}))
    except SourceError as error:
        outcome = "refused" if "\n" not in str(error) else f"message of several lines: {error}"
    else:
        outcome = "read"
        for stream in streams:
            info = stream.info
            columns = stream.read(0, info.length).columns
            assert all(len(values) == info.length for values in columns.values())
            if info.length > 3:
                middle = stream.read(info.length // 2, info.length // 2 + 1).columns
                for name, values in middle.items():
                    np.testing.assert_array_equal(values[0], columns[name][info.length // 2])
            stream.close()
            if whole is not None and info.kind == "events":
                assert info.length <= len(whole)
                for name, values in columns.items():
                    np.testing.assert_array_equal(values, whole.columns[name][: info.length])
    elapsed = time.process_time() - started
    assert elapsed < MAX_SECONDS, f"took {elapsed:.1f} s of the processor"
    return outcome


def whole_file(name: str) -> tuple[bytes, Events]:
    """A recording before it is damaged."""
    with tempfile.TemporaryDirectory() as folder:
        path, events = SAMPLES[name].make(Path(folder))
        return path.read_bytes(), events


def fuzz(name: str, seed: int = 11, made: tuple[bytes, Events] | None = None) -> Counter[str]:
    """Every cut and mutation of one sample; counts of outcomes."""
    sample = SAMPLES[name]
    chooser = random.Random(seed)
    outcomes: Counter[str] = Counter()
    data, events = made or whole_file(name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{sample.ending}"
        for number in range(N_CUTS + N_MUTATIONS):
            is_cut = number < N_CUTS
            if is_cut:
                at = chooser.randrange(1, len(data))
                damaged = data[:at]
            else:
                damaged = mutate(data, chooser)
            path.write_bytes(damaged)
            try:
                outcome = try_one(sample, path, events if is_cut and sample.is_sequential else None)
            except BaseException as error:
                error.add_note(f"{name}, case {number}{f', cut at {at}' if is_cut else ''}")
                raise
            outcomes[f"{'cut' if is_cut else 'mutation'} {outcome}"] += 1
    return outcomes


if __name__ == "__main__":
    # Written before anything damaged is read: HDF5 keeps some of what it has seen.
    recordings = {wanted: whole_file(wanted) for wanted in sys.argv[1:]}
    # A library that crashes or takes all memory ends this process, not that of the tests.
    try:
        import resource
    except ImportError:  # Windows has no such limits.
        pass
    else:
        in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (in_use + 4 * MAX_BYTES, in_use + 4 * MAX_BYTES))
    for wanted, whole in recordings.items():
        print(wanted, dict(fuzz(wanted, made=whole)))
