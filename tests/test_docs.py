"""What the documentation says is run: code blocks, command lines and examples.

Each page, and each example, runs in a folder of its own, with the sample recordings that the pages
speak of. A page's Python blocks share their names from top to bottom. In ``bash`` and ``console``
blocks the lines that begin with ``lazystore`` or ``convert-to-zarr`` are run; they must succeed,
unless the comment ``# fails`` stands at their end. A block below ``<!-- not run: REASON -->`` is not.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lazystore import cli
from tests.samples import SAMPLES

ROOT = Path(__file__).resolve().parents[1]
PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if page.exists()]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
COMMANDS = {"lazystore": "main", "convert-to-zarr": "convert_main"}

FENCE = re.compile(
    r"^(?P<skip><!-- not run: (?P<reason>[^>]+) -->\s*\n)?```(?P<language>\w+)\n(?P<code>.*?)^```\s*$",
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    """A fenced block that is to be run."""

    language: str
    code: str
    line: int


def blocks_of(text: str) -> list[Block]:
    """The blocks of a page that are to be run, in order."""
    return [
        Block(found["language"], found["code"], text[: found.start("code")].count("\n") + 1)
        for found in FENCE.finditer(text)
        if found["language"] in ("python", "bash", "console") and not found["skip"]
    ]


def command_lines(code: str) -> list[str]:
    """The lines of a shell block that are our own commands, continued lines joined."""
    lines = (line.removeprefix("$ ") for line in code.replace("\\\n", " ").splitlines())
    return [line for line in lines if line.split(" ")[0] in COMMANDS]


def lay_out_samples(folder: Path, text: str) -> None:
    """Make the sample recordings that a text speaks of."""
    for name, make in SAMPLES.items():
        if name in text:
            make(folder / name)


def run_command(line: str, folder: Path, where: str) -> None:
    words = shlex.split(line, comments=True)
    fails = line.rstrip().endswith("# fails")
    if words[:2] == ["lazystore", "demo"] and "--seconds" not in words:
        words += ["--seconds", "20"]  # the least that there is; nobody looks at it here
    # The front page's as readers start them; a second for the imports of each of the others buys nothing.
    run = in_a_process if Path(where).name.startswith("README.md") else in_this_process
    status, out, err = run(COMMANDS[words[0]], words, folder)
    assert (status != 0) is fails, f"{where}: {line}\n{out[-3000:]}{err[-3000:]}"
    assert "Traceback" not in err, f"{where}: {line}\n{err[-3000:]}"


def in_a_process(function: str, words: list[str], folder: Path) -> tuple[int, str, str]:
    code = f"import sys, lazystore.cli as cli; sys.argv[0] = {words[0]!r}; sys.exit(cli.{function}())"
    done = subprocess.run(
        [sys.executable, "-c", code, *words[1:]],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def in_this_process(function: str, words: list[str], folder: Path) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = getattr(cli, function)(words[1:])
        except Exception:
            status = 1
            traceback.print_exc()
    return status, out.getvalue(), err.getvalue()


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "MPLBACKEND": "agg",
        "PYTHONWARNINGS": "error::FutureWarning",
    }


def run_page(text: str, folder: Path, name: str) -> int:
    """Run every block of a page; the number of blocks and commands that ran."""
    names: dict[str, Any] = {"__name__": "__documentation__"}
    ran = 0
    for block in blocks_of(text):
        where = f"{name}:{block.line}"
        if block.language == "python":
            # Blank lines put a traceback's line numbers where they are in the page.
            exec(compile("\n" * (block.line - 1) + block.code, name, "exec"), names)
            ran += 1
        else:
            for line in command_lines(block.code):
                run_command(line, folder, where)
                ran += 1
    return ran


@pytest.mark.parametrize("page", PAGES or [None], ids=lambda page: page.name if page else "none yet")
def test_pages_run(page: Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader who types what a page says gets what it says."""
    if page is None:
        return
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    text = page.read_text(encoding="utf-8")
    lay_out_samples(tmp_path, text)
    run_page(text, tmp_path, str(page))


@pytest.mark.parametrize("example", EXAMPLES or [None], ids=lambda path: path.name if path else "none yet")
def test_examples_run(example: Path | None, tmp_path: Path) -> None:
    """Each example runs by itself, from a folder that is not its own."""
    if example is None:
        return
    lay_out_samples(tmp_path, example.read_text(encoding="utf-8"))
    done = subprocess.run(
        [sys.executable, str(example)], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.parametrize("page", PAGES or [None], ids=lambda page: page.name if page else "none yet")
def test_links_lead_somewhere(page: Path | None) -> None:
    """Links to files of the repository are not broken."""
    if page is None:
        return
    targets = re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8"))
    broken = [target for target in targets if not (page.parent / target).exists()]
    assert not broken, broken


PAGE = """
# A page

```python
x = 1
```

```python
x += 1
from pathlib import Path
Path("ran.txt").write_text(str(x))
```

<!-- not run: needs a screen -->
```python
raise SystemExit
```

```text
lazystore nonsense
```

```bash
pip install something
$ lazystore info \\
    a.zarr
convert-to-zarr a.npy b.zarr --kind tracks  # fails
echo lazystore
```
"""


def test_blocks_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python runs in order and shares its names; only our own commands are taken from shells."""
    monkeypatch.chdir(tmp_path)
    blocks = blocks_of(PAGE)
    assert [block.language for block in blocks] == ["python", "python", "bash"]
    assert PAGE.splitlines()[blocks[0].line - 1] == "x = 1"
    assert command_lines(blocks[2].code) == [
        "lazystore info      a.zarr",
        "convert-to-zarr a.npy b.zarr --kind tracks  # fails",
    ]
    assert run_page(PAGE.split("```text")[0], tmp_path, "page.md") == 2
    assert (tmp_path / "ran.txt").read_text() == "2"


def test_a_page_that_lies_fails(tmp_path: Path) -> None:
    """An error in a block, and a command that does not exist, are failures."""
    with pytest.raises(NameError):
        run_page("```python\nundefined_name\n```\n", tmp_path, "page.md")
    with pytest.raises(AssertionError, match="page.md:2: lazystore no-such-command"):
        run_page("```bash\nlazystore no-such-command\n```\n", tmp_path, "page.md")
