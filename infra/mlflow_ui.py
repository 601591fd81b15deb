"""The MLflow UI over a study's SQLite file."""

from __future__ import annotations

import sys
from pathlib import Path


def sqlite_uri(file: Path) -> str:
    """The tracking URI of a SQLite file."""
    return f"sqlite:///{file.absolute()}"


def ui_command(uri: str, port: int = 5000) -> list[str]:
    """The command that serves the UI over `uri` to this machine alone, at http://127.0.0.1:<port>."""
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    return [*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
