"""Confusion matrices of many networks on the same images, without upsampling what is clear.

Where one class has the highest logit at all four corners of a cell (the pixels between four neighbouring logits), it
has the highest one everywhere between them: bilinear interpolation mixes corners with weights that sum to one. There,
the labels' histogram of the cell is all that counts. Only the other cells, a fifth of them or so, are upsampled, and in
each of them only the classes that can win. The counts are those of `confusion(predict(logits), labels)`, to the pixel:
the arithmetic is the same, and a cell is clear only by more than its rounding errors.

    b images, C classes, h x w logits, H x W labels
    (h + 1) x (w + 1) cells an image, those at the border between doubled corners; r x c pixels in the largest cell
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, reduce

import torch
from torch import Tensor

from search_spaces.data.segmentation import IGNORE
from search_spaces.tasks.segmentation import confusion, neighbours, predict

CLEAR = 2.0**-17
"""By how much of the largest logit the highest class must lead at a corner; interpolation errs by less than 2^-19."""

UNCLEAR = 4096
"""Cells that are upsampled at a time: what they take stays in a core's cache."""


class PixelCounter:
    """Counts predictions against the same labels again and again.

    labels: uint8 (b, H, W), below `n_classes` or `ignore_index`.
    """

    def __init__(self, labels: Tensor, n_classes: int, ignore_index: int = IGNORE) -> None:
        self.labels, self.n_classes, self.ignore_index = labels, n_classes, ignore_index
        self._cells: dict[tuple[int, int], Cells] = {}

    def count(self, logits: Tensor) -> Tensor:
        """int64 (C, C): how many pixels of each label (row) are predicted as each class (column).

        logits: float (b, C, h, w), finite, of any size; on a CPU it takes a fifth of the time of upsampling all where
        H >= 2 h and W >= 2 w.
        """
        size = (logits.shape[2], logits.shape[3])
        coarse = all(2 * low <= full for low, full in zip(size, self.labels.shape[1:], strict=True))
        if not coarse or self.n_classes == 1 or logits.device.type != "cpu":
            full = (self.labels.shape[1], self.labels.shape[2])
            return confusion(predict(logits, full), self.labels, self.n_classes, self.ignore_index)
        if size not in self._cells:
            self._cells[size] = Cells(self.labels, size, self.n_classes, self.ignore_index)
        return self._cells[size].count(logits.float())


@dataclass(frozen=True)
class Axis:
    """One axis of the labels in cells of logits."""

    full: int
    low: int

    @property
    def cells(self) -> int:
        return self.low + 1

    @cached_property
    def cell(self) -> Tensor:
        """int64 (full,): the cell of each pixel."""
        return neighbours(self.full, self.low)[0] + 1

    @cached_property
    def place(self) -> Tensor:
        """int64 (full,): the place of each pixel in its cell."""
        counts = torch.bincount(self.cell, minlength=self.cells)
        return torch.arange(self.full) - (counts.cumsum(0) - counts)[self.cell]

    @cached_property
    def weights(self) -> Tensor:
        """float (pixels in the largest cell, cells): the weight of a pixel's second corner; 0 beyond a cell's end."""
        weights = torch.zeros(int(self.place.max()) + 1, self.cells)
        weights[self.place, self.cell] = neighbours(self.full, self.low)[1]
        return weights

    @property
    def corners(self) -> Tensor:
        """int64 (2, cells): the logits at both ends of each cell."""
        return torch.arange(self.cells).sub(torch.tensor([[1], [0]])).clamp(0, self.low - 1)


