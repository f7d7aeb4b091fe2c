"""Places and things drawn from simple shapes: the pictures of the demo dataset.

Everything is drawn at `OVERSAMPLING` times the final size and reduced at the end, which smooths
the edges. Lengths are in pixels of the final picture, which is `SIZE` on a side.
"""

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

SIZE = 224
OVERSAMPLING = 2

Colour = tuple[int, ...]  # red, green, blue and perhaps alpha, 0..255

COLOURS: dict[str, Colour] = {
    "red": (214, 34, 38),
    "orange": (246, 128, 22),
    "yellow": (250, 214, 30),
    "green": (44, 164, 66),
    "blue": (36, 86, 216),
    "purple": (132, 50, 180),
    "pink": (250, 122, 184),
    "white": (246, 246, 246),
    "black": (32, 32, 36),
    "brown": (134, 80, 40),
}
WHITE, BLACK, GRAY, WOOD = (250, 250, 250), (24, 24, 28), (128, 130, 136), (150, 100, 58)


def shade(colour: Colour, factor: float) -> Colour:
    """Darken (`factor` below 1) or lighten towards white (above 1, 2 is white)."""
    target, weight = (0, 1 - factor) if factor < 1 else (255, factor - 1)
    return tuple(round(c + (target - c) * weight) for c in colour)


def vary(colour: Colour, rng: Generator, amount: int = 8) -> Colour:
    """A colour near `colour`: what makes two red balls differ."""
    return tuple(int(c) for c in np.clip(np.add(colour, rng.integers(-amount, amount, 3)), 0, 255))


class Pen:
    """Draws in the coordinates of one thing: it stands on y = 0 and is about 1 wide and 1 high.

    Args:
        x, y: where the middle of its foot is in the picture.
        size: length of its unit.
        flip: looks to the left.
        tilt: turned by so many degrees, counterclockwise.
    """

    def __init__(self, image: Image.Image, x=0.0, y=0.0, size=1.0, flip=False, tilt=0.0):
        self.draw = ImageDraw.Draw(image, "RGBA" if image.mode == "RGB" else None)
        self.unit = size * OVERSAMPLING
        self.origin = np.array([x, y]) * OVERSAMPLING
        cos, sin = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
        turn = np.array([[cos, -sin], [-sin, -cos]])  # a picture's y axis points down
        self.matrix = self.unit * turn * [-1 if flip else 1, 1]

    def _points(self, points) -> list[tuple[float, float]]:
        return [tuple(p) for p in np.asarray(points) @ self.matrix.T + self.origin]

    def polygon(self, points, colour: Colour) -> None:
        self.draw.polygon(self._points(points), fill=colour)

    def box(self, left, bottom, right, top, colour: Colour) -> None:
        self.polygon([(left, bottom), (right, bottom), (right, top), (left, top)], colour)

    def ellipse(self, x, y, rx, ry, colour: Colour, start=0, end=360) -> None:
        """An ellipse, or the part of it between two angles, closed by a chord."""
        t = np.radians(np.linspace(start, end, 40))
        self.polygon(np.stack([x + rx * np.cos(t), y + ry * np.sin(t)], axis=1), colour)

    def line(self, points, width, colour: Colour) -> None:
        """A line with round ends and joints."""
        for x, y in (points[0], points[-1]):
            self.ellipse(x, y, width / 2, width / 2, colour)
        width = max(1, round(width * self.unit))
        self.draw.line(self._points(points), fill=colour, width=width, joint="curve")


# --- things: each takes a pen and its main colour ------------------------------------------------


def dog(pen: Pen, colour: Colour) -> None:
    dark = shade(colour, 0.72)
    pen.line([(-0.3, 0.46), (-0.42, 0.58), (-0.46, 0.76)], 0.07, colour)
    for x, tone in ((-0.17, dark), (0.27, dark), (-0.27, colour), (0.16, colour)):
        pen.line([(x, 0.4), (x, 0.04)], 0.09, tone)
    pen.ellipse(0, 0.44, 0.35, 0.17, colour)
    pen.ellipse(-0.1, 0.48, 0.13, 0.09, dark)
    pen.polygon([(0.12, 0.5), (0.24, 0.78), (0.42, 0.66), (0.33, 0.4)], colour)
    pen.ellipse(0.32, 0.72, 0.15, 0.14, colour)
    pen.ellipse(0.43, 0.67, 0.11, 0.075, colour)
    pen.ellipse(0.22, 0.7, 0.06, 0.14, dark)
    pen.ellipse(0.52, 0.69, 0.03, 0.03, BLACK)
    pen.ellipse(0.36, 0.76, 0.035, 0.035, WHITE)
    pen.ellipse(0.365, 0.76, 0.02, 0.02, BLACK)


