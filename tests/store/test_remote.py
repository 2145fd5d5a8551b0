"""Stores in a bucket and behind a web server, all of them on this machine."""

from __future__ import annotations

import logging
import os
import pickle
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazystore.chunks import chunk_region
from lazystore.errors import DamagedStoreError, HostileStoreError, MissingExtraError, StoreError, UsageError
from lazystore.schema import ArraySpec, Codec
from lazystore.store.direct import DirectChunkReader, read_array
from lazystore.store.location import LocalLocation, Location
from lazystore.store.remote import ObjectLocation
from lazystore.store.shard import encode_file

from .slow_proxy import FAULTS, HOST, SlowProxy, now_and_then

SECRET = "s3cr3t-k3y-that-must-not-leak"
SPEC = ArraySpec(
    "data", ("time", "y", "x"), (20, 6, 5), np.dtype("u2"), (1, 6, 5), (8, 6, 5), Codec("zstd", 3)
)
VALUES = (np.arange(600) * 7919 % 60_013).astype("u2").reshape(20, 6, 5)


@pytest.fixture(scope="module")
def s3_port() -> Iterator[int]:
    """An S3 server with one empty bucket, ``bucket``."""
    boto3 = pytest.importorskip("boto3")
    server_module = pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = server_module.ThreadedMotoServer(ip_address=HOST, port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    boto3.client(
        "s3", endpoint_url=f"http://{HOST}:{port}", region_name="us-east-1",
        aws_access_key_id="test", aws_secret_access_key=SECRET,
    ).create_bucket(Bucket="bucket")  # fmt: skip
    yield port
    server.stop()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the test server, from the environment; never looked for anywhere else."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry without waiting long: the pauses are for real networks."""
    monkeypatch.setattr("lazystore.store.remote._PAUSES_S", (0.001,) * 5)
    monkeypatch.setattr("lazystore.store.remote._PAUSES_FOR_ABSENT_S", (0.001,) * 2)
    monkeypatch.setattr("lazystore.store.remote._INITIAL_BACKOFF_S", 0.001)
    monkeypatch.setattr("lazystore.store.payloads.REREAD_PAUSE_S", 0.001)


def s3(port: int, name: str, **options: Any) -> ObjectLocation:
    return ObjectLocation(f"s3://bucket/{name}", {"endpoint": f"http://{HOST}:{port}", **options})


def write_array(location: Location) -> None:
    for number in range(3):
        block = VALUES[chunk_region((number, 0, 0), (8, 6, 5), SPEC.shape)]
        location.write(
            f"item/data/{SPEC.key((number, 0, 0))}", encode_file(SPEC, (number, 0, 0), block).parts
        )


def test_a_bucket_is_a_location(s3_port: int) -> None:
    """Bytes under keys, ranges cut where the object ends, an absent key is FileNotFoundError."""
    location = s3(s3_port, "plain")
    assert isinstance(location, Location)
    location.write("a/b", [b"01234", memoryview(b"56789")])
    location.write("a/c/d", [b"x"])
    location.write("e", [])
    assert location.read("a/b") == b"0123456789"
    assert location.read("a/b", 10) == b"0123456789"
    assert location.read("e") == b""
    assert location.read_range("a/b", 2, 3) == b"234"
    assert location.read_range("a/b", 8, 30) == b"89"
    assert location.read_range("a/b", 10, 5) == b""
    assert location.read_range("a/b", 2, 0) == b""
    assert location.read_tail("a/b", 3) == b"789"
    assert location.read_tail("a/b", 30) == b"0123456789"
    assert location.read_tail("a/b", 0) == b""
    assert location.size("a/b") == 10
    assert sorted(location.list()) == ["a/b", "a/c/d", "e"]
    assert sorted(location.list("a/")) == ["a/b", "a/c/d"]
    assert location.folders("") == {"a"}
    assert location.folders("a") == {"c"}
    with pytest.raises(DamagedStoreError, match="10 bytes where at most 9"):
        location.read("a/b", 9)
    location.write("a/b", [b"new"])
    assert location.read("a/b") == b"new"
    location.delete("a/b")
    location.delete("a/b")
    for ask in (location.read, location.size, lambda key: location.read_range(key, 0, 1)):
        with pytest.raises(FileNotFoundError, match="a/b"):
            ask("a/b")
    with pytest.raises(FileNotFoundError):
        location.read_tail("a/b", 4)
    with pytest.raises(HostileStoreError, match="'../x' is no key of a store"):
        location.read("../x")
    counters = location.counters.snapshot()
    assert counters["requests"] >= 20
    assert counters["bytes"] > 0


def test_reading_costs_one_request_a_run_of_chunks(s3_port: int) -> None:
    """Index and chunk for the first frame; neighbours share a ranged read; counted at the server."""
    write_array(s3(s3_port, "counted"))
    with SlowProxy(s3_port) as proxy:
        location = s3(proxy.port, "counted")
        reader = DirectChunkReader(location, "item/data", SPEC)
        np.testing.assert_array_equal(reader.read_chunk((3, 0, 0))[0], VALUES[3])
        assert len(proxy.requests) == 2
        chunks = reader.read_chunks([(number, 0, 0) for number in (7, 4, 5, 6)])
        np.testing.assert_array_equal([chunk[0] for chunk in chunks], VALUES[[7, 4, 5, 6]])
        assert len(proxy.requests) == 3
        assert reader.counters.requests == 3
        assert location.counters.snapshot()["requests"] == 3
        np.testing.assert_array_equal(read_array(reader), VALUES)
        assert len(proxy.requests) == 8
        reader.close()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", [*FAULTS, "all"])
def test_faults_that_pass_cost_time_but_no_read(s3_port: int, kind: str) -> None:
    """With a fault in 30% of the requests every chunk is right, whatever the fault."""
    write_array(s3(s3_port, "faulty"))
    kinds = FAULTS if kind == "all" else (kind,)
    with SlowProxy(s3_port, fault=now_and_then(0.3, *kinds, seed=5)) as proxy:
        reader = DirectChunkReader(s3(proxy.port, "faulty"), "item/data", SPEC)
        for number in range(20):
            np.testing.assert_array_equal(reader.read_chunk((number, 0, 0))[0], VALUES[number])
        np.testing.assert_array_equal(read_array(reader), VALUES)
        assert len(proxy.requests) > 30
        reader.close()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("503", StoreError, r"cannot reach 'item/data/c/1/0/0' in s3://bucket/broken: 503"),
        ("reset", StoreError, r"cannot reach 'item/data/c/1/0/0'.*check the address and the network"),
        ("truncated", StoreError, r"cannot reach|cut short|fewer than"),
        ("flipped", DamagedStoreError, r"item/data.*checksum"),
        ("404", DamagedStoreError, r"chunk \(9, 0, 0\) .*no such file in s3://bucket/broken"),
    ],
)
def test_faults_that_stay_become_one_clear_error(
    s3_port: int, kind: str, error: type[StoreError], message: str
) -> None:
    """After its retries a read ends with what is wrong; the other shards stay readable."""
    write_array(s3(s3_port, "broken"))
    with SlowProxy(s3_port, fault=lambda request: kind if "c/1/" in request.target else None) as proxy:
        reader = DirectChunkReader(s3(proxy.port, "broken"), "item/data", SPEC)
        start = time.monotonic()
        with pytest.raises(error, match=message) as caught:
            reader.read_chunk((9, 0, 0))
        assert time.monotonic() - start < 20
        assert len(proxy.requests) > 3
        assert SECRET not in str(caught.value)
        assert "\n" not in str(caught.value)
        np.testing.assert_array_equal(reader.read_chunk((17, 0, 0))[0], VALUES[17])
        reader.close()


