"""Street scenes drawn by code: a camera above a straight road, facades on both sides, things at all distances.

What makes them worth searching on: poles, signs and far people are one to three pixels wide, so resolution matters;
road and pavement have one texture, and so have trees and grass, so only the surroundings tell them apart; houses,
cars and people come in all colours, under changing light, haze and noise.

Nothing but sums, products, quotients and comparisons of floats and the bits of a PCG64 generator go into a scene, so
a seed gives the same pixels on any machine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from search_spaces.data.canvas import Canvas, Floats, both_ends, ellipse, fraction, rgb, tapered, two_legs, whole_box
from search_spaces.data.segmentation import IGNORE

CLASSES = ("sky", "building", "road", "pavement", "grass", "tree", "fence", "car", "person", "pole", "sign")
SKY, BUILDING, ROAD, PAVEMENT, GRASS, TREE, FENCE, CAR, PERSON, POLE, SIGN = range(len(CLASSES))


def draw_scene(rng: np.random.Generator, height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """An image (3, height, width) and its labels (height, width), a class of `CLASSES` or `IGNORE`."""
    scene = _Street(rng, 2 * height, 2 * width)
    scene.draw_ground()
    for side in (-1, 1):
        scene.draw_facade(side)
    scene.draw_things()
    scene.draw_bonnet()
    return scene.photograph()


class _Street(Canvas):
    """A canvas of a street: its cross-section, its vegetation's colour, and one texture that surfaces share."""

    def __init__(self, rng: np.random.Generator, height: int, width: int) -> None:
        super().__init__(rng, height, width)
        self.road = self.between(1.3, 2.2)
        """From the middle to the kerb."""
        self.pavement = self.road + self.between(0.6, 1.3)
        """From the middle to its outer edge."""
        self.camera = self.between(-1, 1) * self.pavement * 0.8
        self.green = rgb(self.between(45, 90), self.between(85, 125), self.between(35, 60))
        self.rough = self.noise(36)

    def draw_ground(self) -> None:
        depth = (self.y - self.horizon) / self.unit
        brightness = 1 - 0.25 * (depth + 1)
        self.pixels[:] = self.sky + (255 - self.sky) * np.clip(brightness, 0, 1) * 0.6
        depth = np.maximum(depth, 1e-6)
        across = (self.x - self.vanishing) / (self.unit * depth) + self.camera
        below = self.y > self.horizon
        self.paint(below, GRASS, self.hazy(self.green + self.rough, depth))
        asphalt = self.hazy(rgb(self.between(70, 130)) + self.rough * 0.4, depth)
        distance = np.abs(across)
        self.paint(below & (distance < self.pavement), PAVEMENT, asphalt)
        self.paint(below & (distance < self.road), ROAD, asphalt)
        kerb = below & (distance >= self.road) & (distance < self.road + 0.06)
        self.paint(kerb, PAVEMENT, self.hazy(rgb(185), 1.0))
        dashes = below & (distance < 0.06) & (fraction(1.5 / depth) < 0.5)
        self.paint(dashes, ROAD, rgb(205))

    def draw_facade(self, side: int) -> None:
        """Houses and fences along the pavement of a side, with gaps, each a stretch of distances."""
        edge = side * (self.pavement + max(0.0, self.between(-0.8, 1.2)))
        ends = np.cumsum([self.between(0.4, 3.5) for _ in range(12)])
        kinds = np.array([(BUILDING, BUILDING, BUILDING, FENCE, FENCE, SKY)[self.rng.integers(6)] for _ in range(13)])
        tops = np.array([self.between(2.5, 6) for _ in range(13)], np.float32)
        walls = np.concatenate([self.colour() for _ in range(13)], 2)

        depth = (self.x - self.vanishing) / ((edge - self.camera) * self.unit)
        seen = np.flatnonzero((depth > 0.06) & (depth < 4))
        columns = slice(seen[0], seen[-1] + 1) if len(seen) else slice(0)
        depth = depth[:, columns]
        distance: Floats = np.float32(1) / depth  # 1 at the image's lower edge
        stretch = np.searchsorted(ends, distance[0])[None]
        kind = kinds[stretch]
        above_ground = (self.horizon - self.y) / (self.unit * depth) + 1
        wanted = np.where(kind == FENCE, np.float32(0.8), tops[stretch])
        mask = (kind != SKY) & (above_ground > 0) & (above_ground < wanted)
        windows = (fraction(above_ground / 1.2) > 0.45) & (above_ground > 0.5) & (fraction(2 * distance) > 0.4)
        dark = np.where(kind == FENCE, fraction(8 * distance) > 0.45, windows)
        wall = walls[:, 0, stretch] * np.where(dark, np.float32(0.4), np.float32(1)) + self.rough[:, columns] * 0.4
        np.copyto(self.pixels[:, :, columns], self.hazy(wall, depth), where=mask)
        np.copyto(self.labels[:, columns], kind.astype(np.uint8), where=mask)

    def draw_things(self) -> None:
        """Trees, poles, cars and people, from far to near."""
        makers = [(self.draw_tree, 1, 5), (self.draw_pole, 3, 7), (self.draw_car, 2, 6), (self.draw_person, 2, 7)]
        things = [
            (0.07 + 0.85 * self.between(0, 1) ** 2, maker)
            for maker, least, most in makers
            for _ in range(int(self.rng.integers(least, most)))
        ]
        for depth, maker in sorted(things, key=lambda thing: thing[0]):
            maker(depth)

    def draw_tree(self, depth: float) -> None:
        across = self.on_side(self.road + 0.2, self.pavement + 1.5)
        crown, stem = self.between(1.2, 2.6), self.between(1.1, 1.6)
        self.place(across, depth, 0.16, 0, stem + 0.3, TREE, rgb(70, 55, 40), whole_box)
        leaves = self.green + self.rough
        self.place(across, depth, crown, stem, stem + crown * self.between(0.8, 1.4), TREE, leaves, ellipse)

    def draw_pole(self, depth: float) -> None:
        across = self.on_side(self.road + 0.1, self.road + 0.35)
        top = self.between(1.8, 3.6)
        self.place(across, depth, 0.07, 0, top, POLE, rgb(self.between(40, 150)), whole_box)
        if self.rng.random() < 0.7:
            face, rim = self.colour() * 1.4, rgb(self.between(140, 210), 40, 40)
            shape = ellipse if self.rng.random() < 0.5 else whole_box
            self.place(across, depth, 0.6, top - 0.3, top + 0.3, SIGN, rim, shape)
            self.place(across, depth, 0.36, top - 0.18, top + 0.18, SIGN, face, shape)

    def draw_car(self, depth: float) -> None:
        across, paint = self.on_side(0.1, self.road - 0.5), self.colour()
        self.place(across, depth, 1.1, 0, 0.16, CAR, rgb(25), both_ends)
        self.place(across, depth, 0.9, 0.4, 0.95, CAR, paint * 0.9, tapered)
        self.place(across, depth, 0.75, 0.5, 0.88, CAR, rgb(self.between(25, 90)), tapered)
        self.place(across, depth, 1.15, 0.1, 0.52, CAR, paint, whole_box)
        lamps = rgb(200, 40, 40) if across < 0 else rgb(235, 235, 200)
        self.place(across, depth, 1.1, 0.3, 0.42, CAR, lamps, both_ends)

    def draw_person(self, depth: float) -> None:
        crossing = self.rng.random() < 0.2
        across = self.on_side(0, self.road) if crossing else self.on_side(self.road + 0.1, self.pavement)
        self.place(across, depth, 0.26, 0, 0.55, PERSON, self.colour() * 0.6, two_legs)
        self.place(across, depth, 0.34, 0.45, 0.98, PERSON, self.colour(), ellipse)
        self.place(across, depth, 0.17, 0.93, 1.15, PERSON, rgb(175, 130, 105), ellipse)

    def draw_bonnet(self) -> None:
        """The camera's own car at the lower edge, in half of the scenes: not labelled."""
        if self.rng.random() < 0.5:
            middle, high = self.width / 2, self.height * self.between(0.03, 0.08)
            curve = ((self.x - middle) / (0.5 * self.width)) ** 2
            self.paint(self.y > self.height - high * (1 - curve), IGNORE, self.colour() * 0.6)

    def photograph(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The scene at half the canvas' size under uneven, coloured light, with sensor noise."""
        light = rgb(*(self.between(0.88, 1.12) for _ in range(3))) * self.between(0.55, 1.15)
        slope = self.between(-0.25, 0.25) * (self.x / self.width - 0.5)
        self.pixels *= light * (1 + slope)
        if self.rng.random() < 0.6:  # a shadow across the street
            start, tilt = self.between(0.5, 0.95) * self.height, self.between(-0.4, 0.4)
            offset = self.y - start - tilt * (self.x - self.width / 2)
            shaded = (offset > 0) & (offset < self.between(0.05, 0.3) * self.height)
            self.pixels *= np.where(shaded, np.float32(0.6), np.float32(1))
        fine = self.rng.integers(-9, 10, self.pixels.shape, np.int16) + self.noise(5)
        noisy = self.pixels + fine
        halved = (noisy[:, ::2, ::2] + noisy[:, 1::2, ::2] + noisy[:, ::2, 1::2] + noisy[:, 1::2, 1::2]) * 0.25
        image = np.clip(halved, 0, 255).astype(np.uint8)
        return image, np.ascontiguousarray(self.labels[1::2, 1::2])