def cat(pen: Pen, colour: Colour) -> None:
    dark = shade(colour, 0.72)
    pen.line([(0.1, 0.07), (0.36, 0.08), (0.44, 0.24), (0.36, 0.42)], 0.08, colour)
    pen.ellipse(0, 0.28, 0.25, 0.28, colour)
    for x in (-0.1, 0.1):
        pen.line([(x, 0.28), (x, 0.05)], 0.11, colour)
        pen.ellipse(x, 0.04, 0.08, 0.045, dark)
    for side in (-1, 1):
        pen.polygon([(side * 0.2, 0.72), (side * 0.2, 1), (side * 0.03, 0.85)], colour)
        pen.polygon([(side * 0.17, 0.79), (side * 0.175, 0.93), (side * 0.08, 0.85)], dark)
    pen.ellipse(0, 0.7, 0.23, 0.19, colour)
    for side in (-1, 1):
        pen.ellipse(side * 0.09, 0.73, 0.05, 0.05, (190, 225, 90))
        pen.ellipse(side * 0.09, 0.73, 0.018, 0.045, BLACK)
        for drop in (0, 0.05):
            pen.line([(side * 0.07, 0.64), (side * 0.3, 0.66 - drop)], 0.008, GRAY)
    pen.polygon([(-0.03, 0.67), (0.03, 0.67), (0, 0.63)], (235, 130, 140))
    stripes = shade(colour, 0.5) if sum(colour) > 200 else shade(colour, 1.35)
    for y in (0.2, 0.29, 0.38, 0.47):
        for side in (-1, 1):
            pen.line([(side * 0.22, y), (side * 0.1, y + 0.03)], 0.03, stripes)
    for x in (-0.07, 0, 0.07):
        pen.line([(x, 0.87), (x, 0.81)], 0.025, stripes)


def child(pen: Pen, colour: Colour) -> None:
    skin, hair = (240, 194, 158), (92, 58, 34)
    for x in (-0.08, 0.08):
        pen.line([(x, 0.3), (x, 0.05)], 0.1, (62, 66, 84))
        pen.ellipse(x + 0.02, 0.03, 0.08, 0.035, (48, 40, 36))
    for side, hand in ((-1, (0.34, 0.36)), (1, (0.36, 0.76))):  # one arm down, one waving
        pen.line([(side * 0.12, 0.6), (side * hand[0], hand[1])], 0.1, shade(colour, 0.85))
        pen.ellipse(side * hand[0], hand[1], 0.05, 0.05, skin)
    pen.polygon([(-0.13, 0.67), (0.13, 0.67), (0.24, 0.22), (-0.24, 0.22)], colour)
    pen.line([(0, 0.64), (0, 0.24)], 0.012, shade(colour, 0.7))
    pen.ellipse(0, 0.82, 0.15, 0.16, hair)
    pen.ellipse(0.01, 0.79, 0.125, 0.125, skin)
    for x in (-0.04, 0.06):
        pen.ellipse(x, 0.8, 0.014, 0.018, BLACK)
    pen.ellipse(0.01, 0.75, 0.04, 0.025, (200, 80, 80), 180, 360)


