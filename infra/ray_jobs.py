"""Ray Jobs: a study's driver runs in a cluster, and this machine follows what it prints.

A job bears its study's name; when that one has ended the next one is NAME@2, then NAME@3, for Ray takes an id but once.
So two people who submit the same study at the same time ask for the same id, and the cluster refuses the second: a
guard in front of the study's lease.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from infra.retry import retry

STUDY = "archipelago-study"
"""Under this name a job's metadata has its study."""
OVERRULING = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
"""What Ray's client would take for the address, whatever it is told."""
CHATTY = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")
AGENT_PATIENCE_S = 60.0
"""How long a head may take to start what starts jobs."""
ENDED_WAIT_S, ENDED_LOOK_S = 30.0, 0.5
"""After the last line of its log a job is told to have ended within this time."""


class JobRefused(ValueError):
    """A study cannot be submitted: it runs already."""


class Cluster:
    """The Ray cluster whose dashboard is at an address, such as http://127.0.0.1:8265.

    Raises:
        ValueError: that is no such address.
        ConnectionError: no dashboard answers there, or it wants a token that it was not given.
    """

    def __init__(self, address: str) -> None:
        if not address.startswith(("http://", "https://")):
            raise ValueError(f"--address {address} is not a dashboard: write it as http://HOST:8265")
        self.address = address.rstrip("/")
        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.ERROR)
        with self._sentences(), _without(OVERRULING):
            self._client = JobSubmissionClient(self.address)

    def submit(self, study: str, recipe: str, arguments: Sequence[str]) -> str:
        """The id of a new job that runs `archipelago search - --resume`, with `arguments` behind.

        recipe: its text, which the job reads from its standard input: a file would need a working directory that Ray
        brings to all nodes, and takes away again.

        Raises:
            JobRefused: a job of this study has not ended.
            ConnectionError: the cluster does not answer.
        """
        with self._sentences():
            return retry(lambda: self._submit(study, recipe, arguments), _is_starting, AGENT_PATIENCE_S)

    def follow(self, job: str, write: Callable[[str], object]) -> int:
        """The exit code of a job, when it has ended; until then what it prints is written.

        Raises:
            ConnectionError: the cluster does not answer any more.
        """

        async def tail() -> None:
            async for text in self._client.tail_job_logs(job):
                write(text)

        with self._sentences():
            asyncio.run(tail())
            deadline_s = time.monotonic() + ENDED_WAIT_S
            while not (details := self._client.get_job_info(job)).status.is_terminal():
                if time.monotonic() > deadline_s:
                    raise ConnectionError(f"the Ray at {self.address} ended the log of job {job}, which still runs")
                time.sleep(ENDED_LOOK_S)
        if details.driver_exit_code is None and details.status is not JobStatus.SUCCEEDED:
            write(f"{details.message}\n")
        return _exit_code(details)

    def _submit(self, study: str, recipe: str, arguments: Sequence[str]) -> str:
        before = self._jobs(study)
        self._refuse_second(study, before)
        command = shlex.join(["archipelago", "search", "-", "--resume", *arguments])
        try:
            job = self._client.submit_job(
                entrypoint=f"printf %s {shlex.quote(recipe)} | {command}",
                submission_id=study if not before else f"{study}@{len(before) + 1}",
                metadata={STUDY: study},
            )
        except RuntimeError:
            self._refuse_second(study, self._jobs(study))  # somebody else was faster
            raise
        return str(job)

    def _jobs(self, study: str) -> list[JobDetails]:
        return [job for job in self._client.list_jobs() if (job.metadata or {}).get(STUDY) == study]

    def _refuse_second(self, study: str, jobs: Sequence[JobDetails]) -> None:
        for job in jobs:
            if not job.status.is_terminal():
                raise JobRefused(
                    f"study {study} runs already, as job {job.submission_id} at {self.address}: follow it by "
                    f"`ray job logs --follow {job.submission_id} --address {self.address}`, or end it by `ray job stop`"
                )

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        """Turns what may go wrong between here and the cluster into one sentence."""
        try:
            yield
        except AuthenticationError:
            raise ConnectionError(
                f"the Ray at {self.address} wants a token, and not the one that it got: set RAY_AUTH_MODE=token, with "
                "its token in ~/.ray/auth_token or RAY_AUTH_TOKEN"
            ) from None
        except (requests.RequestException, aiohttp.ClientError, ConnectionError) as error:
            raise ConnectionError(
                f"no Ray dashboard answers at {self.address} ({type(error).__name__}): is the tunnel to port 8265 of "
                "the head open?"
            ) from None
        except RuntimeError as error:
            raise ConnectionError(f"the Ray at {self.address} refuses: {_words(error)}") from None


def _is_starting(error: BaseException) -> bool:
    """Whether the head is up, and what starts jobs there is not yet."""
    return isinstance(error, RuntimeError) and "No available agent" in str(error)


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _exit_code(details: Any) -> int:
    """What the job's program ended with; 1 where it had no chance to, 130 where it was stopped."""
    if details.driver_exit_code is not None:
        code = int(details.driver_exit_code)
        return code if code >= 0 else 128 - code
    return {JobStatus.SUCCEEDED: 0, JobStatus.STOPPED: 130}.get(details.status, 1)


@contextmanager
def _without(names: Sequence[str]) -> Iterator[None]:
    """An environment that lacks some variables, for as long as the block runs."""
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
