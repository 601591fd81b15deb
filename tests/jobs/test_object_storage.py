"""Whole studies in a bucket, through the command line."""

from __future__ import annotations

from pathlib import Path

import boto3

from infra.stores import make_store
from tests.jobs.conftest import TINY, TOY, CommandLine, without_timings


def test_a_study_in_a_bucket_is_the_one_in_a_folder(archipelago: CommandLine, s3: str, tmp_path: Path) -> None:
    recipe = archipelago.recipe(TINY)
    assert archipelago("search", recipe, "--in-process").exit_code == 0
    local = archipelago.rows("candidates", "tiny")
    archipelago.address = s3
    result = archipelago("search", recipe, "--in-process")
    assert result.exit_code == 0, result.stderr
    assert f"study tiny in {s3}/tiny" in result.stdout
    assert without_timings(archipelago.rows("candidates", "tiny")) == without_timings(local)
    by_address = archipelago.rows("candidates", f"{s3}/tiny")
    assert by_address == archipelago.rows("candidates", "tiny")
    assert archipelago("resume", f"{s3}/tiny", "--in-process").exit_code == 0
    store = make_store(s3)
    credentials = boto3.Session().get_credentials().get_frozen_credentials()
    for secret in (credentials.access_key, credentials.secret_key):
        assert secret not in result.stdout + result.stderr
        assert not [key for key in store.list("") if secret.encode() in store.read(key)]


def test_what_is_wrong_with_a_bucket_is_one_sentence(archipelago: CommandLine, s3: str) -> None:
    archipelago.address = "s3://no-such-bucket/studies"
    result = archipelago("search", archipelago.recipe(TOY), "--in-process")
    assert result.exit_code == 2
    assert "there is no bucket no-such-bucket at http" in result.stderr
    archipelago.address = s3
    result = archipelago("resume", "toy", "--in-process")
    assert result.exit_code == 2
    assert f"there is no study toy in the store {s3}: it holds none" in result.stderr
    archipelago.address = "gs://bucket"
    result = archipelago("status", "toy")
    assert result.exit_code == 2
    assert "give a folder, or s3://bucket/prefix" in result.stderr