def car(pen: Pen, colour: Colour) -> None:
    glass = (186, 220, 240)
    pen.polygon([(-0.36, 0.3), (-0.24, 0.56), (0.14, 0.56), (0.3, 0.3)], colour)
    pen.polygon([(-0.28, 0.34), (-0.2, 0.51), (-0.06, 0.51), (-0.06, 0.34)], glass)
    pen.polygon([(-0.01, 0.34), (-0.01, 0.51), (0.11, 0.51), (0.22, 0.34)], glass)
    pen.box(-0.48, 0.13, 0.46, 0.34, colour)
    pen.ellipse(0.42, 0.235, 0.08, 0.105, colour)
    pen.ellipse(-0.46, 0.235, 0.05, 0.105, colour)
    pen.box(-0.48, 0.13, 0.47, 0.18, shade(colour, 0.72))
    pen.ellipse(0.46, 0.27, 0.03, 0.04, (255, 244, 180))
    pen.line([(0.02, 0.28), (0.08, 0.28)], 0.02, shade(colour, 0.6))
    for x in (-0.27, 0.27):
        pen.ellipse(x, 0.12, 0.125, 0.125, BLACK)
        pen.ellipse(x, 0.12, 0.06, 0.06, (196, 200, 206))


def ball(pen: Pen, colour: Colour) -> None:
    pen.ellipse(0, 0.4, 0.4, 0.4, shade(colour, 0.78))
    pen.ellipse(0.02, 0.42, 0.36, 0.36, colour)
    dots = shade(colour, 0.5) if sum(colour) > 200 else shade(colour, 1.4)
    pen.ellipse(0, 0.4, 0.07, 0.07, dots)
    for turn in np.radians(np.arange(0, 360, 60)):
        x, y = np.cos(turn), np.sin(turn)
        pen.ellipse(0.19 * x, 0.4 + 0.19 * y, 0.06, 0.06, dots)
        pen.ellipse(0.32 * y, 0.4 + 0.32 * x, 0.045, 0.045, dots)
    pen.ellipse(0.12, 0.58, 0.09, 0.06, shade(colour, 1.6))


def umbrella(pen: Pen, colour: Colour) -> None:
    pen.line([(0, 0), (0, 0.95)], 0.035, WOOD)
    pen.ellipse(0, 0.52, 0.5, 0.43, colour, 0, 180)
    pen.ellipse(0, 0.52, 0.3, 0.43, shade(colour, 0.8), 0, 180)
    pen.ellipse(0, 0.52, 0.1, 0.43, colour, 0, 180)
    for x in (-0.4, -0.2, 0, 0.2, 0.4):
        pen.ellipse(x, 0.525, 0.1, 0.04, colour, 180, 360)
    pen.ellipse(0, 0.97, 0.025, 0.03, WOOD)


def flower(pen: Pen, colour: Colour) -> None:
    stem = (52, 120, 44)
    pen.line([(0, 0), (0.02, 0.5)], 0.05, stem)
    pen.ellipse(-0.14, 0.12, 0.15, 0.05, stem)
    pen.ellipse(0.15, 0.17, 0.15, 0.05, stem)
    for petal, turn in enumerate(np.radians(np.arange(0, 360, 30))):
        x, y = np.cos(turn), np.sin(turn)
        tone = shade(colour, 0.8 + 0.2 * (petal % 2))
        pen.line([(0.1 * x, 0.6 + 0.1 * y), (0.36 * x, 0.6 + 0.36 * y)], 0.11, tone)
    pen.ellipse(0, 0.6, 0.14, 0.14, (120, 74, 24))
    pen.ellipse(0.02, 0.62, 0.09, 0.09, (240, 190, 40))


def tent(pen: Pen, colour: Colour) -> None:
    pen.polygon([(-0.5, 0), (0, 0.8), (0.5, 0)], colour)
    pen.polygon([(0, 0.8), (0.5, 0), (0.26, 0)], shade(colour, 0.75))
    pen.polygon([(-0.16, 0), (0, 0.5), (0.16, 0)], (62, 48, 40))
    pen.polygon([(-0.16, 0), (0, 0.5), (-0.06, 0)], shade(colour, 1.3))
    pen.line([(0, 0.78), (0, 0.88)], 0.02, WOOD)


