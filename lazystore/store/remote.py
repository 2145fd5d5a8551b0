"""A store in a bucket or behind a web server, through obstore: ranged reads, retries, counts.

Credentials come from the environment's provider chain or from the caller's `storage_options`. They
stay in memory: no attribute, error, representation or pickle of a location holds them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from lazystore.errors import (
    DamagedStoreError,
    HostileStoreError,
    MissingExtraError,
    StoreError,
    UsageError,
)
from lazystore.telemetry import Counters

SCHEMES = ("s3", "gs", "https")
# What a pickle may carry. Everything else in `storage_options` may be a secret and stays behind.
PUBLIC_OPTIONS = frozenset({"region", "endpoint", "skip_signature", "allow_http", "timeout_s"})
_OPTION_ALIASES = {"endpoint_url": "endpoint", "anon": "skip_signature", "region_name": "region"}
# Together with obstore's own three: an outage of about 10 s passes unnoticed.
_PAUSES_S = (0.05, 0.1, 0.2, 0.4, 0.8)
# A metadata key that is not there is often the plain truth (is this a v2 or v3 store?), so fewer.
_PAUSES_FOR_ABSENT_S = (0.05, 0.1)
_INITIAL_BACKOFF_S = 0.05
# Where credentials are asked for last, of the machine itself, when there are none elsewhere.
_NO_CREDENTIALS = "/latest/api/token"
_HOW_TO_SIGN = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for public buckets "
    "(in Python also storage_options)"
)
# Where obstore looks for the address of a server that is not Amazon's.
_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")

_forked_after_use = False
_used = False


def _note_fork() -> None:
    global _forked_after_use
    _forked_after_use = _used


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


class ObjectLocation:
    """A prefix of a bucket, or a folder of a web server.

    Parameters
    ----------
    url
        ``s3://bucket/prefix``, ``gs://bucket/prefix`` or ``https://host/path``; plain ``http`` only
        to this very machine. No user, password or query.
    storage_options
        `region`, `endpoint`, `skip_signature` (True: no credentials, for public buckets),
        `allow_http`, `timeout_s` (of one request, default 30), or anything that obstore's store
        of that kind takes.

    Raises
    ------
    UsageError
        If the URL has another scheme or holds a secret, or an option is unknown.

    Notes
    -----
    Thread-safe; reads block and run outside the interpreter lock. Requests are retried with
    growing pauses on server errors, resets, short bodies and timeouts. A copy made by pickling
    finds its credentials in its own environment. The network client does not survive a fork: in a
    forked child every read raises StoreError.
    """

    # Reads whose checksum does not fit are asked again: bytes can be altered on the way. With a
    # fault in every third request, one chunk in 1,400 still fails.
    reread_attempts = 6

    def __init__(self, url: str, storage_options: Mapping[str, Any] | None = None) -> None:
        self._url = check_url(url)
        self._options = {
            _OPTION_ALIASES.get(name, name): value for name, value in (storage_options or {}).items()
        }
        self._client: Any = None
        self.counters = Counters()
        """Sums since this location was made: requests, bytes, retries."""

    @property
    def url(self) -> str:
        return self._url

    def __repr__(self) -> str:
        return f"ObjectLocation({self._url!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectLocation) and other._url == self._url

    def __hash__(self) -> int:
        return hash(self._url)

    def __reduce__(self) -> tuple[Any, ...]:
        public = {name: value for name, value in self._options.items() if name in PUBLIC_OPTIONS}
        return ObjectLocation, (self._url, public)

    # --- reading --------------------------------------------------------------------------------

    def read(self, key: str, max_bytes: int | None = None) -> bytes:
        unverified: list[bytes] = []

        def get(client: Any) -> bytes:
            result = _obstore().get(client, key)
            size = result.meta["size"]
            if max_bytes is not None and size > max_bytes:
                raise DamagedStoreError(f"{key}: {size} bytes where at most {max_bytes} are sensible")
            # Streamed, because a server may send more than it announced.
            parts, total = [], 0
            for part in result:
                total += len(part)
                if total > size:
                    break
                parts.append(bytes(part))
            if total != size:
                raise _SpoiltBodyError(f"{total} bytes of {size}")
            body = b"".join(parts)
            # A bucket's tag is mostly the MD5 of the object, which tells bytes altered on the way.
            # Where it is something else (encryption, parts), two answers that agree are believed.
            if _differs_from_tag(body, result.meta["e_tag"]) and body not in unverified:
                unverified.append(body)
                raise _SpoiltBodyError("the bytes do not match the object's tag")
            return body

        return self._request(get, key, pauses_for_absent=_PAUSES_FOR_ABSENT_S)

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        if length <= 0:
            return b""
        return self._request(
            lambda client: bytes(_obstore().get_range(client, key, start=offset, length=length)),
            key,
            beyond_end=b"",
        )

    def read_tail(self, key: str, length: int) -> bytes:
        if length <= 0:
            return b""
        return self._request(
            lambda client: bytes(_obstore().get(client, key, options={"range": {"suffix": length}}).bytes()),
            key,
            beyond_end=b"",
        )

    def size(self, key: str) -> int:
        return self._request(lambda client: int(_obstore().head(client, key)["size"]), key)

    def list(self, prefix: str = "") -> Iterator[str]:
        if self._url.startswith("http"):
            raise StoreError(f"{self._url} is a web server, which cannot list its files; use s3:// or gs://")
        # Pages are fetched as the caller goes on, outside `_request`: obstore retries them itself.
        stream = self._request(lambda client: _obstore().list(client, prefix or None), prefix)
        try:
            for page in stream:
                yield from (str(entry["path"]) for entry in page)
        except Exception as error:
            raise _as_store_error(error, self._url, prefix) from None

    def folders(self, prefix: str) -> set[str]:
        """Names one level below a folder's key that have something below them."""
        if self._url.startswith("http"):
            raise StoreError(
                f"{self._url} is a web server, which cannot list its folders; use s3:// or gs://"
            )
        found = self._request(lambda client: _obstore().list_with_delimiter(client, prefix or None), prefix)
        return {str(path).rstrip("/").rsplit("/", 1)[-1] for path in found["common_prefixes"]}

    # --- writing --------------------------------------------------------------------------------

    def write(self, key: str, parts: Iterable[bytes | memoryview]) -> None:
        content = b"".join(parts)
        self._request(lambda client: _obstore().put(client, key, content), key)

    def delete(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._request(lambda client: _obstore().delete(client, key), key)

    # --- requests -------------------------------------------------------------------------------

    def _request[T](
        self,
        send: Callable[[Any], T],
        key: str,
        *,
        pauses_for_absent: tuple[float, ...] = (),
        beyond_end: T | None = None,
    ) -> T:
        """Carry out one request, again after a pause where the fault may pass."""
        client = self._connect()
        attempt = 0
        while True:
            self.counters.add("requests")
            try:
                answer = send(client)
            except FileNotFoundError:
                pauses = pauses_for_absent
                problem: Exception = FileNotFoundError(key)
            except (StoreError, MissingExtraError):
                raise
            except ValueError as error:
                raise HostileStoreError(f"{key!r} is no key of a store: {_reason(error)}") from None
            except Exception as error:
                if beyond_end is not None and " 416 " in str(error):
                    return beyond_end
                if not _may_pass(error):
                    raise _as_store_error(error, self._url, key) from None
                pauses = _PAUSES_S
                problem = _as_store_error(error, self._url, key)
            else:
                if isinstance(answer, bytes):
                    self.counters.add("bytes", len(answer))
                return answer
            if attempt >= len(pauses):
                raise problem
            self.counters.add("retries")
            # Spread out, or all readers that met one fault come back in the same moment.
            time.sleep(pauses[attempt] * random.uniform(0.5, 1.5))
            attempt += 1

    def _connect(self) -> Any:
        global _used
        if _forked_after_use:
            raise StoreError(
                f"{self._url}: this process was forked from one that had already read a remote store, "
                "and the network client does not survive that; start workers by 'spawn' or 'forkserver'"
            )
        if self._client is None:
            _used = True
            self._client = _make_client(self._url, self._options)
        return self._client


class _SpoiltBodyError(Exception):
    """A body that ended before its announced length, or is not what was stored."""


def _differs_from_tag(body: bytes, tag: str | None) -> bool:
    """Whether a tag that looks like an MD5 is another one than the body's."""
    plain = (tag or "").strip('"')
    if not re.fullmatch("[0-9a-f]{32}", plain):
        return False
    return hashlib.md5(body, usedforsecurity=False).hexdigest() != plain


def _obstore() -> Any:
    try:
        import obstore
    except ImportError as error:
        raise MissingExtraError(
            "remote stores need the package 'obstore', which is missing; pip install 'lazystore[cloud]'"
        ) from error
    return obstore


def _make_client(url: str, given_options: Mapping[str, Any]) -> Any:
    _obstore()
    from obstore.store import GCSStore, HTTPStore, S3Store

    parts = urlsplit(url)
    options: Any = dict(given_options)
    seconds = float(options.pop("timeout_s", 30))
    named = (os.environ.get(name) for name in _ENDPOINT_VARIABLES if parts.scheme == "s3")
    endpoint = options.get("endpoint") or next(filter(None, named), url)
    insecure = str(endpoint).startswith("http://")
    client_options: Any = {
        "timeout": timedelta(seconds=seconds),
        "connect_timeout": timedelta(seconds=min(seconds, 10)),
        "allow_http": bool(options.pop("allow_http", insecure)),
    }
    retry: Any = {
        "max_retries": 3,
        "retry_timeout": timedelta(seconds=2 * seconds),
        "backoff": {
            "init_backoff": timedelta(seconds=_INITIAL_BACKOFF_S),
            "max_backoff": timedelta(seconds=2),
            "base": 2,
        },
    }
    prefix = parts.path.strip("/") or None
    try:
        if parts.scheme == "s3":
            return S3Store(
                parts.netloc, prefix=prefix, config=options, client_options=client_options, retry_config=retry
            )
        if parts.scheme == "gs":
            if "endpoint" in options:
                options["base_url"] = options.pop("endpoint")
            return GCSStore(
                parts.netloc, prefix=prefix, config=options, client_options=client_options, retry_config=retry
            )
        if options:
            raise UsageError(f"storage_options {sorted(options)} mean nothing for {url}; leave them out")
        return HTTPStore(url, client_options=client_options, retry_config=retry)
    except UsageError:
        raise
    except Exception as error:
        # The names only: a value may be a secret.
        raise UsageError(
            f"storage_options {sorted(options)} do not fit {url} ({type(error).__name__}); "
            "see obstore's documentation for the names that this kind of store takes"
        ) from None


def check_url(url: str) -> str:
    """A URL of a kind that is read, without a slash at its end.

    Raises
    ------
    UsageError
        If it is of another kind, or holds credentials or a query.

    >>> check_url("s3://bucket/session.zarr/")
    's3://bucket/session.zarr'
    """
    if "::" in url:
        raise UsageError(
            f"chained address {_without_secrets(url)!r} is not read; pass the store's own address"
        )
    parts = urlsplit(url)
    is_local = parts.scheme == "http" and parts.hostname in _LOCAL_HOSTS
    if parts.scheme not in SCHEMES and not is_local:
        raise UsageError(
            f"scheme {parts.scheme!r} of {_without_secrets(url)!r} is not read; use a path, file://, "
            + ", ".join(f"{scheme}://" for scheme in SCHEMES)
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise UsageError(
            f"address {_without_secrets(url)!r} must hold no user, password, query or fragment; "
            "credentials belong in the environment or in storage_options"
        )
    if not parts.netloc or any(part in (".", "..") for part in parts.path.split("/")):
        raise UsageError(f"address {url!r} names no bucket or host, or a relative path")
    return url.rstrip("/")


def _without_secrets(url: str) -> str:
    return re.sub(r"//[^/]*@", "//…@", re.split(r"[?#]", url)[0])


def _may_pass(error: Exception) -> bool:
    """Whether asking again could help: server errors, resets, short bodies, timeouts."""
    if isinstance(error, _SpoiltBodyError):
        return True
    from obstore.exceptions import GenericError

    if _NO_CREDENTIALS in str(error):
        return False
    status = re.search(r"status code: (\d{3})", str(error))
    # A 404 for an object that is not there is a FileNotFoundError; here it spoilt the second half of a
    # body whose first half had come.
    if status and status[1][0] == "4" and status[1] not in ("404", "408", "429"):
        return False
    return isinstance(error, (GenericError, OSError))


def _reason(error: Exception) -> str:
    """A fault in a few words, without the server's answer: that may quote a key or a signature."""
    text = str(error)
    status = re.search(r"status code: (\d{3}[^:<\n]*)", text)
    code = re.search(r"<Code>(\w+)</Code>", text)
    if status:
        return status[1].strip() + (f", {code[1]}" if code else "")
    return _without_secrets(re.sub(r"https?://\S+", "…", text.splitlines()[0] if text else ""))[:160]


def _as_store_error(error: Exception, url: str, key: str) -> StoreError:
    # By name or by number: a listing's errors are not told apart by obstore.
    reason, kind = _reason(error), type(error).__name__
    hint = "check the address and the network, then try again"
    if _NO_CREDENTIALS in str(error):
        reason, hint = "no credentials were found", _HOW_TO_SIGN
    elif kind == "PermissionDeniedError" or reason.startswith("403"):
        hint = "check the rights of your credentials"
    elif kind == "UnauthenticatedError" or reason.startswith("401"):
        hint = _HOW_TO_SIGN
    elif kind == "NotSupportedError":
        hint = "this kind of server does not offer it"
    return StoreError(f"cannot reach {key!r} in {url}: {reason}; {hint}")
