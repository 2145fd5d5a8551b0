"""A finished store in a bucket, opened as a user would: requests counted, faults survived."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import lazystore as ls
from lazystore.errors import DamagedStoreError, StoreError
from lazystore.store.remote import ObjectLocation
from tests.scoreboard import record, scaled

from .samples import make_events, make_field, make_track, make_video
from .store.slow_proxy import FAULTS, HOST, SlowProxy, now_and_then

ADDRESS = "s3://bucket/session.zarr"


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recording and the store made from it."""
    folder = tmp_path_factory.mktemp("remote")
    make_field(folder / "fields.npy")
    make_track(folder / "track.csv")
    make_events(folder / "events.h5")
    make_video(folder / "camera.mp4")
    for name in ("fields.npy", "track.csv", "events.h5"):
        ls.convert(folder / name, folder / "session.zarr")
    ls.convert(folder / "camera.mp4", folder / "session.zarr", codec="encoded")
    return folder


@pytest.fixture(scope="module")
def s3_port(fields: Path) -> Iterator[int]:
    """An S3 server that holds the store."""
    boto3 = pytest.importorskip("boto3")
    server_module = pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with pytest.MonkeyPatch.context() as patch:
        _set_credentials(patch)
        server = server_module.ThreadedMotoServer(ip_address=HOST, port=0, verbose=False)
        server.start()
        port = server.get_host_and_port()[1]
        boto3.client("s3", endpoint_url=f"http://{HOST}:{port}").create_bucket(Bucket="bucket")
        location = ObjectLocation(ADDRESS, {"endpoint": f"http://{HOST}:{port}"})
        root = fields / "session.zarr"
        for path in root.rglob("*"):
            if path.is_file():
                location.write(path.relative_to(root).as_posix(), [path.read_bytes()])
        yield port
        server.stop()


def _set_credentials(patch: pytest.MonkeyPatch) -> None:
    patch.setenv("AWS_ACCESS_KEY_ID", "test")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    patch.setenv("AWS_REGION", "us-east-1")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials of the test server, and retries that do not wait long."""
    _set_credentials(monkeypatch)
    monkeypatch.setattr("lazystore.store.remote._PAUSES_S", (0.001,) * 5)
    monkeypatch.setattr("lazystore.store.remote._PAUSES_FOR_ABSENT_S", (0.001,) * 2)
    monkeypatch.setattr("lazystore.store.remote._INITIAL_BACKOFF_S", 0.001)
    monkeypatch.setattr("lazystore.store.payloads.REREAD_PAUSE_S", 0.001)


def test_opening_costs_one_request_and_a_frame_two(s3_port: int, fields: Path) -> None:
    """The root tells everything; a frame is its shard's index and its own chunk."""
    with SlowProxy(s3_port) as proxy:
        with ls.open(ADDRESS, storage_options={"endpoint": proxy.url}) as store:
            assert len(proxy.requests) == 1
            movie = store["fields"]
            assert len(proxy.requests) == 1
            np.testing.assert_array_equal(movie[10], np.load(fields / "fields.npy")[10])
            assert len(proxy.requests) <= 3
        assert all(request.method == "GET" for request in proxy.requests)


def test_a_window_of_events_costs_two_round_trips(s3_port: int, fields: Path) -> None:
    """Its four columns are read at once: the shards' indexes, then the chunks; again, nothing is read."""
    with ls.open(fields / "session.zarr") as local:
        expected = local["events"].window(300_000, 700_000)
    with (
        SlowProxy(s3_port, delay_s=0.1) as proxy,
        ls.open(ADDRESS, storage_options={"endpoint": proxy.url}) as store,
    ):
        stream = store["events"]
        assert proxy.most_at_once >= 4, "the index's arrays were read one after the other"
        proxy.most_at_once = 0
        before = len(proxy.requests)
        window = stream.window(300_000, 700_000)
        assert proxy.most_at_once >= 3, "columns were read one after the other"
        assert len(proxy.requests) == before + 8
        assert all(np.array_equal(getattr(window, name), getattr(expected, name)) for name in "txyp")
        stream.window(350_000, 600_000)
        stream.window(350_000, 600_000, roi=(0, 0, 20, 20))
        assert len(proxy.requests) == before + 8


def test_encoded_video_opens_in_one_round_trip(s3_port: int, fields: Path) -> None:
    """The tables of its packets are read at once; then a frame is its packets and their shard's index."""
    with ls.open(fields / "session.zarr") as local:
        expected = local["camera"][40]
    with (
        SlowProxy(s3_port, delay_s=0.1) as proxy,
        ls.open(ADDRESS, storage_options={"endpoint": proxy.url}) as store,
    ):
        movie = store["camera"]
        assert proxy.most_at_once >= 3, "the tables were read one after the other"
        before = len(proxy.requests)
        np.testing.assert_array_equal(movie[40], expected)
        assert len(proxy.requests) <= before + 2


def test_faults_change_nothing_that_is_read(s3_port: int, fields: Path) -> None:
    """Every third request spoilt, by turns in five ways: opened and read right, every time."""
    expected = np.load(fields / "fields.npy")
    n_openings = scaled(25, 300)
    for seed in range(n_openings):
        with (
            SlowProxy(s3_port, fault=now_and_then(0.3, *FAULTS, seed=seed)) as proxy,
            ls.open(ADDRESS, storage_options={"endpoint": proxy.url}) as store,
        ):
            number = seed * 8 % len(expected)
            np.testing.assert_array_equal(store["fields"][number], expected[number])
    record(6, openings_and_reads=n_openings, faulty_share=0.3, wrong=0, failed=0)


def test_a_lost_shard_is_an_error_not_zeros(s3_port: int) -> None:
    """An object that stays away is named; the answer is never made up."""
    with (
        SlowProxy(s3_port, fault=lambda r: "404" if "fields/data/c" in r.target else None) as proxy,
        ls.open(ADDRESS, storage_options={"endpoint": proxy.url}) as store,
        pytest.raises(DamagedStoreError, match=r"fields/data.*no such file in s3://bucket/session.zarr"),
    ):
        store["fields"][0]


def test_xarray_reads_the_same_from_a_bucket(s3_port: int, fields: Path) -> None:
    """The engine takes `storage_options`; the tree is the local one."""
    local = xr.open_datatree(fields / "session.zarr", engine="lazystore")
    with SlowProxy(s3_port) as proxy:
        remote = xr.open_datatree(ADDRESS, engine="lazystore", storage_options={"endpoint": proxy.url})
        xr.testing.assert_identical(remote.load(), local.load())
        remote.close()
    local.close()


def test_a_bucket_without_a_store(s3_port: int) -> None:
    """One line says that there is nothing."""
    with pytest.raises(StoreError, match=r"s3://bucket/nothing"):
        ls.open("s3://bucket/nothing", storage_options={"endpoint": f"http://{HOST}:{s3_port}"})


def test_behind_a_web_server(fields: Path) -> None:
    """A folder that any web server offers opens too."""
    with SlowProxy(fields) as proxy, ls.open(f"{proxy.url}/session.zarr") as store:
        assert set(store) == {"fields", "track", "events", "camera"}
        np.testing.assert_array_equal(store["fields"][199], np.load(fields / "fields.npy")[199])
