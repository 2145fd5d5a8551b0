"""Run every benchmark, one after the other, and keep their numbers: ``make bench``.

Each ``bench_*.py`` is a program of its own, in a process of its own, so that none inherits the caches or
the memory of another. ``python -m benchmarks NAME...`` runs some; ``--tiny`` shows that they run. What
was measured goes to ``benchmarks/results``, and from there to the page ``docs/performance.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import report

# Where tiny runs leave their numbers, which nobody should take for measurements.
TINY_RESULTS = report.ROOT / "build" / "benchmarks-tiny"


def load_of_machine() -> float | None:
    """Processes that wanted a core in the last minute; None where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def note_run(path: Path, facts: dict[str, Any]) -> None:
    """Add how the machine was while it was measured."""
    document = json.loads(path.read_text())
    document["run"] = facts
    path.write_text(json.dumps(document, indent=1) + "\n")


def main() -> int:
    here = Path(__file__).parent
    names = [path.stem.removeprefix("bench_") for path in sorted(here.glob("bench_*.py"))]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which of {', '.join(names)}; all if none")
    parser.add_argument("--tiny", action="store_true", help="small data: seconds instead of minutes")
    parser.add_argument("--results", type=Path, help="folder for the JSON files; no page is written then")
    options = parser.parse_args()
    folder = options.results or (TINY_RESULTS if options.tiny else report.RESULTS)
    unknown = sorted(set(options.names) - set(names))
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(names)}")
    folder.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in options.names or names:
        print(f"\n=== {name}", flush=True)
        path = folder / f"{name}.json"
        command = [sys.executable, "-m", f"benchmarks.bench_{name}", "--json", str(path)]
        before, began = load_of_machine(), time.monotonic()
        if subprocess.run([*command, "--tiny"] if options.tiny else command).returncode:
            failed.append(name)
            continue
        facts: dict[str, Any] = {"seconds": round(time.monotonic() - began, 1)}
        if before is not None:
            facts |= {"load_before": before, "load_after": load_of_machine()}
        note_run(path, facts)
    if options.results is None and not options.tiny and len(failed) < len(options.names or names):
        report.main([])
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
