"""An HTTP server on 127.0.0.1 that is slow and makes mistakes, in front of another one or of a folder.

It answers after `delay_s`, and spoils answers as `fault` says: with a 503, a reset, a body that ends
early, a flipped bit, or a 404 for what is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from urllib.parse import unquote, urlsplit

FAULTS = ("503", "reset", "truncated", "flipped", "404")
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


type Fault = Callable[[Request], str | None]
"""Names the fault that a request meets; None for none."""


def now_and_then(share: float, *kinds: str, seed: int = 0, method: str = "GET") -> Fault:
    """A fault of one of the kinds in that share of the requests of one method."""
    choice = random.Random(seed)
    return lambda request: (
        choice.choice(kinds) if request.method == method and choice.random() < share else None
    )


@dataclass
class SlowProxy:
    """A context manager; `upstream` is another server's port, or a folder to serve.

    Attributes
    ----------
    requests
        Every request so far.
    most_at_once
        How many requests waited for their answers at the same time, at most.
    """

    upstream: int | Path
    delay_s: float = 0.0
    fault: Fault = field(default=lambda request: None)
    requests: list[Request] = field(default_factory=list)
    port: int = 0
    most_at_once: int = 0
    _waiting: int = 0

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def __enter__(self) -> SlowProxy:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="slow-proxy", daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def _start(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, HOST, 0)

    def __exit__(self, *_: object) -> None:
        async def stop() -> None:
            self._server.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            try:
                while (request := await _read_request(reader)) is not None:
                    self.requests.append(request)
                    self._waiting += 1
                    self.most_at_once = max(self.most_at_once, self._waiting)
                    try:
                        await asyncio.sleep(self.delay_s)
                    finally:
                        self._waiting -= 1
                    if not await self._answer(request, writer):
                        break
            finally:
                writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Send an answer; False where the connection ends with it."""
        fault = self.fault(request)
        if fault == "reset":
            writer.transport.abort()
            return False
        if fault in ("503", "404"):
            answer = Answer(int(fault), {}, b"<Error><Code>Injected</Code></Error>")
        elif isinstance(self.upstream, Path):
            answer = _from_folder(self.upstream, request)
        else:
            answer = await _forward(self.upstream, request)
        body = answer.body
        if body and fault == "flipped":
            position = random.Random(len(self.requests)).randrange(len(body))
            body = body[:position] + bytes([body[position] ^ 16]) + body[position + 1 :]
        length = answer.headers.get("content-length", str(len(body)))
        headers = {**answer.headers, "content-length": length if request.method == "HEAD" else str(len(body))}
        head = f"HTTP/1.1 {answer.status} Said\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items())
        if body and fault == "truncated":
            body = body[: len(body) // 2]
        writer.write(head.encode() + b"\r\n" + (b"" if request.method == "HEAD" else body))
        await writer.drain()
        return fault != "truncated"


async def _read_head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]] | None:
    first = await reader.readline()
    if not first.strip():
        return None
    headers = {}
    while (line := (await reader.readline()).strip()) != b"":
        name, _, value = line.decode().partition(":")
        headers[name.strip().lower()] = value.strip()
    return first.decode().strip(), headers


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while (size := int((await reader.readline()).split(b";")[0], 16)) > 0:
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return body
    return await reader.readexactly(int(headers.get("content-length", 0)))


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    head = await _read_head(reader)
    if head is None:
        return None
    method, target, _ = head[0].split(" ")
    return Request(method, target, head[1], await _read_body(reader, head[1]))


async def _forward(port: int, request: Request) -> Answer:
    reader, writer = await asyncio.open_connection(HOST, port)
    headers = {**request.headers, "connection": "close", "content-length": str(len(request.body))}
    headers.pop("transfer-encoding", None)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"{request.method} {request.target} HTTP/1.1\r\n{lines}\r\n".encode() + request.body)
    await writer.drain()
    head = await _read_head(reader)
    assert head is not None, "the server behind the proxy said nothing"
    status = int(head[0].split(" ")[1])
    body = b"" if request.method == "HEAD" or status == 204 else await _read_body(reader, head[1])
    writer.close()
    dropped = ("connection", "transfer-encoding")
    return Answer(status, {name: value for name, value in head[1].items() if name not in dropped}, body)


def _from_folder(folder: Path, request: Request) -> Answer:
    """A file of a folder, or a range of it, as a plain web server gives it."""
    path = folder / unquote(urlsplit(request.target).path).lstrip("/")
    if request.method not in ("GET", "HEAD"):
        return Answer(405, {}, b"")
    if not path.is_file():
        return Answer(404, {}, b"")
    content = path.read_bytes()
    headers = {"last-modified": formatdate(path.stat().st_mtime, usegmt=True), "etag": f'"{len(content)}"'}
    wanted = request.headers.get("range", "")
    if not wanted:
        return Answer(200, {**headers, "content-length": str(len(content))}, content)
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    start = int(first) if first else max(0, len(content) - int(last))
    stop = min(len(content), int(last) + 1) if first and last else len(content)
    if start >= len(content):
        return Answer(416, headers, b"")
    return Answer(
        206, {**headers, "content-range": f"bytes {start}-{stop - 1}/{len(content)}"}, content[start:stop]
    )
