"""Run every benchmark, one after the other, and keep their numbers: ``make bench``.

Each ``bench_*.py`` is a program of its own, in a process of its own, so that none inherits the caches or
the memory of another. ``python -m benchmarks NAME...`` runs some; ``--tiny`` shows that they run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def main() -> int:
    names = [path.stem.removeprefix("bench_") for path in sorted(FOLDER.glob("bench_*.py"))]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which of {', '.join(names)}; all if none")
    parser.add_argument("--tiny", action="store_true", help="small data: seconds instead of minutes")
    parser.add_argument("--results", type=Path, default=FOLDER / "results", help="folder for the JSON files")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(names))
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(names)}")
    options.results.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in options.names or names:
        print(f"\n=== {name}", flush=True)
        command = [
            sys.executable,
            "-m",
            f"benchmarks.bench_{name}",
            "--json",
            str(options.results / f"{name}.json"),
        ]
        if subprocess.run([*command, "--tiny"] if options.tiny else command).returncode:
            failed.append(name)
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
