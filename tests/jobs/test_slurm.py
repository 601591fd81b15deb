"""infra/slurm/study.sbatch, run as Slurm runs it on one node: with Ray's own symmetric-run, and a signal at the limit.

It runs where processes are numbered apart, for `ray stop` at its end stops whatever it sees.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.infra.launch_files import SLURM
from tests.jobs.conftest import TOY, CommandLine

APART = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
SRUN = '#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n'
SCONTROL = '#!/bin/bash\n[ "$1" = show ] && echo 127.0.0.1 || echo "$@" > "$SLURM_CALLS"\n'


@pytest.fixture
def slurm(tmp_path: Path, outside: dict[str, str]) -> Mapping[str, str]:
    """The environment of a job on one node, in which srun and scontrol do what they do there."""
    if subprocess.run([*APART, "true"], capture_output=True).returncode:
        pytest.skip("processes cannot be numbered apart here")
    for name, script in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    job = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NODELIST": "node", "SLURM_JOB_NUM_NODES": "1", "SLURM_CPUS_PER_TASK": "2"}
    own = {"ARCHIPELAGO_RUNS": str(tmp_path), "SLURM_CALLS": str(tmp_path / "calls"), "PYTHONPATH": str(REPOSITORY)}
    return {**outside, **job, **own, "PATH": path}


def start(recipe: str, store: Path, environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with open(log, "ab") as output:
        command = [*APART, "bash", str(SLURM / "study.sbatch"), recipe, str(store)]
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)


def signal_script(program: subprocess.Popen[bytes]) -> None:
    """What --signal=B:TERM does: the script alone gets it, which is the child of `unshare`."""
    (script,) = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
    os.kill(int(script), signal.SIGTERM)


@pytest.mark.slow
def test_a_job_that_reaches_its_limit_is_queued_again_and_goes_on(
    archipelago: CommandLine, slurm: Mapping[str, str], tmp_path: Path
) -> None:
    log, calls, head = tmp_path / "log", tmp_path / "calls", archipelago.store / "toy" / "HEAD"
    recipe = archipelago.recipe(TOY, space={"name": "toy", "delay_s": 0.5}, workers={"count": "auto", "memo": False})
    program = start(recipe, archipelago.store, slurm, log)
    deadline_s = time.monotonic() + 200
    while not head.is_file() or not json.loads(head.read_text())["islands"]["reef"]["events"]:
        assert program.poll() is None, log.read_text()
        assert time.monotonic() < deadline_s, log.read_text()
        time.sleep(0.2)
    signal_script(program)
    assert program.wait(timeout=120) == 0, log.read_text()
    assert calls.read_text() == "requeue 4711\n"
    assert 0 < sum(row["done"] for row in archipelago.rows("status", "toy")) < 36
    calls.unlink()
    quick = {**slurm, "PATH": slurm["PATH"]}
    assert start(recipe, archipelago.store, quick, log).wait(timeout=250) == 0, log.read_text()
    assert sum(row["done"] for row in archipelago.rows("status", "toy")) == 36
    assert not calls.exists()
    assert "archipelago report toy" in log.read_text()