@pytest.mark.usefixtures("quick")
def test_metadata_survives_a_stray_404(s3_port: int) -> None:
    """A document that seems absent is asked for again before it is believed."""
    s3(s3_port, "stray").write("zarr.json", [b"{}"])
    left = ["404", "404"]
    with SlowProxy(s3_port, fault=lambda _: left.pop() if left else None) as proxy:
        location = s3(proxy.port, "stray")
        assert location.read("zarr.json") == b"{}"
        assert location.counters.snapshot()["retries"] == 2
        with pytest.raises(FileNotFoundError):
            location.read("absent")


@pytest.mark.usefixtures("quick")
def test_a_stray_404_in_the_middle_of_a_body_passes(s3_port: int) -> None:
    """The client asks for the rest of a body that was cut, and is told that there is nothing."""
    content = bytes(range(256)) * 64
    s3(s3_port, "halved").write("zarr.json", [content])
    left = ["404", "truncated"]
    with SlowProxy(s3_port, fault=lambda _: left.pop() if left else None) as proxy:
        assert s3(proxy.port, "halved").read("zarr.json") == content
        assert not left


@pytest.mark.usefixtures("quick")
def test_tags_that_are_no_md5_do_not_stop_a_read(s3_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encrypted object's tag fits nothing: two answers that agree are believed."""
    s3(s3_port, "tagged").write("zarr.json", [b"{}"])
    monkeypatch.setattr("lazystore.store.remote._differs_from_tag", lambda body, tag: True)
    with SlowProxy(s3_port) as proxy:
        assert s3(proxy.port, "tagged").read("zarr.json") == b"{}"
        assert len(proxy.requests) == 2


@pytest.mark.usefixtures("quick")
def test_refused_requests_are_not_repeated(s3_port: int) -> None:
    """No rights is no passing fault: one request, and a hint."""
    location = s3(s3_port, "plain")
    missing = ObjectLocation("s3://no-such-bucket/x", {"endpoint": f"http://{HOST}:{s3_port}"})
    with pytest.raises(FileNotFoundError):
        missing.read("zarr.json")
    with SlowProxy(s3_port, fault=lambda _: "403") as proxy:
        proxy._answer = _forbid  # type: ignore[method-assign]
        location = s3(proxy.port, "plain")
        with pytest.raises(StoreError, match=r"403.*check the rights of your credentials"):
            location.read_range("a", 0, 4)
        assert len(proxy.requests) == 1
        with pytest.raises(StoreError, match=r"403.*check the rights") as caught:
            list(location.list("a/"))
        assert SECRET not in str(caught.value)


async def _forbid(request: Any, writer: Any) -> bool:
    body = f"<Error><Code>AccessDenied</Code><Message>{SECRET}</Message></Error>".encode()
    writer.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()
    return True


def test_credentials_stay_in_memory(s3_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither repr nor pickle nor an error holds them; a copy finds its own in the environment."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    location = s3(s3_port, "private", access_key_id="test", secret_access_key=SECRET)
    location.write("k", [b"data"])
    blob = pickle.dumps(DirectChunkReader(location, "item/data", SPEC))
    assert SECRET.encode() not in blob
    assert SECRET not in repr(location) + str(location.url) + repr(location.counters.snapshot())
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    copy = pickle.loads(pickle.dumps(location))
    assert copy == location
    assert hash(copy) == hash(location)
    assert copy.read("k") == b"data"
    with pytest.raises(
        UsageError, match=r"storage_options \['endpoint', 'no_such_option', 'secret_access_key'\]"
    ) as caught:
        s3(s3_port, "private", secret_access_key=SECRET, no_such_option=SECRET).read("k")
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


REFUSED = {
    "memory://x": "scheme 'memory' .* is not read; use a path, file://, s3://, gs://, https://",
    "reference://a.json": "scheme 'reference'",
    "ftp://host/x": "scheme 'ftp'",
    "http://example.org/x": "scheme 'http'",
    "zip::s3://bucket/a.zip": "chained address",
    "s3://bucket/a::file:///etc/passwd": "chained address",
    "s3://user:pw@bucket/x": r"'s3://…@bucket/x' must hold no user, password",
    "https://host/x?X-Amz-Signature=abc": r"'https://host/x' must hold no user, password, query",
    "https://host/x#f": "fragment",
    "s3://": "names no bucket or host",
    "s3:bucket/x": "names no bucket or host",
    "s3://bucket/../x": "or a relative path",
}


@pytest.mark.parametrize("url", REFUSED)
def test_addresses_that_are_not_read(url: str) -> None:
    """Other schemes, chains and secrets in an address are refused, and secrets not repeated."""
    with pytest.raises(UsageError, match=REFUSED[url]) as caught:
        ObjectLocation(url)
    assert "pw" not in str(caught.value)
    assert "abc" not in str(caught.value)


def test_a_web_server_is_read_but_not_written(tmp_path: Path) -> None:
    """Plain files with ranges behind http: the same reader; listing and writing are refused."""
    write_array(LocalLocation(tmp_path / "session.zarr"))
    with SlowProxy(tmp_path) as proxy:
        location = ObjectLocation(f"{proxy.url}/session.zarr/")
        assert location.url == f"{proxy.url}/session.zarr"
        reader = DirectChunkReader(location, "item/data", SPEC)
        np.testing.assert_array_equal(read_array(reader), VALUES)
        reader.close()
        assert location.size("item/data/c/0/0/0") > 0
        assert len(location.read("item/data/c/0/0/0")) == location.size("item/data/c/0/0/0")
        with pytest.raises(FileNotFoundError):
            location.read("zarr.json")
        with pytest.raises(StoreError, match="cannot list its files"):
            list(location.list())
        with pytest.raises(DamagedStoreError, match="bytes where at most 3 are sensible"):
            location.read("item/data/c/0/0/0", 3)
        with pytest.raises(StoreError, match="cannot list its folders"):
            location.folders("")
        with pytest.raises(StoreError, match="cannot reach 'k'"):
            location.write("k", [b"x"])
        with pytest.raises(UsageError, match=r"\['region'\] mean nothing"):
            ObjectLocation(proxy.url, {"region": "x"}).read("k")


def test_a_google_bucket_is_read(tmp_path: Path) -> None:
    """gs:// through its own protocol, from a server here that takes no credentials."""
    write_array(LocalLocation(tmp_path / "bucket" / "session.zarr"))
    with SlowProxy(tmp_path) as proxy:
        location = ObjectLocation("gs://bucket/session.zarr", {"endpoint": proxy.url, "skip_signature": True})
        reader = DirectChunkReader(location, "item/data", SPEC)
        np.testing.assert_array_equal(reader.read_chunk((19, 0, 0))[0], VALUES[19])
        reader.close()
        assert repr(pickle.loads(pickle.dumps(location))) == "ObjectLocation('gs://bucket/session.zarr')"


def test_a_server_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection ends, after retries, in one line."""
    monkeypatch.setattr("lazystore.store.remote._PAUSES_S", (0.001,))
    monkeypatch.setattr("lazystore.store.remote._INITIAL_BACKOFF_S", 0.001)
    location = ObjectLocation("http://127.0.0.1:9/x", {"timeout_s": 2})
    with pytest.raises(StoreError, match=r"cannot reach 'k' in http://127.0.0.1:9/x: .*try again"):
        location.read("k")


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"])
def test_a_server_of_ones_own_is_named_by_the_environment(
    s3_port: int, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """As on the command line, which takes no storage options; plain http was refused there."""
    s3(s3_port, variable).write("k", [b"data"])
    monkeypatch.setenv(variable, f"http://{HOST}:{s3_port}")
    assert ObjectLocation(f"s3://bucket/{variable}").read("k") == b"data"


def test_missing_credentials_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for the machine's own, asked for again and again, to hear of the network."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("lazystore.store.remote._INITIAL_BACKOFF_S", 0.001)
    location = ObjectLocation("s3://bucket/x", {"timeout_s": 2})
    with pytest.raises(StoreError, match=r"no credentials were found; set AWS_ACCESS_KEY_ID .* or AWS_SKIP"):
        location.read("k")
    assert location.counters.snapshot().get("retries", 0) == 0


def test_without_obstore_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'lazystore\[cloud\]'"):
        ObjectLocation("s3://bucket/x").read("k")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_is_told_instead_of_hanging(tmp_path: Path) -> None:
    """The network client's threads do not survive a fork; the child learns it at once."""
    (tmp_path / "k").write_bytes(b"data")
    with SlowProxy(tmp_path) as proxy:
        location = ObjectLocation(proxy.url)
        assert location.read("k") == b"data"
        child = os.fork()
        if child == 0:
            try:
                location.read("k")
            except StoreError as error:
                os._exit(0 if "'spawn' or 'forkserver'" in str(error) else 3)
            except BaseException:
                os._exit(4)
            os._exit(5)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
