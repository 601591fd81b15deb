"""Whether exported networks are what the study scored: random candidates as ONNX files, evaluated from outside.

The evaluation is written as someone would who knows the file alone: pixels in, logits out, arg-max, a confusion matrix
in NumPy. mIoU is compared with the journal's, logits with the module's over every scored image, latency of the coarse
logits under ONNX Runtime with what the search recorded of the same computation under torch.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import torch
import typer
from rich.console import Console
from scipy.stats import kendalltau

from infra.onnx_file import Run, load_onnx, write_onnx
from infra.stores import STUDIES
from jobs.export import difference_of, folded
from jobs.networks import CandidateNetwork, StudyNetworks
from jobs.selection import name_of, named
from jobs.study import Study
from jobs.tables import simple_table
from orchestrator.evaluation.evaluator import validation_subset
from orchestrator.records import Measurement
from search_spaces.data.segmentation import IGNORE

LATENCY_RUNS = 30


def export(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study whose candidates are exported.")],
    store: Annotated[str, typer.Option(metavar="STORE")] = STUDIES,
    candidates: Annotated[int, typer.Option(help="Random candidates, taken from each island in turn.")] = 10,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="data.root=FOLDER")] = None,
    seed: Annotated[int, typer.Option(help="Which candidates.")] = 0,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """mIoU, logits and latency of candidates exported to ONNX against what the study recorded."""
    console = Console(stderr=as_json)
    networks = StudyNetworks(Study.at(study, store), overrides or [])
    torch.set_num_threads(networks.recipe.workers.threads)
    rows = []
    for name in drawn(networks, candidates, np.random.default_rng(seed)):
        rows.append(_measured(networks, name))
        console.print(f"{name}: mIoU {rows[-1]['miou_onnx']:.4f}, recorded {rows[-1]['miou']:.4f}")
    result = _summary(rows)
    if as_json:
        print(json.dumps(result))
    else:
        _show(result, console)


def drawn(networks: StudyNetworks, count: int, rng: np.random.Generator) -> list[str]:
    """The names of measured candidates, drawn without repetition from each island in turn."""
    piles = []
    for events in networks.report.events.values():
        names = [name_of(event) for event in events if isinstance(event.result, Measurement)]
        piles.append([names[index] for index in rng.permutation(len(names))])
    deepest = max(len(pile) for pile in piles)
    return [pile[depth] for depth in range(deepest) for pile in piles if depth < len(pile)][:count]


def _measured(networks: StudyNetworks, name: str) -> dict[str, Any]:
    event = named(networks.report, name)
    assert isinstance(event.result, Measurement)
    recorded = event.result.metrics
    made = networks.network(name)
    threads = networks.recipe.workers.threads
    with tempfile.TemporaryDirectory(prefix="archipelago-") as folder:
        file = Path(folder) / "network.onnx"
        began = time.monotonic()
        write_onnx(folded(made.network), made.description, file)
        took_s = time.monotonic() - began
        run, metadata = load_onnx(file, threads)
        size_bytes, coarse = file.stat().st_size, load_onnx(_coarse(file), threads)[0]
    miou, difference = _outside(made, run, len(json.loads(metadata["class_names"])))
    image = made.data.validation.images[:1].numpy()
    return {
        "candidate": name,
        "miou": recorded["miou"],
        "miou_onnx": miou,
        "largest_logit_difference": difference,
        "latency_ms": recorded.get("latency_ms"),
        "latency_onnx_ms": _latency_ms(coarse, image),
        "latency_onnx_full_ms": _latency_ms(run, image),
        "export_s": took_s,
        "file_bytes": size_bytes,
    }


def _outside(made: CandidateNetwork, run: Run, classes: int) -> tuple[float, float]:
    """mIoU over the scored images by NumPy alone, and the largest difference of logits from the module's."""
    split, protocol = made.data.validation, made.description.evaluation
    matrix, difference = np.zeros((classes, classes), np.int64), 0.0
    for part in torch.split(validation_subset(split, protocol), protocol.batch_size):
        images, labels = split.images[part], split.labels[part].numpy()
        logits = run(images.numpy())
        difference = max(difference, difference_of(made.network, torch.from_numpy(logits), images))
        known = labels != IGNORE
        np.add.at(matrix, (labels[known], logits.argmax(1)[known]), 1)
    hit = matrix.diagonal()
    union = matrix.sum(0) + matrix.sum(1) - hit
    return float(np.mean(hit[union > 0] / union[union > 0])), difference


def _coarse(file: Path) -> bytes:
    """The model without the last resampling: what the search times."""
    model = onnx.load(file)
    last = next(node for node in model.graph.node if model.graph.output[0].name in node.output)
    assert last.op_type == "Resize", last.op_type
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(last.input[0], onnx.TensorProto.FLOAT, None))
    serialised: bytes = model.SerializeToString()
    return serialised


def _latency_ms(run: Run, image: np.ndarray) -> float:
    """The median of runs over one image, after as many again to warm up."""
    times_s = []
    for _ in range(2 * LATENCY_RUNS):
        began = time.perf_counter()
        run(image)
        times_s.append(time.perf_counter() - began)
    return float(np.median(times_s[LATENCY_RUNS:]) * 1e3)


def _summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    timed = [(row["latency_ms"], row["latency_onnx_ms"]) for row in rows if row["latency_ms"] is not None]
    return {
        "candidates": len(rows),
        "largest_miou_difference": max(abs(row["miou"] - row["miou_onnx"]) for row in rows),
        "largest_logit_difference": max(row["largest_logit_difference"] for row in rows),
        "latency_ratio": float(np.median([ours / theirs for theirs, ours in timed])) if timed else None,
        "latency_kendall_tau": float(kendalltau(*zip(*timed, strict=True)).statistic) if len(timed) > 2 else None,
        "rows": list(rows),
    }


def _show(result: dict[str, Any], console: Console) -> None:
    names = ("mIoU", "of ONNX", "logits differ by", "latency ms", "of ONNX", "with full size")
    table = simple_table(f"{result['candidates']} candidates as ONNX", ("candidate",), names)
    for row in result["rows"]:
        recorded = "–" if row["latency_ms"] is None else f"{row['latency_ms']:.2f}"
        scores = (f"{row['miou']:.5f}", f"{row['miou_onnx']:.5f}", f"{row['largest_logit_difference']:.1e}")
        times = (recorded, f"{row['latency_onnx_ms']:.2f}", f"{row['latency_onnx_full_ms']:.2f}")
        table.add_row(row["candidate"], *scores, *times)
    console.print(table)
    console.print(
        f"largest difference of mIoU {result['largest_miou_difference']:.1e}, of logits "
        f"{result['largest_logit_difference']:.1e}"
    )
    if result["latency_ratio"] is not None:
        tau = result["latency_kendall_tau"]
        order = "" if tau is None else f", Kendall's tau of both orders {tau:.2f}"
        console.print(f"latency under ONNX Runtime over the recorded one, median: {result['latency_ratio']:.2f}{order}")
