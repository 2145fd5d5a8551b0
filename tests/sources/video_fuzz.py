"""Mutate small videos and read them; run by test_video_damage in a process of its own.

Argument: mutations a file. Prints how many files were tried and how many gave frames.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lazystore.errors import LazystoreError
from lazystore.sources.video.recording import VIDEO
from tests.sources.video_files import remux, write_video


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One of: cut short, bytes changed, bytes taken out, bytes put in."""
    copy = bytearray(data)
    at = rng.randrange(len(copy))
    way = rng.randrange(4)
    if way == 0:
        return bytes(copy[: at + 1])
    if way == 1:
        for _ in range(rng.choice([1, 3, 10, 50])):
            copy[rng.randrange(len(copy))] = rng.randrange(256)
    elif way == 2:
        del copy[at : at + rng.randrange(1, 2000)]
    else:
        copy[at:at] = rng.randbytes(rng.randrange(1, 500))
    return bytes(copy) or b"\0"


def check_one_line(error: LazystoreError) -> None:
    """End the run over a message that is more than a line."""
    if "\n" in str(error):
        sys.exit(f"more than one line: {error!r}")


def read_some(path: Path, rng: random.Random) -> bool:
    """Whether the file opened; reads all of it and a few frames out of order."""
    try:
        sources = VIDEO.open(path, {"color": "gray"})
    except LazystoreError as error:
        check_one_line(error)
        return False
    for source in sources:
        length = min(source.info.length, 100)
        try:
            source.read(0, length)
            for _ in range(3):
                index = rng.randrange(length)
                source.read(index, index + 1)
        except LazystoreError as error:
            check_one_line(error)
        finally:
            source.close()
    return True


def main(mutations: int) -> None:
    tried = opened = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = write_video(folder / "a.mp4")
        files = [
            remux(whole, folder / "fast.mp4", options={"movflags": "faststart"}),
            remux(whole, folder / "a.mkv"),
            write_video(folder / "a.ts"),
            write_video(folder / "a.avi", "mpeg4", options={"g": "10", "bf": "2"}),
            remux(
                write_video(
                    folder / "b.mp4",
                    "libx265",
                    size=(64, 64),
                    options={"x265-params": "keyint=9:log-level=none"},
                ),
                folder / "hevc.mp4",
                options={"movflags": "faststart"},
            ),
            write_video(folder / "a.webm", "libvpx-vp9", options={"deadline": "realtime"}),
        ]
        for file in files:
            data = file.read_bytes()
            target = folder / f"mutated{file.suffix}"
            for seed in range(mutations):
                rng = random.Random(f"{file.name} {seed}")
                target.write_bytes(mutated(data, rng))
                tried += 1
                opened += read_some(target, rng)
    print(tried, opened)


if __name__ == "__main__":
    main(int(sys.argv[1]))
