"""What every test gets: a fresh store path, the corpus, a leak check, and skips that count in CI.

Environment
-----------
LAZYSTORE_CORPUS
    Folder of real recordings (video/, stack/, events/). Unset: tests that need it are skipped.
LAZYSTORE_CI
    Set in CI: a skipped test is a failed test, so that nothing goes missing unnoticed. Only the
    corpus may be absent, because it cannot be part of the project.
LAZYSTORE_TESTS_ON_DISK
    Set to have the folders of all tests where pytest keeps them, to look at them afterwards.
"""

from __future__ import annotations

import gc
import os
import re
import shutil
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

NO_CORPUS = "LAZYSTORE_CORPUS is not set: no folder of real recordings to test on"
THREAD_PREFIX = "lazystore"
# Pools that belong to the process, not to a store, may outlive a test; nothing else may.
SHARED_THREAD_PREFIX = "lazystore-shared"
THREAD_GRACE_S = 30.0
# More than a test puts into its folder; several run at a time.
RAM_BYTES = 2 << 30

# Files that take longest, in order: begun first, several processes end at the same time. A file that is
# missing here costs that much; nothing else depends on the order.
SLOWEST = (
    "tests/test_benchmarks.py", "tests/test_portable.py", "tests/store/test_faults.py", "tests/test_docs.py",
    "tests/convert/test_distributed.py", "tests/sources/test_events_fuzz.py", "tests/store/test_damage.py",
    "tests/sources/test_events_metavision.py", "tests/store/test_hostile.py", "tests/sources/test_video.py",
    "tests/store/test_video_encoded.py", "tests/test_corpus.py", "tests/test_overviews.py",
    "tests/array/test_pixelwise.py", "tests/cli/test_commands.py", "tests/convert/test_video_exact.py",
    "tests/test_neurospatial_facade.py", "tests/convert/test_repair.py", "tests/store/test_kills.py",
)  # fmt: skip

# Speed on a shared machine says nothing about the code: no deadline, no "too slow".
settings.register_profile(
    "lazystore",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="LAZYSTORE_CI" in os.environ,
)
settings.load_profile("lazystore")

# Processes that tests start would compile all of lazystore anew, each for a quarter of a second.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# matplotlib draws to memory: with a screen it would open windows, whichever test draws first.
os.environ["MPLBACKEND"] = "Agg"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Whole files to a process, which makes once what a file shares; the slowest files first."""
    if config.getoption("dist") != "load":
        return None  # somebody asked for another way
    from xdist.scheduler import LoadFileScheduling

    class SlowestFirst(LoadFileScheduling):
        def _assign_work_unit(self, node: Any) -> None:
            for file in reversed(SLOWEST):
                if file in self.workqueue:
                    self.workqueue.move_to_end(file, last=False)
            super()._assign_work_unit(node)

    return SlowestFirst(config, log)


@pytest.fixture
def disk_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where pytest keeps them, for tests that a disk has to take."""
    return tmp_path_factory.mktemp(re.sub(r"\W", "_", request.node.name)[:30])


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder of the test's own: in memory where the system has room, and gone after the test.

    A store has many small files, each made durable, on which a disk spends more time than lazystore.
    """
    shared = Path("/dev/shm")
    wants_disk = "LAZYSTORE_TESTS_ON_DISK" in os.environ
    if wants_disk or not shared.is_dir() or shutil.disk_usage(shared).free < RAM_BYTES:
        yield request.getfixturevalue("disk_path")
        return
    with tempfile.TemporaryDirectory("", "lazystore-test-", shared, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    """Where a test may create its store; nothing is there yet."""
    return tmp_path / "session.zarr"


@pytest.fixture(scope="session")
def corpus() -> Path:
    """Folder of real recordings; the test is skipped where there is none."""
    named = os.environ.get("LAZYSTORE_CORPUS")
    if not named:
        pytest.skip(NO_CORPUS)
    folder = Path(named)
    if not folder.is_dir():
        pytest.fail(f"LAZYSTORE_CORPUS={named!r} is not a folder")
    return folder


def open_files() -> dict[int, str]:
    """Descriptors of this process that are open on regular files, where /proc tells; else none."""
    found = {}
    try:
        descriptors = os.listdir("/proc/self/fd")
    except OSError:
        return {}
    for name in descriptors:
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
            if stat.S_ISREG(os.fstat(int(name)).st_mode):
                found[int(name)] = target
        except OSError:  # closed since the listing, like the listing's own descriptor
            continue
    return found


def own_threads() -> set[threading.Thread]:
    """Living threads that belong to a store, a reader or a conversion."""
    return {
        thread
        for thread in threading.enumerate()
        if thread.name.startswith(THREAD_PREFIX) and not thread.name.startswith(SHARED_THREAD_PREFIX)
    }


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail a test that leaves threads of lazystore running or files open."""
    threads_before, files_before = own_threads(), open_files()
    yield
    if hasattr(os, "sched_getscheduler"):
        # Real-time tests on all cores would let nobody else run (`benchmarks.video_samples`).
        assert os.sched_getscheduler(0) == os.SCHED_OTHER, "the test left its thread with another scheduling"
    give_up_at = time.monotonic() + THREAD_GRACE_S
    while (threads := own_threads() - threads_before) and time.monotonic() < give_up_at:
        time.sleep(0.01)
    assert not threads, f"threads left running: {sorted(thread.name for thread in threads)}"
    if _files_added(files_before):
        gc.collect()  # a file held by a reference cycle is not a leak; collecting costs, so only now
        leaked = _files_added(files_before)
        assert not leaked, f"files left open: {leaked}"


def _files_added(before: dict[int, str]) -> list[str]:
    """Files open now that were not; libraries' own files (shared objects, caches) do not count.

    Nor do loops that were compiled in the background, while they are written down, nor what the system
    tells of processes, which dask looks at now and then.
    """
    return sorted(
        target
        for number, target in open_files().items()
        if before.get(number) != target
        and not target.startswith("/proc/")
        and not any(folder in target for folder in ("site-packages", "/__pycache__/"))
    )


def _skip_is_failure(reason: str) -> bool:
    if "LAZYSTORE_CI" not in os.environ:
        return False
    return not (NO_CORPUS in reason and not os.environ.get("LAZYSTORE_CORPUS"))


def _fail_if_skipped[R: (pytest.TestReport, pytest.CollectReport)](report: R) -> R:
    """The same report, failed where it was skipped and CI forbids that."""
    expected_failure = hasattr(report, "wasxfail")
    if report.outcome == "skipped" and not expected_failure and _skip_is_failure(str(report.longrepr)):
        report.outcome = "failed"
        report.longrepr = f"skipped, which LAZYSTORE_CI counts as a failure: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _fail_if_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _fail_if_skipped((yield))
