"""Passwords and tokens stay where they are: none is in a store, in MLflow, in a report, or in anything printed."""

from __future__ import annotations

import logging
import secrets
from pathlib import Path

import boto3
import pytest

from infra.mlflow_ui import sqlite_uri
from infra.stores import make_store
from tests.jobs.conftest import TOY, CommandLine


@pytest.fixture
def planted(s3: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Everything secret that a study's driver may hold, by the name of its variable."""
    values = {name: secrets.token_hex(16) for name in ("RAY_AUTH_TOKEN", "MLFLOW_TRACKING_PASSWORD")}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "somebody")
    credentials = boto3.Session().get_credentials().get_frozen_credentials()
    return {**values, "AWS_SECRET_ACCESS_KEY": credentials.secret_key, "AWS_ACCESS_KEY_ID": credentials.access_key}


def test_none_is_written_or_said(
    archipelago: CommandLine, s3: str, planted: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    archipelago.address = s3
    tracking = {"uri": sqlite_uri(tmp_path / "runs" / "mlflow.db")}
    (tmp_path / "runs").mkdir()
    recipe = archipelago.recipe(TOY, tracking=tracking)
    results = [archipelago("search", recipe, "--in-process"), archipelago("resume", "toy", "--in-process")]
    results += [archipelago("report", "toy", "--out", str(tmp_path / "runs" / "report.html"))]
    results += [archipelago("sync", "toy"), archipelago("candidates", "toy", "--json")]
    assert [result.exit_code for result in results] == [0] * len(results), [result.output for result in results]
    store = make_store(s3)
    written = {key: store.read(key) for key in store.list("")}
    written |= {str(path): path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    assert {"toy/manifest.json", "toy/HEAD"} < written.keys()
    assert str(tmp_path / "runs" / "mlflow.db") in written
    said = caplog.text + "".join(result.output for result in results)
    for name, value in planted.items():
        assert value not in said, name
        assert not [where for where, content in written.items() if value.encode() in content], name


def test_none_is_said_when_something_is_wrong(
    archipelago: CommandLine, s3: str, planted: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, wrong = archipelago.recipe(TOY), secrets.token_hex(16)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", wrong)
    archipelago.address = s3
    refused = archipelago("search", recipe, "--in-process")
    archipelago.address = f"s3://{planted['AWS_ACCESS_KEY_ID']}:{wrong}@bucket/studies"
    misplaced = archipelago("status", "toy")
    archipelago.address = str(archipelago.store)
    in_recipe = archipelago("search", recipe, "--in-process", "--set", f"tracking.uri=http://me:{wrong}@host")
    for result in (refused, misplaced, in_recipe):
        assert result.exit_code == 2
        for value in (*planted.values(), wrong):
            assert value not in result.output