class Cells:
    """The labels of some images, cut into the cells of logits of one size."""

    def __init__(self, labels: Tensor, size: tuple[int, int], n_classes: int, ignore_index: int) -> None:
        down, across = Axis(labels.shape[1], size[0]), Axis(labels.shape[2], size[1])
        (r, rows), (c, columns) = down.weights.shape, across.weights.shape
        patches = torch.full((len(labels), rows, columns, r, c), n_classes, dtype=torch.uint8)
        known = torch.where(labels == ignore_index, n_classes, labels)
        patches[:, down.cell[:, None], across.cell, down.place[:, None], across.place] = known
        self.n_classes, self.cells = n_classes, rows * columns
        self.patches = patches.view(-1, r * c)
        """uint8 (b * cells, r * c): labels; C where there is none."""
        counts = torch.stack([(self.patches == k).sum(1) for k in range(n_classes)])
        self.histograms = counts.to(torch.uint8 if r * c < 256 else torch.int32)
        """(C, b * cells): how many pixels of a cell have each label."""
        ends = (down.corners[:, None, :, None] * size[1] + across.corners[None, :, None]).view(4, self.cells)
        self.corners = ends
        """int64 (4, cells): positions of a cell's corners in its image's logits: upper left and right, lower ones."""
        self.down = down.weights.repeat_interleave(columns, 1)
        self.across = across.weights.repeat(1, rows)

    def count(self, logits: Tensor) -> Tensor:
        """As `PixelCounter.count`, for float32 logits of this size on a CPU."""
        b, n_classes, h, w = logits.shape
        pixels = logits.permute(0, 2, 3, 1).reshape(-1, n_classes).contiguous()
        highest, classes = pixels.topk(2, 1)
        margin = CLEAR * pixels.abs().max()
        clear = torch.where(highest[:, 0] - highest[:, 1] > margin, classes[:, 0], -1)
        ends = clear.view(b, h * w)[:, self.corners]
        same = (ends[:, :1] == ends[:, 1:]).all(1)
        winner = torch.where(same, ends[:, 0], -1).flatten()
        counts = self._count_clear(winner)
        for unclear in torch.split((winner < 0).nonzero()[:, 0], UNCLEAR):
            if len(unclear):
                counts += self._count_unclear(pixels, unclear, h * w, margin)
        return counts

    def _count_clear(self, winner: Tensor) -> Tensor:
        """winner: int64 (b * cells,), the class of a whole cell, or -1."""
        one_hot = (winner == torch.arange(self.n_classes)[:, None]).double()  # exact: counts stay below 2^53
        return (self.histograms.double() @ one_hot.T).long()

    def _count_unclear(self, pixels: Tensor, unclear: Tensor, image: int, margin: Tensor) -> Tensor:
        """pixels: (b * h * w, C) logits, `image` of them each; unclear: (n,) cells.

        A class can win in a cell if it is at one corner not lower than some class is at all. Cells with many such
        classes come first, so that each round, which tries one more class, is over a leading part of them.
        """
        number, cell = unclear // self.cells, unclear % self.cells
        corners = self.corners[:, cell] + number * image
        ends = [pixels.index_select(0, corner) for corner in corners]
        lowest, highest = reduce(torch.minimum, ends), reduce(torch.maximum, ends)
        able = highest >= lowest.amax(1, keepdim=True) - margin
        rivals, order = able.sum(1).sort(descending=True)
        corners, cell, unclear = corners[:, order] * self.n_classes, cell[order], unclear[order]
        classes = able[order].nonzero()[:, 1]
        first = rivals.cumsum(0) - rivals
        down, across = self.down[:, None, cell], self.across[:, cell]
        best = torch.empty(0)
        prediction = torch.empty((len(self.down), len(across), len(cell)), dtype=torch.uint8)
        for rank in range(int(rivals[0])):
            n = int((rivals > rank).sum())
            rival = classes[first[:n] + rank]
            upper, upper_right, lower, lower_right = pixels.view(-1)[corners[:, :n] + rival]
            upper = (upper_right - upper).mul(across[:, :n]).add_(upper)
            lower = (lower_right - lower).mul(across[:, :n]).add_(lower)
            value = lower.sub_(upper).mul(down[:, :, :n]).add_(upper)
            if rank == 0:
                best, prediction[:] = value, rival.to(torch.uint8)
                continue
            won = (value > best[:, :, :n]).view(torch.uint8).mul_(rival.to(torch.uint8))  # of ever higher index
            torch.maximum(prediction[:, :, :n], won, out=prediction[:, :, :n])
            torch.maximum(best[:, :, :n], value, out=best[:, :, :n])
        row = self.patches[unclear].int().mul_(self.n_classes)
        row += prediction.view(-1, len(cell)).T
        n_rows = self.n_classes + 1
        return torch.bincount(row.flatten(), minlength=n_rows * self.n_classes).view(n_rows, -1)[: self.n_classes]