def bird(pen: Pen, colour: Colour) -> None:
    dark = shade(colour, 0.7)
    pen.polygon([(-0.08, 0.5), (0.02, 0.94), (0.16, 0.98), (0.18, 0.5)], dark)
    pen.polygon([(-0.2, 0.45), (-0.5, 0.5), (-0.46, 0.32)], dark)
    pen.ellipse(-0.02, 0.44, 0.28, 0.16, colour)
    pen.ellipse(0.28, 0.54, 0.13, 0.12, colour)
    pen.polygon([(-0.14, 0.48), (-0.34, 0.96), (-0.14, 0.9), (0.14, 0.46)], colour)
    pen.line([(-0.04, 0.5), (-0.2, 0.84)], 0.02, dark)
    pen.polygon([(0.38, 0.58), (0.38, 0.48), (0.52, 0.51)], (250, 160, 30))
    pen.ellipse(0.31, 0.57, 0.03, 0.03, WHITE)
    pen.ellipse(0.315, 0.57, 0.018, 0.018, BLACK)


def kite(pen: Pen, colour: Colour) -> None:
    tail = [(0, 0.36), (0.1, 0.27), (-0.02, 0.17), (0.08, 0.08), (0, 0)]
    pen.line(tail, 0.018, GRAY)
    for x, y in tail[1:]:
        pen.polygon([(x - 0.07, y + 0.04), (x - 0.07, y - 0.04), (x, y)], colour)
        pen.polygon([(x + 0.07, y + 0.04), (x + 0.07, y - 0.04), (x, y)], colour)
    pen.polygon([(0, 1), (-0.34, 0.72), (0, 0.34), (0.34, 0.72)], colour)
    pen.polygon([(0, 1), (0, 0.72), (0.34, 0.72)], shade(colour, 0.75))
    pen.polygon([(0, 0.34), (0, 0.72), (-0.34, 0.72)], shade(colour, 0.75))
    pen.line([(0, 1), (0, 0.34)], 0.014, WOOD)
    pen.line([(-0.34, 0.72), (0.34, 0.72)], 0.014, WOOD)


def balloon(pen: Pen, colour: Colour) -> None:
    """A hot-air balloon."""
    pen.polygon([(-0.37, 0.52), (-0.1, 0.22), (0.1, 0.22), (0.37, 0.52)], colour)
    pen.ellipse(0, 0.62, 0.4, 0.38, colour)
    for width, tone in ((0.26, 0.8), (0.1, 1)):
        pen.ellipse(0, 0.62, width, 0.38, shade(colour, tone))
        pen.polygon([(-width, 0.6), (-0.05, 0.22), (0.05, 0.22), (width, 0.6)], shade(colour, tone))
    for x in (-0.08, 0.08):
        pen.line([(x, 0.24), (x * 0.9, 0.12)], 0.012, (80, 60, 40))
    pen.box(-0.1, 0, 0.1, 0.13, WOOD)
    pen.box(-0.11, 0.1, 0.11, 0.13, shade(WOOD, 0.7))


def boat(pen: Pen, colour: Colour) -> None:
    pen.line([(0, 0.2), (0, 1)], 0.03, WOOD)
    pen.polygon([(0.04, 0.96), (0.04, 0.3), (0.44, 0.3)], colour)
    pen.polygon([(-0.04, 0.88), (-0.04, 0.3), (-0.34, 0.3)], shade(colour, 0.82))
    pen.polygon([(-0.48, 0.25), (0.5, 0.25), (0.34, 0), (-0.34, 0)], colour)
    pen.polygon([(-0.41, 0.1), (0.41, 0.1), (0.34, 0), (-0.34, 0)], shade(colour, 0.7))


def duck(pen: Pen, colour: Colour) -> None:
    pen.ellipse(-0.04, 0.2, 0.4, 0.22, colour, 170, 370)
    pen.polygon([(-0.42, 0.24), (-0.5, 0.42), (-0.2, 0.3), (0.34, 0.24)], colour)
    pen.ellipse(0.02, 0.26, 0.3, 0.1, colour)
    pen.line([(0.24, 0.24), (0.26, 0.5)], 0.16, colour)
    pen.ellipse(0.27, 0.56, 0.15, 0.14, colour)
    pen.polygon([(0.39, 0.6), (0.39, 0.49), (0.56, 0.52)], (246, 130, 20))
    pen.ellipse(0.31, 0.6, 0.028, 0.028, BLACK)
    pen.ellipse(-0.1, 0.22, 0.2, 0.1, shade(colour, 0.8))


