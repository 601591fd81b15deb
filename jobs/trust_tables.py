"""What the evidence says: correlations, found networks against random and distorted ones, noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from jobs.tables import quantity
from orchestrator.report.sheet import Sheet
from orchestrator.trust import (
    SEARCH,
    Correlation,
    Evidence,
    Network,
    better_share,
    correlation,
    deviation,
    mean,
    seed_deviation,
)

EVERYWHERE = "all islands"
AGAIN = "one training from scratch"
"""In the place of a score: the first training of a network that has several."""
COMPARED = ("sampled", "random")
"""Groups over which scores are correlated: networks that were drawn without looking at a score."""


def summary(evidence: Evidence) -> dict[str, Any]:
    """All figures, for programs."""
    return {
        "study": evidence.study,
        "retraining": dict(evidence.retraining),
        "left": evidence.left,
        "correlation": {name: _asdicts(found) for name, found in correlations(evidence.networks, "scratch").items()},
        "correlation_test": {
            name: _asdicts(found) for name, found in correlations(evidence.networks, "scratch_test").items()
        },
        "searched": searched_rows(evidence.networks),
        "distorted": distorted_rows(evidence.networks),
        "noise": noise(evidence),
        "networks": [asdict(one) for one in evidence.networks],
    }


def _asdicts(found: dict[str, Correlation | None]) -> dict[str, Any]:
    return {island: one and asdict(one) for island, one in found.items()}


def correlations(networks: Sequence[Network], truth: str) -> dict[str, dict[str, Correlation | None]]:
    """By the name of the shared score, then by island: its correlation with the mean score from scratch.

    Where networks were trained from several seeds, `AGAIN` is how far a first training agrees with the others: no score
    can be expected to agree more.

    truth: the field of `Network` with the scores from scratch.
    """
    drawn = [one for one in networks if one.group in COMPARED and getattr(one, truth)]
    islands = dict.fromkeys(one.island for one in networks)
    names = dict.fromkeys(name for one in networks for name in one.shared)
    found = {
        name: [(one.island, one.shared[name], float(np.mean(getattr(one, truth)))) for one in drawn] for name in names
    }
    several = [(one.island, getattr(one, truth)) for one in drawn if len(getattr(one, truth)) > 1]
    if several:
        found[AGAIN] = [(island, scores[0], float(np.mean(scores[1:]))) for island, scores in several]
    return {
        name: {place: _correlation(pairs, place) for place in (*islands, EVERYWHERE)} for name, pairs in found.items()
    }


def _correlation(pairs: Sequence[tuple[str, float, float]], place: str) -> Correlation | None:
    """Of those (island, score, score from scratch) that belong to the place."""
    mine = [(score, scratch) for island, score, scratch in pairs if place in (island, EVERYWHERE)]
    return correlation([score for score, _ in mine], [scratch for _, scratch in mine])


def searched_rows(networks: Sequence[Network]) -> list[dict[str, Any]]:
    """An island a row: the best network that was found against random ones with as many multiply-adds."""
    rows = []
    for found in (one for one in networks if one.group == "searched"):
        random = [one for one in networks if (one.group, one.island) == ("random", found.island) and one.scratch]
        theirs = [float(np.mean(one.scratch)) for one in random]
        rows.append(
            {
                "island": found.island,
                "candidate": found.name,
                "macs": found.macs,
                "miou_shared": found.shared[SEARCH],
                "miou": mean(found.scratch),
                "miou_deviation": deviation(found.scratch),
                "test_miou": mean(found.scratch_test),
                "random": len(random),
                "random_miou_shared": mean([one.shared[SEARCH] for one in random]),
                "random_miou": mean(theirs),
                "random_miou_deviation": deviation(theirs),
                "random_test_miou": mean([float(np.mean(one.scratch_test)) for one in random if one.scratch_test]),
                "share_of_random_that_is_worse": better_share([float(np.mean(found.scratch))], theirs)
                if found.scratch
                else None,
            }
        )
    return rows


def distorted_rows(networks: Sequence[Network]) -> list[dict[str, Any]]:
    """A found network, then each of its distortions; so for each island that has any."""
    islands = dict.fromkeys(one.island for one in networks if one.group == "distorted")
    groups = [(island, group) for island in islands for group in ("searched", "distorted")]
    return [
        {
            "network": one.name,
            "macs": one.macs,
            "miou_shared": one.shared[SEARCH],
            "miou": mean(one.scratch),
            "test_miou": mean(one.scratch_test),
        }
        for island, group in groups
        for one in networks
        if (one.island, one.group) == (island, group)
    ]


def noise(evidence: Evidence) -> dict[str, float | None]:
    """How far scores scatter where nothing but chance differs, in mIoU, and how far networks differ."""
    first = {one.architecture_id: one.shared[SEARCH] for one in evidence.networks}
    scatter = [np.std([first[name], *others], ddof=1) for name, others in evidence.noise.items()]
    drawn = [one for one in evidence.networks if one.group in COMPARED]
    return {
        "recalibration_deviation": mean([float(one) for one in scatter]),
        "shared_deviation": deviation([one.shared[SEARCH] for one in drawn]),
        "seed_deviation": seed_deviation(evidence.networks),
        "scratch_deviation": deviation([float(np.mean(one.scratch)) for one in drawn if one.scratch]),
    }


def sheets(evidence: Evidence) -> list[Sheet]:
    """What a person reads."""
    return [
        _correlations("Rank correlation of mIoU with shared weights and from scratch",
                      correlations(evidence.networks, "scratch")),
        _correlations("The same, networks from scratch scored on the test split",
                      correlations(evidence.networks, "scratch_test")),
        _searched(searched_rows(evidence.networks)),
        _distorted(distorted_rows(evidence.networks)),
        _noise(noise(evidence)),
    ]  # fmt: skip


def _correlations(title: str, found: dict[str, dict[str, Correlation | None]]) -> Sheet:
    header = ("scored", "island", "n", "Kendall", "5 % to 95 %", "Pearson")
    rows = [(name, place, *_words(one)) for name, places in found.items() for place, one in places.items()]
    shown = [(name if place == 0 else "", *rest) for place, (name, *rest) in _numbered(rows)]
    return Sheet(title, header, shown, words=2)


def _numbered(rows: Sequence[tuple[str, ...]]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Each row with its place among those that begin as it does."""
    for _, group in groupby(rows, key=itemgetter(0)):
        yield from enumerate(group)


