"""Fixtures that tests of all packages share."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.remote.webdriver import WebDriver

from infra.seaweedfs import S3Server, seaweedfs

REPOSITORY = Path(__file__).parents[1]

settings.register_profile("untimed", deadline=None)  # how long an example takes says more of the machine than of us
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home folder of the tests' own: no test reads or writes the user's settings, caches or clusters."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "ARCHIPELAGO_CACHE"):
            patch.delenv(name, raising=False)
        yield folder


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """The S3 server of the session, or the one at `ARCHIPELAGO_TEST_S3_ENDPOINT`, with boto3's own credentials."""
    if endpoint := os.environ.get("ARCHIPELAGO_TEST_S3_ENDPOINT"):
        bucket = os.environ.get("ARCHIPELAGO_TEST_S3_BUCKET", "archipelago-tests")
        yield S3Server(endpoint, bucket, {"AWS_ENDPOINT_URL_S3": endpoint})
        return
    with seaweedfs() as server:
        yield server


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty store, which boto3 finds its way to by the environment."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_server.bucket}/{secrets.token_hex(6)}/studies"


@pytest.fixture(scope="session")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment for programs of others: nothing of the user's is read or written, nothing is reported.

    Its paths are short enough for Ray's sockets.
    """
    short = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    variables = {
        "HOME": str(tmp_path_factory.mktemp("home")),
        "RAY_TMPDIR": str(short),
        "RAY_USAGE_STATS_ENABLED": "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    yield {**os.environ, **variables}
    shutil.rmtree(short, ignore_errors=True)


@pytest.fixture(scope="module")
def chromium() -> Iterator[WebDriver]:
    """A Chromium without a screen, 1400 x 900 pixels, that can reach nothing but files."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no chromium and chromedriver here: apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    arguments = ("--headless=new", "--no-sandbox", "--hide-scrollbars", "--enable-unsafe-swiftshader")
    for argument in (*arguments, "--window-size=1400,900", "--proxy-server=127.0.0.1:9"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets: `ARCHIPELAGO_DATA`, else ../shared/data next to the repository."""
    folder = Path(os.environ.get("ARCHIPELAGO_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set ARCHIPELAGO_DATA to run this test")
    return folder


@pytest.fixture(scope="session")
def camvid_root(shared_data: Path) -> Path:
    """CamVid at 240 x 180."""
    root = shared_data / "camvid" / "small"
    if not root.is_dir():
        pytest.skip(f"no CamVid at {root}")
    return root
