"""A store in a bucket of S3, or of a server that speaks its language, under a prefix.

Nobody holds a lock: `create` is a PUT with `If-None-Match: *`, `replace` one with `If-Match`, and the server compares.
A server that writes and whose reply is lost refuses the same PUT when it comes again; so every write carries a nonce in
its object's metadata, by which a refused writer sees that the object is its own. Endpoint and credentials are boto3's:
environment, profile, `AWS_ENDPOINT_URL_S3`. Messages name the store and the kind of error, never what a server said.
"""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    EndpointConnectionError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ResponseStreamingError,
)
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from infra.retry import retry
from orchestrator.protocols import ObjectChanged, ObjectExists, ObjectMissing, StoreError, check_key

NONCE = "archipelago-nonce"
PART_BYTES = 2**24
"""Of a large object that goes over the wire at a time, by each of `THREADS`."""
THREADS = 4
PATIENCE_S, PROBE_PATIENCE_S = 120.0, 4.0
"""How long a server may be away before a study ends, and before it begins."""
TRANSIENT = (
    ConnectionError,
    HTTPClientError,
    ResponseStreamingError,
    IncompleteReadError,
    FlexibleChecksumError,
    ResponseParserError,
    HTTPError,
)
TAGGED = {"put_object", "head_object", "upload_part", "complete_multipart_upload"}
"""Operations whose reply has an entity tag."""
TRANSIENT_CODES = {"ConditionalRequestConflict", "OperationAborted", "RequestTimeout", "SlowDown"}
ADDRESS = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(/(?P<prefix>.*))?")
T = TypeVar("T")


