"""The MLflow UI over a study's SQLite file."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def sqlite_uri(file: Path) -> str:
    """The tracking URI of a SQLite file."""
    return f"sqlite:///{file.absolute()}"


def ui_command(uri: str, port: int = 5000) -> list[str]:
    """The command that serves the UI over `uri` to this machine alone, at http://127.0.0.1:<port>."""
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    return [*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]


def ui_environment() -> dict[str, str]:
    """The environment for `ui_command`: nothing is reported to anyone, and no job runners start beside the UI."""
    return {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