def tree(pen: Pen, colour: Colour) -> None:
    pen.polygon([(-0.08, 0), (0.08, 0), (0.05, 0.45), (-0.05, 0.45)], (104, 70, 42))
    crown = [(-0.2, 0.5), (0.2, 0.5), (0, 0.46), (-0.22, 0.7), (0.22, 0.7), (0, 0.84), (0, 0.64)]
    for x, y in crown:
        pen.ellipse(x, y - 0.02, 0.2, 0.17, shade(colour, 0.75))
    for x, y in crown:
        pen.ellipse(x + 0.02, y + 0.02, 0.16, 0.13, colour)


def lighthouse(pen: Pen, colour: Colour) -> None:
    pen.ellipse(0, 0, 0.46, 0.12, (112, 106, 102), 0, 180)
    pen.polygon([(-0.17, 0.06), (-0.1, 0.8), (0.1, 0.8), (0.17, 0.06)], WHITE)
    for low in (0.1, 0.38, 0.66):
        left, right = 0.174 - 0.095 * low, 0.174 - 0.095 * (low + 0.14)
        corners = [(-left, low), (left, low), (right, low + 0.14), (-right, low + 0.14)]
        pen.polygon(corners, colour)
    pen.box(-0.08, 0.8, 0.08, 0.92, (255, 240, 150))
    pen.polygon([(-0.12, 0.91), (0.12, 0.91), (0, 1.02)], (70, 60, 66))
    pen.box(-0.14, 0.78, 0.14, 0.81, (70, 60, 66))


def house(pen: Pen, colour: Colour) -> None:
    pen.box(0.2, 0.7, 0.3, 0.98, (120, 70, 60))
    pen.box(-0.4, 0, 0.4, 0.58, colour)
    pen.polygon([(-0.5, 0.56), (-0.3, 0.9), (0.3, 0.9), (0.5, 0.56)], (104, 62, 52))
    pen.box(-0.08, 0, 0.1, 0.34, (92, 58, 38))
    pen.ellipse(0.07, 0.17, 0.015, 0.015, (240, 210, 90))
    for x in (-0.26, 0.26):
        pen.box(x - 0.1, 0.22, x + 0.1, 0.44, WHITE)
        pen.box(x - 0.08, 0.24, x + 0.08, 0.42, (150, 200, 230))
        pen.line([(x, 0.24), (x, 0.42)], 0.015, WHITE)


def bench(pen: Pen, colour: Colour) -> None:
    for x in (-0.4, 0.4):
        pen.box(x - 0.03, 0, x + 0.03, 0.34, (70, 70, 76))
    for y in (0.44, 0.54):
        pen.box(-0.5, y, 0.5, y + 0.07, shade(colour, 0.85))
    pen.box(-0.5, 0.24, 0.5, 0.34, colour)


def crate(pen: Pen, colour: Colour) -> None:
    pen.box(-0.36, 0, 0.36, 0.56, colour)
    for y in (0.14, 0.28, 0.42):
        pen.line([(-0.36, y), (0.36, y)], 0.012, shade(colour, 0.6))
    for x in (-0.31, 0.31):
        pen.box(x - 0.05, 0, x + 0.05, 0.56, shade(colour, 0.8))
    pen.line([(-0.26, 0.04), (0.26, 0.52)], 0.06, shade(colour, 0.8))


def sofa(pen: Pen, colour: Colour) -> None:
    dark = shade(colour, 0.75)
    for x in (-0.4, 0.4):
        pen.box(x - 0.03, 0, x + 0.03, 0.08, (70, 50, 36))
    pen.box(-0.44, 0.2, 0.44, 0.6, dark)
    pen.box(-0.44, 0.07, 0.44, 0.32, colour)
    pen.line([(0, 0.1), (0, 0.58)], 0.012, shade(colour, 0.6))
    for x in (-0.44, 0.44):
        pen.line([(x, 0.13), (x, 0.4)], 0.13, colour)


THINGS = {
    draw.__name__: draw
    for draw in (
        *(dog, cat, child, car, ball, umbrella, flower, tent),
        *(bird, kite, balloon, boat, duck),
        *(tree, house, lighthouse, bench, crate, sofa),
    )
}
SEATS = {"bench": 0.32, "crate": 0.56, "sofa": 0.32}  # height of what another thing can stand on


