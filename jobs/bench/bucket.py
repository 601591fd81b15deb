"""The bucket that a bench works in: on a server of its own, or on the one that it is told."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import typer

from infra.seaweedfs import S3Server, seaweedfs

ENDPOINT = "AWS_ENDPOINT_URL_S3"


@contextmanager
def bucket(endpoint: str | None, name: str) -> Iterator[str]:
    """An address under which there is nothing yet; boto3 and programs that are started find it by the environment.

    Args:
        endpoint: a server's, with boto3's own credentials and a bucket `name`; None: the one in the environment, or
            else one that is started here and ends with the block.

    Raises:
        BadParameter: there is none, and none can be started.
    """
    endpoint = endpoint or os.environ.get(ENDPOINT)
    with ExitStack() as stack:
        try:
            server = S3Server(endpoint, name, {ENDPOINT: endpoint}) if endpoint else stack.enter_context(seaweedfs())
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        stack.enter_context(_environment(server.environment))
        yield f"s3://{server.bucket}/{secrets.token_hex(4)}"


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
