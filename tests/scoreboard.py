"""How many faults the tests of reliability try, and one place that runs them all.

At every run of the tests few; with ``LAZYSTORE_SCOREBOARD=FILE`` as many as ``docs/reliability.md``
reports, and each test appends a line of JSON on what it counted to FILE.

    python -m tests.scoreboard            # all rows
    python -m tests.scoreboard 4 12       # some
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FILE = os.environ.get("LAZYSTORE_SCOREBOARD")

CLUSTER = "tests/convert/test_distributed.py"
CACHE = "tests/cache/test_state_machine.py tests/cache/test_fork.py tests/store/test_open_close.py"

ROWS: dict[int, tuple[str, str]] = {
    1: ("a fault at every I/O call of a change", "tests/store/test_faults.py"),
    2: ("random SIGKILLs, then resumed", f"tests/store/test_kills.py {CLUSTER} -k 'random or killed'"),
    3: ("a kill at 90 %, then resumed", "tests/store/test_kills.py -k near_the_end"),
    4: ("flips, cuts, zeros, deletes, swaps", "tests/store/test_damage.py -k never_read"),
    5: ("verify of clean stores", "tests/store/test_damage.py -k sound_stores"),
    6: ("a faulty network", "tests/test_remote_store.py tests/store/test_remote.py"),
    7: ("a full disk", "tests/store/test_disk_full.py"),
    8: (
        "two converters; stopped and revived",
        f"tests/store/test_concurrent.py {CLUSTER} -k 'concurrent or revived'",
    ),
    9: ("damaged recordings", "tests/sources/test_events_fuzz.py tests/sources/test_video_damage.py"),
    10: ("eight threads, small budgets", "tests/cache/test_reader.py tests/cache/test_slots.py"),
    11: ("the cache against a dictionary; fork; 200 openings", CACHE),
    12: ("hostile stores", "tests/store/test_hostile.py"),
}


def scaled(usual: int, full: int) -> int:
    """How many to try: `usual`, or `full` for the scoreboard."""
    return full if FILE else usual


def record(row: int, **counts: object) -> None:
    """Note what a test counted, for the scoreboard."""
    if FILE:
        with Path(FILE).open("a") as file:
            file.write(json.dumps({"row": row, **counts}) + "\n")


def main(wanted: list[int]) -> int:
    """Run rows and print what each counted; 1 if one failed."""
    failed = 0
    for row in wanted or sorted(ROWS):
        title, tests = ROWS[row]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "counts.jsonl"
            file.touch()
            began = time.monotonic()
            done = subprocess.run(
                f"{sys.executable} -m pytest -q -p no:cacheprovider {tests}",
                shell=True,
                env={**os.environ, "LAZYSTORE_SCOREBOARD": str(file)},
                capture_output=True,
                text=True,
            )
            seconds = time.monotonic() - began
            outcome = "passed" if done.returncode == 0 else "FAILED"
            print(f"{row:>2} {title}: {outcome}, {seconds:.0f} s", flush=True)
            for line in file.read_text().splitlines():
                counts = {key: value for key, value in json.loads(line).items() if key != "row"}
                print("     ", ", ".join(f"{key} {value}" for key, value in counts.items()), flush=True)
            if done.returncode:
                failed = 1
                print(done.stdout[-3000:])
    return failed


if __name__ == "__main__":
    sys.exit(main([int(word) for word in sys.argv[1:]]))
