"""Recordings to convert, and the commands as functions that return what they printed."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lazystore.cli import convert_main, main
from tests.samples import SAMPLES


@dataclass(frozen=True)
class Done:
    """A command that ended: its status and what it printed."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


def run(*words: object) -> Done:
    """``lazystore WORDS``, in this process; ``convert-to-zarr`` where that is the first word."""
    texts = [str(word) for word in words]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = convert_main(texts[1:]) if texts[:1] == ["convert-to-zarr"] else main(texts)
    return Done(status, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small recording of each kind."""
    folder = tmp_path_factory.mktemp("recordings")
    for name, make in SAMPLES.items():
        make(folder / name)
    return folder


@pytest.fixture
def session(recordings: Path, store_path: Path) -> Path:
    """A store with a movie, events and a track."""
    done = run("convert", recordings / "fields.npy", recordings / "drone.h5", recordings / "track.csv",
               store_path, "--quiet")  # fmt: skip
    assert done.status == 0, done.err
    return store_path