class S3Store:
    """Objects under a prefix of a bucket.

    Args:
        address: s3://bucket/prefix or s3://bucket.
        patience_s: how long a call may wait for a server that is away or busy.

    Raises:
        ValueError: no such address, or boto3 is not set up; one sentence.
    """

    def __init__(self, address: str, patience_s: float = PATIENCE_S) -> None:
        found = ADDRESS.fullmatch(address.rstrip("/"))
        if found is None:
            shown = re.sub(r"//[^/]*@", "//...@", address)
            raise ValueError(f"store {shown} is no address: write s3://bucket/prefix; keys belong in boto3's settings")
        self._bucket = found["bucket"]
        self._prefix = f"{found['prefix']}/" if found["prefix"] else ""
        if self._prefix:
            check_key(self._prefix[:-1])
        self.where = f"s3://{self._bucket}/{self._prefix}".rstrip("/")
        self._patience_s = patience_s
        config = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=30, max_pool_connections=32)
        try:
            self._client = boto3.Session().client("s3", config=config)
        except (BotoCoreError, ValueError) as error:
            raise ValueError(f"store {self.where}: boto3 is not set up: {error}") from None
        self._tags: dict[str, tuple[bytes, str]] = {}

    def __reduce__(self) -> tuple[type[S3Store], tuple[str, float]]:
        """In another process: the same place, with a connection of its own."""
        return S3Store, (self.where, self._patience_s)

    def probe(self) -> None:
        """Proves that studies can be kept here: writes an object, and sees the second one under its name refused.

        Raises:
            StoreError: what is wrong with the endpoint, the bucket, the permissions or the server, and what to do.
        """
        key, patience_s = f".probe-{secrets.token_hex(8)}", self._patience_s
        self._patience_s = min(patience_s, PROBE_PATIENCE_S)
        try:
            with self._naming("write", "an object"):
                self._check_bucket()
                self._put(key, b"probe", {"IfNoneMatch": "*"})
                try:
                    for condition in ({"IfNoneMatch": "*"}, {"IfMatch": '"0123456789abcdef0123456789abcdef"'}):
                        with suppress(_Refused):
                            self._put(key, b"again", condition)
                            raise StoreError(
                                f"store {self.where} at {self._endpoint} writes over objects although it is told not "
                                f"to ({next(iter(condition))}): two drivers could spoil a study; choose another server"
                            )
                finally:
                    self._call("delete_object", key)
        finally:
            self._patience_s = patience_s

    def create(self, key: str, data: bytes) -> None:
        check_key(key)
        with self._naming("write", key):
            try:
                self._put(key, data, {"IfNoneMatch": "*"})
            except _Refused:
                raise self._exists(key) from None

    def create_from(self, key: str, file: Path) -> None:
        check_key(key)
        if file.stat().st_size <= PART_BYTES:
            self.create(key, file.read_bytes())
            return
        with self._naming("write", key):
            if self._head(key) is not None:
                raise self._exists(key)
            try:
                self._put_parts(key, file)
            except _Refused:
                raise self._exists(key) from None

    def read(self, key: str) -> bytes:
        check_key(key)
        with self._naming("read", key):
            return self._get(key)[0]

    @contextmanager
    def fetch(self, key: str) -> Iterator[Path]:
        check_key(key)
        with tempfile.TemporaryDirectory(prefix="archipelago-") as folder:
            file = Path(folder) / "object"
            with self._naming("read", key):
                self._get_parts(key, file)
            yield file

    def replace(self, key: str, data: bytes, expected: bytes | None) -> None:
        check_key(key)
        with self._naming("write", key):
            try:
                if expected is None:
                    tag = self._put(key, data, {"IfNoneMatch": "*"})
                else:
                    tag = self._put_over(key, data, expected)
            except (_Refused, ObjectMissing):
                raise ObjectChanged(f"{key} in store {self.where} has changed: another process writes here") from None
            self._tags[key] = data, tag

    def delete(self, key: str) -> None:
        check_key(key)
        with self._naming("delete", key):
            self._call("delete_object", key)

    def list(self, prefix: str) -> Sequence[str]:
        if prefix.strip("/"):
            check_key(prefix.rstrip("/"))
        with self._naming("list", f"{prefix}*"):
            pages = self._pages(prefix)
        keys = [entry["Key"][len(self._prefix) :] for page in pages for entry in page.get("Contents", ())]
        return sorted(key for key in keys if not re.search(r"(^|/)\.", key))

    def studies(self) -> Sequence[str]:
        """The names of the studies in here, sorted."""
        with self._naming("list", "studies"):
            pages = self._pages("", Delimiter="/")
            folders = [
                one["Prefix"][len(self._prefix) : -1] for page in pages for one in page.get("CommonPrefixes", ())
            ]
            return sorted(name for name in folders if self._head(f"{name}/manifest.json") is not None)

    @property
    def _endpoint(self) -> str:
        """Scheme, host and port of the server."""
        parts = urlsplit(self._client.meta.endpoint_url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    def _exists(self, key: str) -> ObjectExists:
        return ObjectExists(f"{key} exists already in store {self.where}")

    def _retry(self, call: Callable[[], T]) -> T:
        return retry(call, _may_pass, self._patience_s)

    def _call(self, operation: str, key: str, **arguments: Any) -> dict[str, Any]:
        method = getattr(self._client, operation)

        def attempt() -> dict[str, Any]:
            reply: dict[str, Any] = method(Bucket=self._bucket, Key=self._prefix + key, **arguments)
            if operation in TAGGED and "ETag" not in reply:
                raise _Torn
            return reply

        return self._retry(attempt)

    def _check_bucket(self) -> None:
        """Some servers make a bucket that is written to: so it is asked for first."""
        try:
            self._retry(lambda: self._client.head_bucket(Bucket=self._bucket))
        except ClientError as error:
            if _status(error) == 404:
                raise self._no_bucket() from None
            if _status(error) != 403:  # objects may be allowed where the bucket itself is not
                raise

    def _no_bucket(self) -> StoreError:
        return StoreError(
            f"store {self.where}: there is no bucket {self._bucket} at {self._endpoint}; make it, or name another one"
        )

    def _put(self, key: str, data: bytes, condition: Mapping[str, str]) -> str:
        """Writes an object under a condition; returns its entity tag.

        Raises:
            _Refused: the condition does not hold.
        """
        return self._settle(key, lambda nonce: self._call(
            "put_object", key, Body=data, Metadata={NONCE: nonce}, **condition
        ))  # fmt: skip

    def _put_over(self, key: str, data: bytes, expected: bytes) -> str:
        """Writes over an object that holds `expected`: by the tag that is remembered, or else by the one it has now."""
        known = self._tags.pop(key, None)
        if known is not None and known[0] == expected:
            with suppress(_Refused):
                return self._put(key, data, {"IfMatch": known[1]})
        held, tag = self._get(key)
        if held != expected:
            raise _Refused
        return self._put(key, data, {"IfMatch": tag})

    def _settle(self, key: str, write: Callable[[str], Mapping[str, Any]]) -> str:
        """The entity tag of what `write` wrote with the nonce that it is given, whether or not it got the reply."""
        nonce = secrets.token_hex(16)
        try:
            return str(write(nonce)["ETag"])
        except ClientError as error:
            if _code(error) == "NoSuchBucket" or _status(error) not in (404, 412):
                raise
            found = self._head(key)
            if found is None or found["Metadata"].get(NONCE) != nonce:
                raise _Refused from None
            return str(found["ETag"])

    def _put_parts(self, key: str, file: Path) -> None:
        def write(nonce: str) -> dict[str, Any]:
            upload = self._call("create_multipart_upload", key, Metadata={NONCE: nonce})["UploadId"]
            try:
                with open(file, "rb") as source, ThreadPoolExecutor(THREADS) as threads:

                    def part(number: int) -> dict[str, Any]:
                        data = os.pread(source.fileno(), PART_BYTES, (number - 1) * PART_BYTES)
                        reply = self._call("upload_part", key, UploadId=upload, PartNumber=number, Body=data)
                        return {"PartNumber": number, "ETag": reply["ETag"]}

                    parts = list(threads.map(part, range(1, -(-file.stat().st_size // PART_BYTES) + 1)))
                return self._call(
                    "complete_multipart_upload",
                    key,
                    UploadId=upload,
                    MultipartUpload={"Parts": parts},
                    IfNoneMatch="*",
                )
            except BaseException:
                with suppress(ClientError, BotoCoreError):
                    self._call("abort_multipart_upload", key, UploadId=upload)
                raise

        self._settle(key, write)

    def _get(self, key: str, **arguments: str) -> tuple[bytes, str]:
        """The object's bytes and its entity tag."""

        def attempt() -> tuple[bytes, str]:
            reply = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key, **arguments)
            with reply["Body"] as body:
                data = body.read()
            if "ETag" not in reply or reply.get("ContentLength") != len(data):
                raise _Torn
            return data, reply["ETag"]

        try:
            return self._retry(attempt)
        except ClientError as error:
            if _code(error) == "NoSuchKey":
                raise ObjectMissing(f"{key} is not in store {self.where}") from None
            raise

    def _get_parts(self, key: str, file: Path) -> None:
        found = self._head(key)
        if found is None:
            raise ObjectMissing(f"{key} is not in store {self.where}")
        size, tag = int(found["ContentLength"]), str(found["ETag"])
        with open(file, "wb") as into, ThreadPoolExecutor(THREADS) as threads:

            def part(start: int) -> None:
                end = min(start + PART_BYTES, size) - 1
                data, _ = self._get(key, Range=f"bytes={start}-{end}", IfMatch=tag)
                os.pwrite(into.fileno(), data, start)

            list(threads.map(part, range(0, size, PART_BYTES)))

    def _head(self, key: str) -> Mapping[str, Any] | None:
        """The object's metadata; None: there is none."""
        try:
            return self._call("head_object", key)
        except ClientError as error:
            if _status(error) == 404:
                return None
            raise

    def _pages(self, prefix: str, **arguments: str) -> Sequence[Mapping[str, Any]]:
        paginator = self._client.get_paginator("list_objects_v2")
        return self._retry(
            lambda: [*paginator.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix, **arguments)]
        )

    @contextmanager
    def _naming(self, verb: str, key: str) -> Iterator[None]:
        """Turns what boto3 raises into one sentence."""
        try:
            yield
        except (NoCredentialsError, PartialCredentialsError, ProfileNotFound):
            raise StoreError(
                f"store {self.where}: boto3 finds no credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY"
            ) from None
        except EndpointConnectionError:
            raise StoreError(
                f"store {self.where}: {self._endpoint} does not answer; is it up, and is AWS_ENDPOINT_URL_S3 right?"
            ) from None
        except ClientError as error:
            if _code(error) == "NoSuchBucket":
                raise self._no_bucket() from None
            if _status(error) in (401, 403):
                raise StoreError(
                    f"store {self.where}: {self._endpoint} gives no permission to {verb} {key} ({_code(error)}); check "
                    "the credentials that boto3 finds, and what they are allowed"
                ) from None
            raise self._failed(verb, key, f"{_status(error)} {_code(error)}") from None
        except (BotoCoreError, ResponseParserError, HTTPError, OSError) as error:
            raise self._failed(verb, key, type(error).__name__) from error

    def _failed(self, verb: str, key: str, words: str) -> StoreError:
        return StoreError(f"cannot {verb} {key} in store {self.where}: {self._endpoint} answers with {words}")


class _Refused(Exception):
    """The condition of a write does not hold."""


class _Torn(BotoCoreError):  # type: ignore[misc]  # botocore has no types
    """A reply whose headers broke off."""

    fmt = "the reply broke off"


def _may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed later: the server is away or busy, or its reply broke off."""
    if not isinstance(error, ClientError):
        return isinstance(error, (*TRANSIENT, _Torn))
    status, code = _status(error), _code(error)
    torn = code.isdigit() and not error.operation_name.startswith("Head")  # only these have no code in their reply
    return torn or (status >= 500 and status != 501) or status == 429 or code in TRANSIENT_CODES


def _status(error: ClientError) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


def _code(error: ClientError) -> str:
    return str(error.response["Error"].get("Code"))
