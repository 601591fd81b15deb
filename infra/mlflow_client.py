"""MLflow's client, imported with our settings: nothing is reported to anyone, nothing printed, nothing tried twice.

All of `infra` takes it from here, because some of the settings are read when mlflow is imported.
"""

from __future__ import annotations

import logging
import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # a repeated request could make a second run
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run
from mlflow.exceptions import MlflowException

for noisy in ("mlflow", "alembic", "urllib3.connectionpool"):
    logging.getLogger(noisy).setLevel(logging.CRITICAL)  # what matters comes as an exception

__all__ = ["Metric", "MlflowClient", "MlflowException", "Param", "Run"]