# --- places: each paints a whole picture ---------------------------------------------------------


class Canvas(Pen):
    """A pen in pixels of the final picture: x to the right, y down, both 0 to `SIZE`."""

    def __init__(self, image: Image.Image, rng: Generator):
        super().__init__(image)
        self.image, self.rng = image, rng
        self.matrix = np.eye(2) * OVERSAMPLING

    def gradient(self, top: float, bottom: float, upper: Colour, lower: Colour) -> None:
        """Fill the rows from `top` to `bottom`, fading from one colour to the other."""
        upper, lower = vary(upper, self.rng, 6), vary(lower, self.rng, 6)
        first, last = round(top * OVERSAMPLING), round(bottom * OVERSAMPLING)
        rows = np.linspace(upper, lower, last - first).round().astype(np.uint8)[:, None]
        width = SIZE * OVERSAMPLING
        self.image.paste(Image.fromarray(rows.repeat(width, axis=1)), (0, first))

    def clouds(self, count: int, colour: Colour = (255, 255, 255, 130)) -> None:
        for _ in range(count):
            x, y = self.rng.uniform(10, 214), self.rng.uniform(10, 45)
            for dx, dy, r in ((-14, 3, 9), (0, 0, 13), (14, 3, 10), (4, 5, 14)):
                self.ellipse(x + dx, y + dy, r, r * 0.5, colour)

    def strokes(self, count: int, top: float, shape, colours: list[Colour], width: float) -> None:
        """Scatter short strokes of direction `shape` below `top`, larger towards the viewer."""
        x = self.rng.uniform(0, SIZE, count)
        y = self.rng.uniform(top, SIZE, count)
        near = 0.4 + 0.6 * (y - top) / (SIZE - top)
        which = self.rng.integers(len(colours), size=count)
        for i in range(count):
            end = (x[i] + shape[0] * near[i], y[i] + shape[1] * near[i])
            points = self._points([(x[i], y[i]), end])
            self.draw.line(points, colours[which[i]], max(1, round(width * near[i] * OVERSAMPLING)))

    def hills(self, height: float, amplitude: float, colour: Colour) -> None:
        """A wavy horizon about `height`, filled down to the bottom."""
        x = np.linspace(0, SIZE, 60)
        phase, waves = self.rng.uniform(0, 6), self.rng.uniform(1, 2.2)
        y = height - amplitude * np.sin(waves * 2 * np.pi * x / SIZE + phase)
        outline = [(0, SIZE), *zip(x, y, strict=True), (SIZE, SIZE)]
        self.polygon(outline, vary(colour, self.rng, 5))


def beach(canvas: Canvas) -> None:
    canvas.gradient(0, 74, (96, 186, 244), (206, 236, 252))
    canvas.ellipse(canvas.rng.uniform(30, 194), 26, 13, 13, (255, 236, 140))
    canvas.clouds(2)
    canvas.gradient(74, 116, (20, 132, 176), (84, 206, 206))
    canvas.strokes(26, 80, (16, 0), [(190, 240, 240, 120)], 1)
    canvas.gradient(116, SIZE, (248, 224, 168), (232, 194, 128))
    canvas.hills(114, 3, (255, 255, 250))
    canvas.hills(118, 3, (244, 218, 160))
    canvas.strokes(420, 122, (1.6, 0.6), [(206, 166, 104), (255, 240, 200)], 1.2)


def meadow(canvas: Canvas) -> None:
    canvas.gradient(0, 110, (104, 176, 240), (214, 238, 250))
    canvas.clouds(4)
    canvas.hills(92, 10, (136, 186, 108))
    canvas.gradient(104, SIZE, (128, 196, 66), (62, 146, 38))
    canvas.strokes(520, 104, (2.5, -9), [(46, 124, 30), (150, 212, 84), (90, 170, 50)], 1.2)


