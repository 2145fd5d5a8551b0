"""What every benchmark shares: its command line, and the document that its numbers are kept in.

A document holds the benchmark's name, the ``machine`` with the versions of what was measured, and its
``rows``; ``benchmarks.report`` makes the page of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def command_line(description: str | None) -> argparse.ArgumentParser:
    """A parser with what all benchmarks have; a benchmark adds its own options."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to this file")
    parser.add_argument("--tiny", action="store_true", help="small data: only show that it runs")
    return parser


def machine(packages: Iterable[str]) -> dict[str, str]:
    """Where and with what it was measured; nothing that names a particular computer.

    Packages that are not installed are left out.
    """
    facts = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(os.cpu_count()),
    }
    for package in packages:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    return facts


def keep(
    path: Path | None,
    benchmark: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    packages: Iterable[str] = (),
    **facts: Any,
) -> None:
    """Write the document, where `path` says; the facts (seed, effort, ...) stand beside the rows."""
    if path is None:
        return
    document = {"benchmark": benchmark, "machine": machine(packages), **facts, "rows": rows}
    path.write_text(json.dumps(document, indent=1) + "\n")
