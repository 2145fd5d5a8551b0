"""The store works without the names that only POSIX systems have.

`tests/store` runs once more in an interpreter that is made to look like Windows from where the store
stands: the names are gone, folders cannot be opened, and renames fail now and then as they do while
a virus scanner holds a file. Tests that start an interpreter of their own are left out: that one has the
names, so what it shows has been shown before.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SUITE = ROOT / "tests" / "store"
# Decodes packets that lie in memory: none of a store's files is touched.
WITHOUT_FILES = SUITE / "test_video_encoded.py"

# Taken out after pytest and the standard library have looked at them, so that only lazystore, and
# what it calls by name, misses them. os.getuid stays: pytest asks for it later; os.statvfs too:
# shutil.disk_usage, which Windows has as well, calls it here.
WITHOUT_POSIX = """
import errno, os, shutil, signal, stat, sys
import multiprocessing, subprocess, tempfile, concurrent.futures  # their own checks are done at import
import asyncio, numpy  # ask for os.sysconf and os.uname on Linux
import pytest

OS_NAMES = (
    "pread", "preadv", "pwrite", "pwritev", "fork", "forkpty", "register_at_fork", "mkfifo",
    "fstatvfs", "sched_getaffinity", "posix_fallocate", "posix_fadvise", "sync",
    "fdatasync", "fchmod", "fchown", "chown", "O_NOFOLLOW", "O_NONBLOCK", "O_DIRECTORY", "O_CLOEXEC",
    "O_SYNC", "O_DSYNC", "O_NOATIME", "getpgid", "killpg", "setsid", "uname", "sysconf",
)
MODULES = ("fcntl", "resource", "pwd", "grp", "termios", "posix")
SIGNALS = ("SIGKILL", "SIGALRM", "SIGSTOP", "SIGCONT", "SIGHUP", "SIGUSR1")


def pytest_configure(config):
    for name in OS_NAMES:
        if hasattr(os, name):
            delattr(os, name)
    for name in SIGNALS:
        if hasattr(signal, name):
            delattr(signal, name)
    for name in MODULES:
        sys.modules[name] = None
    shutil._use_fd_functions = False
    os.process_cpu_count = os.cpu_count  # the plain one asks for sched_getaffinity

    plain_open, plain_replace = os.open, os.replace

    def open_no_folder(path, flags, mode=0o777, *, dir_fd=None):
        if dir_fd is None and os.path.isdir(path):
            raise PermissionError(errno.EACCES, "a folder cannot be opened", path)
        return plain_open(path, flags, mode)

    renames = 0

    def replace_that_fails_at_first(source, target, **options):
        nonlocal renames
        # numba's cache of compiled code copes with this on Windows, and only there.
        if str(target).endswith((".nbi", ".nbc")):
            return plain_replace(source, target, **options)
        renames += 1
        if renames % 3 == 1:
            error = PermissionError(errno.EACCES, "another program holds the file", source)
            error.winerror = 32
            raise error
        return plain_replace(source, target, **options)

    os.open, os.replace = open_no_folder, replace_that_fails_at_first

    class NoInterpreter(subprocess.Popen):
        def __init__(self, command, *arguments, **options):
            if sys.executable in command:
                pytest.skip("an interpreter of its own has the names")
            super().__init__(command, *arguments, **options)

    subprocess.Popen = NoInterpreter
"""

ITSELF = """
import os, signal, sys
import pytest

def test_names_are_gone(tmp_path):
    assert not hasattr(os, "pread") and not hasattr(os, "O_NOFOLLOW") and not hasattr(os, "fork")
    with pytest.raises(ImportError):
        import fcntl
    with pytest.raises(PermissionError):
        os.open(tmp_path, os.O_RDONLY)
    (tmp_path / "a").write_text("a")
    failed = 0
    for _ in range(3):
        try:
            os.replace(tmp_path / "a", tmp_path / "a")
        except PermissionError:
            failed += 1
    assert failed == 1
    open(os.environ["NAMES_ARE_GONE"], "w").close()
"""


def run_without_posix(folder: Path, *arguments: str) -> str:
    """The closing part of a pytest run in the mutilated interpreter; fails where it failed."""
    (folder / "without_posix.py").write_text(WITHOUT_POSIX)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    # Tests of links, pipes and fork have nothing to run on there, and skip themselves.
    environment.pop("LAZYSTORE_CI", None)
    environment["NAMES_ARE_GONE"] = str(folder / "names are gone")
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "without_posix", "-p", "no:cacheprovider",
         "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.skipif(os.name != "posix", reason="Windows runs the suite itself this way")
def test_the_store_works_without_posix_names(tmp_path: Path) -> None:
    """Every test of the store passes, and most of them do run; the names are really gone."""
    (tmp_path / "test_itself.py").write_text(ITSELF)
    printed = run_without_posix(
        tmp_path, str(tmp_path / "test_itself.py"), str(SUITE), f"--ignore={WITHOUT_FILES}"
    )
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|skipped)", printed)}
    assert (tmp_path / "names are gone").exists()
    assert counts["passed"] > 4 * counts.get("skipped", 0), counts
