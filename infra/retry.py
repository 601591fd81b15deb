"""The one way to try again: with random, exponentially growing pauses, for as long as the caller has patience.

Why not botocore's own retries: they end where a reply's headers have come, so a body that breaks off is not covered,
and neither is anything that is not S3.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 10.0
T = TypeVar("T")


def retry(call: Callable[[], T], may_pass: Callable[[BaseException], bool], patience_s: float) -> T:
    """What `call` returns at last; an error that may pass is raised when it has not passed after `patience_s`."""
    attempts = Retrying(
        retry=retry_if_exception(may_pass),
        wait=wait_random_exponential(FIRST_PAUSE_S, LONGEST_PAUSE_S),
        stop=stop_after_delay(patience_s),
        before_sleep=_say,
        reraise=True,
    )
    return attempts(call)


def _say(state: RetryCallState) -> None:
    assert state.outcome is not None
    log.info("attempt %d failed: %s; trying again", state.attempt_number, type(state.outcome.exception()).__name__)
