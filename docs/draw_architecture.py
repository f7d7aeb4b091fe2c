"""Draw architecture.svg, the rooms of `captioning/`, and files.svg, the files between the scripts.

    python docs/draw_architecture.py

The ground is white in the files themselves, so that both are legible on a dark page. Texts are
outlines: no font is needed to see them. Every text is checked to lie within its box.
"""

import itertools
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

HERE = Path(__file__).resolve().parent
INK, PALE_INK = "#1f2933", "#52606d"
SCRIPT, ROOM, FILE, BAND, LINE = "#f9dcc4", "#d6e6f5", "#e3f1df", "#f5f7fa", "#9aa5b1"

# From the top down: name of the layer, its rooms, what is in each.
LAYERS = [
    ("what compares\nfinished runs", [("evaluation", "probe, baselines, tables of results")]),
    (
        "the stages",
        [("pipeline", "describe, extract, train, score, caption; names and formats of the files")],
    ),
    ("how captioners\nare trained", [("objectives", "recipes, batches and losses")]),
    (
        "how encoders are trained,\nhow captions are found",
        [
            ("pretraining", "methods, views of pictures"),
            ("search", "decoder and features → captions"),
        ],
    ),
    (
        "networks, numbers,\nthings to look at",
        [
            ("encoders", "pixels → features"),
            ("decoders", "features → words"),
            ("scores", "BLEU, CIDEr, …"),
            ("report", "sheets, pages"),
        ],
    ),
    (
        "what is on disk",
        [
            ("data", "layouts, pictures, captions, ids, splits, vocabulary"),
            ("demo", "drawn scenes"),
        ],
    ),
    ("readers of untrusted files", [("formats", "pickles, checkpoints, archives")]),
    ("knows nothing of captions", [("runtime", "console, files, errors, registry, training")]),
]
SHARES = {"data": 2.2}  # widths beside their neighbours' 1


class Sheet:
    """An empty page, `width` by `height`, with its origin at the top left."""

    def __init__(self, width: float, height: float):
        self.figure = plt.figure(figsize=(width / 100, height / 100), facecolor="white")
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(height, 0))
        self.axes.axis("off")
        self.held = []  # (text, box that it must lie in)

    def box(self, x, y, width, height, colour, title="", below="", edge=LINE):
        """A rounded box with a bold title and a line or two below it, both centred."""
        shape = FancyBboxPatch(
            (x, y), width, height, "round,pad=0,rounding_size=7", fc=colour, ec=edge, lw=1
        )
        self.axes.add_patch(shape)
        lines = below.count("\n") + 1 if below else 0
        middle = y + height / 2
        if title:
            self.text(x + width / 2, middle - 10 * lines, title, shape, 12, weight="bold")
        if below:
            self.text(
                x + width / 2, middle + (12 if title else 0), below, shape, 10, color=PALE_INK
            )
        return shape

    def text(self, x, y, words, within=None, size=10, ha="center", **style):
        style = {"color": INK, "ha": ha, "va": "center", "linespacing": 1.25, **style}
        text = self.axes.text(x, y, words, fontsize=size, **style)
        self.held.append((text, within))

    def arrow(self, *points):
        """Through `points`, straight from each to the next, with a head at the last."""
        *_, before, last = points
        style = {"color": PALE_INK, "lw": 1.4}
        for (x0, y0), (x1, y1) in itertools.pairwise(points[:-1]):
            self.axes.plot([x0, x1], [y0, y1], solid_capstyle="round", **style)
        head = {"arrowstyle": "-|>", "mutation_scale": 13, "shrinkA": 0, "shrinkB": 0}
        self.axes.add_patch(FancyArrowPatch(before, last, **head, **style))

    def save(self, path: Path) -> None:
        """Write the page; `ValueError` if a text leaves its box or touches another."""
        renderer = self.figure.canvas.get_renderer()
        extents = [text.get_window_extent(renderer) for text, _ in self.held]
        for (text, within), extent in zip(self.held, extents, strict=True):
            room = (within or self.figure.patch).get_window_extent(renderer)
            if extent.x0 < room.x0 + 3 or extent.x1 > room.x1 - 3 or extent.height > room.height:
                raise ValueError(f"{path.name}: {text.get_text()!r} does not fit")
            if sum(extent.overlaps(other) for other in extents) > 1:
                raise ValueError(f"{path.name}: {text.get_text()!r} touches another text")
        self.figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        plt.close(self.figure)


