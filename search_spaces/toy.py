"""A space of about a thousand points an island whose scores are formulas and whose Pareto front is known.

It has no networks and needs no torch: it serves to try the search itself. Each island has five genes:

    depth      0..15   more is better and dearer: the only real trade-off
    width      0..3    best when it falls as depth grows: 3 - depth // 4
    kernel     0..1    best at 1 in the middle island, at 0 elsewhere
    attention  0..1    best on
    tokens     0..3    best at depth // 4; without attention it does nothing

Every step away from the best makes a candidate both worse and dearer, so the front of mIoU against any costs is
exactly the sixteen depths with all else at its best. Wide and deep genotypes exceed the memory limit; the front
does not. Genotypes that differ only in the tokens of no attention are one architecture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, cast, get_args

from pydantic import NonNegativeFloat

from search_spaces.base import Genotype, InvalidGenotype, Json, Violation
from search_spaces.checks import check_fields, check_genotype, check_island
from search_spaces.settings import Settings

if TYPE_CHECKING:
    import numpy as np

ToyIsland = Literal["shoal", "atoll", "reef"]
ISLANDS: tuple[ToyIsland, ...] = get_args(ToyIsland)

CARDINALITIES = (16, 4, 2, 2, 4)
MEMORY_LIMIT = 40
"""Most cells that an architecture may hold at once: (width + 1) * (depth + 1)."""


class ToySettings(Settings):
    """`space:` of a recipe that searches formulas instead of networks."""

    name: Literal["toy"] = "toy"
    delay_s: NonNegativeFloat = 0.0
    """Seconds that the evaluation of a candidate takes."""
    log: str | None = None
    """File to which every evaluation adds a line: island and number of its candidate. null: none."""
    raising: tuple[str, ...] = ()
    """Ids of architectures whose evaluation raises."""
    non_finite: tuple[str, ...] = ()
    """Ids of architectures whose mIoU is not a number."""


@dataclass(frozen=True)
class ToyArchitecture:
    """A point of the toy space."""

    island: ToyIsland
    depth: int
    width: int
    kernel: int
    tokens: int | None
    """Tokens of the attention; None: no attention."""

    def to_json(self) -> dict[str, Json]:
        return dict(asdict(self))

    def __str__(self) -> str:
        tokens = "no attention" if self.tokens is None else f"{self.tokens} tokens"
        return f"depth {self.depth}, width {self.width}, kernel {self.kernel}, {tokens}"

    @property
    def waste(self) -> int:
        """Steps away from the best architecture of this depth, 0 to 7."""
        best_kernel = int(self.island == "atoll")
        attention = 2 if self.tokens is None else abs(self.tokens - self.depth // 4)
        return abs(self.width - (3 - self.depth // 4)) + abs(self.kernel - best_kernel) + attention

    def metrics(self) -> dict[str, float]:
        """miou (a fraction), macs, params, latency_ms: each worse by every step of `waste`."""
        scale, effort, waste = 2 ** ISLANDS.index(self.island), self.depth + 1, self.waste
        ceiling = 0.5 + 0.1 * ISLANDS.index(self.island)
        return {
            "miou": ceiling * (1.0 - 0.6 * 0.85**self.depth) - 0.02 * waste,
            "macs": 250_000.0 * scale * (4 * effort + waste),
            "params": 1_000.0 * scale * (8 * effort + waste),
            "latency_ms": 0.5 * effort + 0.1 * waste + 0.2 * scale,
        }


class ToySpace:
    """The three islands of the toy space."""

    name = "toy"

    @property
    def islands(self) -> tuple[str, ...]:
        return ISLANDS

    def cardinalities(self, island: str) -> tuple[int, ...]:
        _checked_island(island)
        return CARDINALITIES

    def sample(self, island: str, rng: np.random.Generator) -> Genotype:
        while True:
            genotype = tuple(int(gene) for gene in rng.integers(0, self.cardinalities(island)))
            if not self.violations(self.decode(island, genotype)):
                return genotype

    def decode(self, island: str, genotype: Genotype) -> ToyArchitecture:
        name = _checked_island(island)
        check_genotype(genotype, CARDINALITIES, island)
        depth, width, kernel, attention, tokens = genotype
        return ToyArchitecture(name, depth, width, kernel, tokens if attention else None)

    def encode(self, architecture: ToyArchitecture) -> tuple[str, Genotype]:
        attention = (0, 0) if architecture.tokens is None else (1, architecture.tokens)
        return architecture.island, (architecture.depth, architecture.width, architecture.kernel, *attention)

    def violations(self, architecture: ToyArchitecture) -> tuple[Violation, ...]:
        cells = (architecture.width + 1) * (architecture.depth + 1)
        if cells <= MEMORY_LIMIT:
            return ()
        words = f"{cells} cells in memory, at most {MEMORY_LIMIT} fit: make it narrower or shallower"
        return (Violation("memory", float(cells - MEMORY_LIMIT), words),)

    def architecture_from_json(self, description: Mapping[str, Json]) -> ToyArchitecture:
        check_fields(description, ("island", "depth", "width", "kernel", "tokens"))
        tokens = description["tokens"]
        genes = [description[name] for name in ("depth", "width", "kernel")]
        genes += [0, 0] if tokens is None else [1, tokens]
        wrong = [gene for gene in genes if not isinstance(gene, int) or isinstance(gene, bool)]
        if wrong:
            raise InvalidGenotype(f"toy architecture must hold integers, got {wrong}")
        return self.decode(str(description["island"]), tuple(gene for gene in genes if isinstance(gene, int)))

    def front(self, island: str) -> tuple[ToyArchitecture, ...]:
        """The Pareto front of mIoU against any costs, from cheap to good."""
        name = _checked_island(island)
        return tuple(
            ToyArchitecture(name, depth, 3 - depth // 4, int(name == "atoll"), depth // 4)
            for depth in range(CARDINALITIES[0])
        )


def _checked_island(island: str) -> ToyIsland:
    check_island(island, ISLANDS)
    return cast(ToyIsland, island)