def street(canvas: Canvas) -> None:
    rng = canvas.rng
    canvas.gradient(0, 130, (186, 200, 214), (226, 230, 234))
    left = -rng.uniform(0, 20)
    while left < SIZE:
        right, top = left + rng.uniform(36, 56), rng.uniform(14, 52)
        walls = ((176, 120, 104), (164, 158, 150), (196, 176, 150), (136, 142, 156))
        canvas.box(left, top, right, 130, vary(walls[rng.integers(4)], rng))
        for x in np.arange(left + 6, right - 8, 11):
            for y in np.arange(top + 8, 116, 15):
                canvas.box(
                    x, y, x + 6, y + 8, (92, 108, 128) if rng.random() < 0.7 else (246, 226, 150)
                )
        left = right + 1
    canvas.gradient(130, 146, (196, 194, 190), (176, 174, 170))
    canvas.gradient(146, SIZE, (98, 98, 104), (70, 70, 76))
    canvas.strokes(160, 148, (2, 0), [(84, 84, 88), (116, 116, 120)], 1)
    for x in np.arange(rng.uniform(-40, 0), SIZE, 52):
        canvas.polygon([(x, 186), (x + 30, 186), (x + 28, 191), (x - 3, 191)], (236, 236, 230))


def snow(canvas: Canvas) -> None:
    rng = canvas.rng
    canvas.gradient(0, 120, (168, 190, 216), (222, 230, 240))
    for x in rng.uniform(0, SIZE, 3):
        peak, half = rng.uniform(38, 60), rng.uniform(50, 80)
        canvas.polygon([(x - half, 122), (x, peak), (x + half, 122)], (150, 168, 194))
        cap = 0.35
        foot = peak + cap * (122 - peak)
        canvas.polygon([(x - cap * half, foot), (x, peak), (x + cap * half, foot)], (248, 250, 255))
    canvas.hills(114, 6, (226, 234, 246))
    canvas.hills(138, 8, (240, 245, 252))
    for x in rng.uniform(0, SIZE, 5):
        for step in range(3):
            y = 116 - 9 * step
            canvas.polygon(
                [(x - 10 + 2 * step, y), (x, y - 15), (x + 10 - 2 * step, y)], (66, 104, 98)
            )
    for x, y, r in zip(*rng.uniform((0, 0, 1), (SIZE, SIZE, 2.6), (70, 3)).T, strict=True):
        canvas.ellipse(x, y, r, r, (255, 255, 255, 210))


def night(canvas: Canvas) -> None:
    rng = canvas.rng
    canvas.gradient(0, 150, (8, 10, 46), (42, 40, 104))
    for x, y, r in zip(*rng.uniform((0, 0, 0.6), (SIZE, 120, 1.7), (80, 3)).T, strict=True):
        canvas.ellipse(x, y, r, r, (255, 250, 220))
    x = rng.uniform(30, 194)
    for glow in (26, 21):
        canvas.ellipse(x, 34, glow, glow, (255, 250, 210, 34))
    canvas.ellipse(x, 34, 16, 16, (252, 246, 208))
    canvas.ellipse(x + 5, 30, 4, 4, (228, 220, 176))
    canvas.ellipse(x - 6, 39, 3, 3, (228, 220, 176))
    canvas.hills(132, 8, (22, 30, 62))
    canvas.gradient(148, SIZE, (24, 40, 58), (14, 24, 40))
    canvas.strokes(200, 148, (2, -5), [(36, 58, 76), (18, 32, 48)], 1)


def desert(canvas: Canvas) -> None:
    canvas.gradient(0, 110, (250, 150, 84), (255, 226, 170))
    canvas.ellipse(canvas.rng.uniform(30, 194), 60, 20, 20, (255, 240, 196))
    canvas.hills(100, 10, (214, 128, 74))
    for x in canvas.rng.uniform(8, 216, 3):
        for line in (
            [(x, 130), (x, 96)],
            [(x - 9, 104), (x - 9, 114), (x, 118)],
            [(x + 8, 100), (x + 8, 110), (x, 112)],
        ):
            canvas.line(line, 2.5, (74, 110, 62))
    canvas.hills(126, 7, (232, 156, 82))
    canvas.hills(160, 9, (222, 140, 68))
    canvas.hills(192, 7, (212, 128, 60))
    canvas.strokes(200, 124, (9, 1.5), [(240, 176, 106), (200, 118, 56)], 1)


