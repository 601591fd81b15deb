"""The Ray that a study runs on: one that this process starts and ends with it, or one that is there already."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Mapping
from typing import Any

import ray
from ray._private.state import state as cluster_state

NAMESPACE = "archipelago"
STORE_SLACK_BYTES = 128 * 2**20
"""Room in the object store for everything but the weights; Ray itself wants 75 MiB at least."""

ADVICE = "start one with `ray start --head`, or leave out --address to run on this machine"
KNOCK_S = 10.0
HTTP2_SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""An empty SETTINGS frame, as both sides of an HTTP/2 connection send first; its fourth byte is the frame's type."""
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HTTP2_SETTINGS


def connect(address: str | None, cpus: int, weights_bytes: int) -> bool:
    """Whether this call started a Ray of its own, which is then this process's to shut down.

    Without an address a Ray with `cpus` CPUs is started on this machine, whatever `RAY_ADDRESS` says. Call it from
    the main thread: the kernel ends Ray's processes together with the thread that started them, which is how
    nothing stays behind when this process is killed.

    Raises:
        ConnectionError: nothing of use answers at `address`, or it wants a token that it was not given.
    """
    if ray.is_initialized():
        return False
    if address is not None:
        _knock(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": logging.ERROR}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            memory = STORE_SLACK_BYTES + 2 * weights_bytes
            ray.init("local", num_cpus=cpus, include_dashboard=False, object_store_memory=memory, **quiet)
            return True
        ray.init(address, **quiet)
        return False
    except ConnectionError as error:
        if "InvalidAuthToken" in str(error.__cause__):
            advice = "set RAY_AUTH_MODE=token, with its token in ~/.ray/auth_token or RAY_AUTH_TOKEN"
            raise ConnectionError(f"the Ray at {address} wants a token; {advice}") from None
        raise ConnectionError(f"no Ray answers at {address}; {ADVICE}") from error
    except (ValueError, RuntimeError) as error:  # an address that is none, a cluster of another version
        if address is None:
            raise
        words = " ".join(str(error).split())[:300]
        raise ConnectionError(f"the Ray at {address} cannot be used: {words}; {ADVICE}") from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # ray.init puts its own in place; signals are the caller's


def usable_nodes() -> dict[str, Mapping[str, float]]:
    """What each node that may be given work holds in all, by the node's id: those that drain are left out.

    Ray's public state API does not tell who drains; what its own Serve asks does.
    """
    nodes = cluster_state.node_table()  # type: ignore[no-untyped-call]
    draining = cluster_state.get_draining_nodes()
    return {node["NodeID"]: node["Resources"] for node in nodes if node["Alive"] and node["NodeID"] not in draining}


def _knock(address: str) -> None:
    """Raises ConnectionError if no gRPC server answers at host:port: Ray itself would try for minutes, unstoppably."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return  # a word such as auto
    try:
        with socket.create_connection((host.strip("[]"), int(port)), KNOCK_S) as connection:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return
            connection.sendall(HTTP2_PREFACE)
            answer = connection.recv(len(HTTP2_SETTINGS))
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"no Ray answers at {address}: {error}; {ADVICE}") from None
    if answer[3:4] != HTTP2_SETTINGS[3:4]:
        raise ConnectionError(f"what answers at {address} is no Ray; {ADVICE}")