def _words(one: Correlation | None) -> tuple[str, str, str, str]:
    if one is None:
        return "–", "–", "–", "–"
    interval = f"{one.kendall_low:.2f} to {one.kendall_high:.2f}"
    return str(one.n), f"{one.kendall:.2f}", interval, f"{one.pearson:.2f}"


def _searched(rows: Sequence[dict[str, Any]]) -> Sheet:
    """Two rows an island: the found one, and what the random ones are in the mean."""
    cells = []
    for row in rows:
        macs = quantity("macs", row["macs"])
        for name, n, of in ((row["candidate"], "1", ""), ("random of its size", str(row["random"]), "random_")):
            shared, test = (quantity("miou", row[f"{of}{metric}"]) for metric in ("miou_shared", "test_miou"))
            cells.append((name, n, macs, shared, _spread(row[f"{of}miou"], row[f"{of}miou_deviation"]), test))
    header = ("network", "n", "MACs", "shared weights", "from scratch", "test")
    return Sheet("Found networks against random ones of their size, mIoU", header, cells)


def _distorted(rows: Sequence[dict[str, Any]]) -> Sheet:
    metrics = ("miou_shared", "miou", "test_miou")
    cells = [
        (row["network"], quantity("macs", row["macs"]), *(quantity("miou", row[name]) for name in metrics))
        for row in rows
    ]
    header = ("network", "MACs", "shared weights", "from scratch", "test")
    return Sheet("A found network and its distortions, mIoU", header, cells)


def _spread(value: float | None, spread: float | None) -> str:
    return quantity("miou", value) + ("" if spread is None else f" ± {spread:.4f}")


def _noise(found: dict[str, float | None]) -> Sheet:
    rows = {
        "shared weights, between recalibration subsets": "recalibration_deviation",
        "shared weights, between random networks": "shared_deviation",
        "from scratch, between seeds": "seed_deviation",
        "from scratch, between random networks": "scratch_deviation",
    }
    cells = [(words, quantity("miou", found[name])) for words, name in rows.items()]
    return Sheet("Noise, and what there is to find", ("mIoU", "standard deviation"), cells)