def sea(canvas: Canvas) -> None:
    canvas.gradient(0, 84, (130, 196, 240), (224, 240, 248))
    canvas.clouds(3)
    canvas.gradient(84, SIZE, (44, 124, 190), (10, 62, 132))
    canvas.strokes(150, 88, (22, 0), [(130, 190, 226), (24, 92, 160), (76, 150, 206)], 2.2)


def forest(canvas: Canvas) -> None:
    rng = canvas.rng
    canvas.gradient(0, 150, (74, 116, 78), (36, 70, 46))
    for depth, tone in ((6, 0.75), (5, 0.55)):
        for x in rng.uniform(0, SIZE, depth):
            w = rng.uniform(4, 9)
            canvas.polygon(
                [(x - w, 150), (x - w * 0.7, 0), (x + w * 0.7, 0), (x + w, 150)],
                shade((112, 78, 52), tone),
            )
    for x, y in rng.uniform((0, -6), (SIZE, 44), (34, 2)):
        canvas.ellipse(x, y, 22, 14, vary((30, 84, 40), rng, 14))
    canvas.gradient(146, SIZE, (82, 80, 44), (56, 50, 28))
    canvas.hills(146, 4, (54, 92, 44))
    canvas.hills(166, 4, (84, 74, 42))
    canvas.strokes(300, 150, (3, -3), [(122, 92, 44), (60, 88, 40), (48, 42, 24)], 2)


def room(canvas: Canvas) -> None:
    rng = canvas.rng
    canvas.gradient(0, 140, (238, 222, 206), (228, 208, 190))
    for x in np.arange(rng.uniform(0, 16), SIZE, 16):
        canvas.box(x, 0, x + 7, 140, (222, 186, 178))
    x = rng.uniform(20, 150)
    canvas.box(x, 20, x + 54, 74, (116, 78, 48))
    canvas.box(x + 4, 24, x + 50, 70, (186, 218, 240))
    canvas.ellipse(x + 27, 70, 23, 18, (130, 180, 110), 180, 360)
    canvas.box(x + 25.5, 24, x + 28.5, 70, (116, 78, 48))
    canvas.box(0, 136, SIZE, 144, (250, 246, 240))
    canvas.gradient(144, SIZE, (186, 132, 84), (160, 106, 62))
    for y in (144, 156, 171, 189, 210):
        canvas.box(0, y, SIZE, y + 1, (122, 78, 44))
        for x in rng.uniform(0, SIZE, 4):
            canvas.box(x, y, x + 1, y + 14, (122, 78, 44))


PLACES = {
    paint.__name__: paint
    for paint in (beach, meadow, street, snow, night, desert, sea, forest, room)
}


# --- a picture -----------------------------------------------------------------------------------


def background(place: str, rng: Generator) -> Image.Image:
    """A place with nothing in it, RGB, still `OVERSAMPLING` times as large as the picture."""
    image = Image.new("RGB", (SIZE * OVERSAMPLING,) * 2)
    PLACES[place](Canvas(image, rng))
    return image


def add(
    image: Image.Image,
    kind: str,
    colour: str,
    x: float,
    y: float,
    size: float,
    rng: Generator,
    tilt: float = 0.0,
) -> None:
    """Draw one thing on `image` with its foot at (x, y), varied a little in shade, left or right.

    The tilt is drawn at random too, up to `tilt` degrees to either side.
    """
    pen = Pen(image, x, y, size, flip=rng.random() < 0.5, tilt=rng.uniform(-tilt, tilt))
    THINGS[kind](pen, vary(COLOURS[colour], rng))


def shadow(image: Image.Image, x: float, y: float, size: float, colour: Colour) -> None:
    """A translucent patch where a thing touches the ground."""
    Pen(image, x, y, size).ellipse(0, 0, 0.46, 0.07, colour)


def finish(image: Image.Image, rng: Generator) -> Image.Image:
    """Reduce to `SIZE` pixels a side, smooth edges, and add a little light and film grain."""
    pixels = np.asarray(image.reduce(OVERSAMPLING), np.float32)
    grain = rng.normal(0, 3, (SIZE, SIZE, 1)).astype(np.float32)
    pixels = pixels * np.float32(rng.uniform(0.95, 1.05)) + grain
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