def rooms() -> Sheet:
    """The layers of the package, each above those it imports from."""
    left, right, top, high, gap = 225, 945, 96, 62, 12
    page = Sheet(1000, top + len(LAYERS) * (high + gap) + 16)
    scripts = "1_data_preprocessor.py … 5_test.py,  jigsaw/,  pretraining/main.py,  benchmarks/"
    page.box(left, 16, right - left, high, SCRIPT, "scripts", scripts)
    page.text(left - 14, 16 + high / 2, "arguments,\none call each", ha="right", color=PALE_INK)
    for number, (layer, entries) in enumerate(LAYERS):
        y = top + number * (high + gap)
        page.text(left - 14, y + high / 2, layer, ha="right", color=PALE_INK)
        shares = [SHARES.get(name, 1) for name, _ in entries]
        width = (right - left - gap * (len(entries) - 1)) / sum(shares)
        x = left
        for (name, what), share in zip(entries, shares, strict=True):
            page.box(x, y, width * share, high, ROOM, name, what)
            x += width * share + gap
    page.arrow((962, 16), (962, top + len(LAYERS) * (high + gap) - gap))
    page.text(982, 380, "imports", color=PALE_INK, rotation=270)
    return page


def files() -> Sheet:
    """Scripts and the files between them, from the top down."""
    page = Sheet(1000, 760)
    columns = (20, 270, 520, 770)
    rows = tuple(range(20, 760, 110))
    wide, high = 210, 58

    def put(colour, column, row, title, below="", span=1):
        width = wide + 250 * (span - 1)
        page.box(columns[column], rows[row], width, high, colour, title, below)

    def down(column, row, shift=0, start=None):
        """An arrow into the box in this place from the one above it."""
        x = columns[column] + wide / 2 + shift
        page.arrow((x, rows[row - 1] + high if start is None else start), (x, rows[row]))

    # what makes an encoder
    put(FILE, 0, 0, "pictures", "a folder")
    put(SCRIPT, 0, 1, "jigsaw/to_hdf5.py")
    put(FILE, 0, 2, "train.hdf5", "squares, uint8")
    put(SCRIPT, 0, 3, "pretraining/main.py", "or jigsaw/main.py")
    put(FILE, 0, 4, "encoder.weights.h5", "jigsaw: model.keras")
    for row in range(1, 5):
        down(0, row)
    page.text(
        columns[0] + wide / 2, 550, "this column: only for\nan encoder of your own", color=PALE_INK
    )
    turn, entry = 250, rows[1] + high / 2
    page.arrow((230, rows[4] + high / 2), (turn, rows[4] + high / 2), (turn, entry), (270, entry))

    # what makes a captioner
    put(FILE, 1, 0, "dataset", "pictures, captions, lists of train, dev and test", span=2)
    put(FILE, 3, 0, "published weights", "downloaded once")
    put(
        SCRIPT,
        1,
        1,
        "1_data_preprocessor.py",
        "pictures → features, captions → cleaned words",
        span=3,
    )
    put(FILE, 1, 2, "features.pkl", "or features-grid.hdf5")
    put(FILE, 2, 2, "descriptions.txt", "cleaned captions")
    put(SCRIPT, 1, 3, "2_train_IC_model.py", span=2)
    put(SCRIPT, 3, 3, "4_tokenizer.py")
    put(FILE, 1, 4, "model-ep….keras", "the last one is the best")
    put(FILE, 2, 4, "history.csv", "curves.png, state to resume")
    put(FILE, 3, 4, "tokenizer.pkl", "word ↔ id")
    for column, row in ((1, 1), (2, 1), (1, 2), (2, 2), (1, 3), (2, 3), (1, 4), (2, 4), (3, 4)):
        if (column, row) != (2, 1):
            down(column, row)
    down(3, 1)
    x, y = columns[3] + wide / 2, rows[2] + high / 2
    page.arrow((columns[2] + wide, y), (x, y), (x, rows[3]))

    # what uses it
    put(SCRIPT, 1, 5, "3_BLEU.py", "reads the files of script 1 too")
    put(FILE, 2, 5, "photo.jpg", "or a folder")
    put(SCRIPT, 3, 5, "5_test.py", "runs the same encoder")
    put(FILE, 1, 6, "bleu-dev.json", "captions, a report to look at")
    put(SCRIPT, 2, 6, "evaluation.results", "tables of several runs")
    put(FILE, 3, 6, "captions", "lines, or a contact sheet")
    down(1, 5)
    down(3, 5, shift=30)
    turn, x = rows[4] + high + 26, columns[3] + wide / 2 - 30
    page.arrow(
        (columns[1] + wide / 2 + 60, rows[4] + high),
        (columns[1] + wide / 2 + 60, turn),
        (x, turn),
        (x, rows[5]),
    )
    page.arrow((columns[2] + wide, rows[5] + high / 2), (columns[3], rows[5] + high / 2))
    down(1, 6)
    down(3, 6)
    page.arrow((columns[1] + wide, rows[6] + high / 2), (columns[2], rows[6] + high / 2))

    page.box(20, rows[6], 96, high, SCRIPT, "", "a program")
    page.box(134, rows[6], 96, high, FILE, "", "files")
    return page


if __name__ == "__main__":
    matplotlib.rcParams.update({"svg.hashsalt": "captioning", "font.family": "DejaVu Sans"})
    rooms().save(HERE / "architecture.svg")
    files().save(HERE / "files.svg")
