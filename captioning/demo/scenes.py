"""Render a small captioned dataset of drawn scenes, in the layout Flickr8k was published in.

    python -m captioning.demo.scenes demo_work --images 1200

A scene is a place, one to three things of one kind and colour in it, and often a landmark they
stand beside, on or above. Five captions describe every scene, each mentioning a part of it, as
people do; who has not seen the picture cannot guess them.
"""

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image

from captioning.demo import drawing
from captioning.runtime import console, files
from captioning.runtime.errors import CaptioningError

MAX_IMAGES = 2_000  # scenes with different contents are plentiful up to here
MIDDLE = drawing.SIZE / 2


@dataclasses.dataclass(frozen=True)
class Scene:
    """What is drawn and what the captions may say.

    Attributes:
        place: a name of `PLACES`.
        count, colour, kind: one to three things of one kind, a name of `KINDS`.
        size: "small" or "big" for a single thing, else "".
        side: "left", "middle" or "right" for a single thing without a landmark, else "".
        relation: how the things lie to the landmark, a name of `RELATIONS`, or "".
        landmark, landmark_colour: a name of `LANDMARKS` and its colour, or "".
    """

    place: str
    count: int
    colour: str
    kind: str
    size: str = ""
    side: str = ""
    relation: str = ""
    landmark: str = ""
    landmark_colour: str = ""

    @property
    def contents(self) -> tuple:
        """What is in the picture, wherever it lies: different for any two scenes of a dataset."""
        landmark = (self.landmark, self.landmark_colour)
        return (self.place, self.count, self.colour, self.kind, *landmark)


# --- the world: what is found where, and its words -----------------------------------------------


@dataclasses.dataclass(frozen=True)
class Kind:
    element: str  # "ground", "air" or "water"
    colours: tuple[str, ...]
    doing: tuple[str, ...]  # participles that serve one and many
    plural: str


@dataclasses.dataclass(frozen=True)
class Place:
    elements: tuple[str, ...]
    at: tuple[str, ...]  # where something on the ground or water is
    over: tuple[str, ...]  # where something in the air is
    view: tuple[str, ...]  # the place as the first words of a sentence
    clashes: tuple[str, ...] = ()  # colours that hardly show here


BRIGHT = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black")
PETALS = ("red", "orange", "yellow", "blue", "purple", "pink", "white")

KINDS = {
    "dog": Kind(
        "ground", ("black", "white", "brown"), ("standing", "waiting", "looking around"), "dogs"
    ),
    "cat": Kind("ground", ("black", "white", "orange"), ("sitting", "resting"), "cats"),
    "child": Kind("ground", BRIGHT, ("waving", "smiling", "standing"), "children"),
    "car": Kind("ground", BRIGHT, ("parked", "standing"), "cars"),
    "ball": Kind("ground", BRIGHT, ("lying",), "balls"),
    "umbrella": Kind("ground", BRIGHT, ("standing", "set up"), "umbrellas"),
    "flower": Kind("ground", PETALS, ("growing", "blooming"), "flowers"),
    "tent": Kind("ground", BRIGHT[:-1], ("standing", "set up"), "tents"),
    "bird": Kind("air", BRIGHT, ("flying", "soaring"), "birds"),
    "kite": Kind("air", BRIGHT, ("flying", "floating"), "kites"),
    "balloon": Kind("air", BRIGHT, ("floating", "drifting"), "balloons"),
    "boat": Kind("water", BRIGHT, ("sailing", "floating"), "boats"),
    "duck": Kind("water", ("yellow", "white", "brown", "black"), ("swimming", "floating"), "ducks"),
}

OUTDOORS = ("ground", "air")
PLACES = {
    "beach": Place(
        OUTDOORS,
        ("on the beach", "on the sand", "at the seaside"),
        ("over the beach", "in the sky by the sea"),
        ("a sunny beach", "a beach"),
        ("yellow",),
    ),
    "meadow": Place(
        OUTDOORS,
        ("on the grass", "in a green field", "in a meadow"),
        ("over a green field", "over the grass"),
        ("a meadow", "a green field"),
        ("green",),
    ),
    "street": Place(
        OUTDOORS,
        ("on the street", "in the city", "in front of tall buildings"),
        ("over the street", "over the city"),
        ("a city street", "a street"),
    ),
    "snow": Place(
        OUTDOORS,
        ("in the snow", "on a snowy field"),
        ("over the snow", "over snowy mountains"),
        ("a snowy field", "a winter landscape"),
        ("white",),
    ),
    "night": Place(
        OUTDOORS,
        ("at night", "under the stars", "in the moonlight"),
        ("in the night sky", "under the stars"),
        ("a starry night", "a dark night"),
        ("black", "blue"),
    ),
    "desert": Place(
        OUTDOORS,
        ("in the desert", "on a sand dune"),
        ("over the desert", "over the dunes"),
        ("a hot desert", "a desert"),
        ("orange", "yellow"),
    ),
    "sea": Place(
        ("water", "air"),
        ("on the sea", "on the water", "in the waves"),
        ("over the sea", "over the water"),
        ("the blue sea", "open water"),
        ("blue",),
    ),
    "forest": Place(
        ("ground",),
        ("in the forest", "in the woods", "among the trees"),
        (),
        ("a forest", "the dark woods"),
        ("green", "brown"),
    ),
    "room": Place(
        ("ground",),
        ("in the living room", "on the wooden floor", "indoors"),
        (),
        ("a living room", "a room"),
    ),
}
INDOORS = ("dog", "cat", "child", "ball", "umbrella")  # what may be in the room

LANDMARKS = {  # and their colours
    "tree": ("green",),
    "lighthouse": ("red",),
    "house": ("red", "blue", "yellow", "white"),
    "bench": ("brown",),
    "crate": ("brown",),
    "sofa": ("red", "blue", "purple"),
}
RELATIONS = {
    "left of": ("to the left of", "beside", "next to"),
    "right of": ("to the right of", "beside", "next to"),
    "on": ("on", "on top of"),
    "above": ("above", "high above"),
}
SIDES = {
    "left": ("on the left", "on the left side"),
    "middle": ("in the middle", "in the center"),
    "right": ("on the right", "on the right side"),
}
CLIMBERS = ("dog", "cat", "child", "ball")  # what may be on a landmark
NUMBERS = {2: "two", 3: "three"}


# --- choosing ------------------------------------------------------------------------------------


def random_scene(rng: Generator) -> Scene:
    """A scene that makes sense: boats on water, kites in the open, no white cat in the snow."""
    place = _pick(rng, PLACES)
    kind = _pick(rng, [kind for kind in KINDS if _fits(kind, place)])
    clashes = PLACES[place].clashes
    colour = _pick(rng, [c for c in KINDS[kind].colours if c not in clashes])
    relation, landmark, landmark_colour = "", "", ""
    relations = _relations(kind, place)
    if relations and rng.random() < 0.4:
        relation, landmark = _pick(rng, relations)
        options = LANDMARKS[landmark]
        landmark_colour = _pick(rng, [c for c in options if c not in clashes] or options)
    count = int(rng.integers(1, 3 if relation else 4))
    size, side = "", ""
    if count == 1 and not relation:
        size, side = _pick(rng, ("", "small", "big")), _pick(rng, ("", *SIDES))
    return Scene(place, count, colour, kind, size, side, relation, landmark, landmark_colour)


def _pick(rng: Generator, options):
    options = list(options)
    return options[rng.integers(len(options))]


def _fits(kind: str, place: str) -> bool:
    if place == "room":
        return kind in INDOORS
    return KINDS[kind].element in PLACES[place].elements


def _relations(kind: str, place: str) -> list[tuple[str, str]]:
    """Which (relation, landmark) a kind may have in a place."""
    beside = {"sea": ("lighthouse",), "room": ("sofa",)}.get(place, ("tree", "house"))
    if KINDS[kind].element == "air":
        return [("above", landmark) for landmark in beside]
    seats = (beside[0] if place == "room" else "bench", "crate") if kind in CLIMBERS else ()
    return [
        *((relation, landmark) for relation in ("left of", "right of") for landmark in beside),
        *(("on", seat) for seat in seats),
    ]


def distinct_scenes(count: int, seed: int) -> list[Scene]:
    """Scenes of which no two have the same contents."""
    rng = np.random.default_rng(seed)
    scenes: dict[tuple, Scene] = {}
    while len(scenes) < count:
        scene = random_scene(rng)
        scenes.setdefault(scene.contents, scene)
    order = rng.permutation(count)  # the first drawn are the commonest: spread them over the splits
    return [list(scenes.values())[i] for i in order]


# --- describing ----------------------------------------------------------------------------------


def captions(scene: Scene, rng: Generator) -> list[str]:
    """Five sentences about a scene, true and different in what they mention."""
    kind, place = KINDS[scene.kind], PLACES[scene.place]
    be = "is" if scene.count == 1 else "are"
    where = place.over if kind.element == "air" else place.at
    doing = _pick(rng, kind.doing)
    if scene.relation:
        spot = f"{_pick(rng, RELATIONS[scene.relation])} {_landmark(scene)}"
    elif scene.side:
        spot = _pick(rng, SIDES[scene.side])
    else:
        doing, spot = "seen", _pick(rng, where)
    full, plain, bare = (_things(scene, detail) for detail in (2, 1, 0))
    sentences = [
        f"{full} {_pick(rng, kind.doing)} {_pick(rng, where)}",
        f"{plain} {doing} {spot}",
        f"there {be} {full} {_pick(rng, where)}",
        f"{_pick(rng, place.view)} with {plain}" + (f" {spot}" if scene.relation else ""),
        f"{_pick(rng, (plain, bare))} {be} {doing} {_pick(rng, where)}",
    ]
    return [s[0].upper() + s[1:] for s in rng.permutation(sentences).tolist()]


def _things(scene: Scene, detail: int) -> str:
    """The things as words: how many of what; from detail 1 their colour, from 2 their size."""
    one = scene.count == 1
    noun = scene.kind if one else KINDS[scene.kind].plural
    if detail and scene.kind == "child":  # the colour is the coat's
        coat = f"{scene.colour} coat"
        noun += f" in {_with_article(coat)}" if one else f" in {coat}s"
    elif detail:
        noun = f"{scene.colour} {noun}"
    if detail == 2 and scene.size:
        noun = f"{scene.size} {noun}"
    return _with_article(noun) if one else f"{NUMBERS[scene.count]} {noun}"


def _landmark(scene: Scene) -> str:
    named = len(LANDMARKS[scene.landmark]) > 1  # trees are green anyway
    return _with_article(f"{scene.landmark_colour} {scene.landmark}" if named else scene.landmark)


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


# --- drawing -------------------------------------------------------------------------------------


def draw(scene: Scene, rng: Generator) -> Image.Image:
    """The scene as a picture, RGB, `drawing.SIZE` pixels (224) on a side."""
    image = drawing.background(scene.place, rng)
    element = KINDS[scene.kind].element
    size = {"small": 88, "big": 170}.get(scene.size) or {1: 130, 2: 108, 3: 82}[scene.count]
    centre = {"left": 62, "right": 162}.get(scene.side, MIDDLE) + rng.uniform(-8, 8)
    foot = rng.uniform(188, 208) if element != "air" else rng.uniform(0.9, 1.1) * (75 + size / 2)
    if scene.relation:
        size, centre, foot = _beside_landmark(image, scene, rng)
    gap = size * (0.95 if scene.count == 2 else 0.88)
    half = size / 2 + gap * (scene.count - 1) / 2
    centre = np.clip(centre, half, max(half, drawing.SIZE - half))
    for i in range(scene.count):
        x = centre + gap * (i - (scene.count - 1) / 2)
        y = foot + rng.uniform(-4, 4) * (scene.relation != "on")
        if element == "ground" and scene.relation != "on":
            drawing.shadow(image, x, y, size, (0, 0, 0, 70))
        tilt = {"ground": 0, "water": 4, "air": 12}[element]
        drawing.add(
            image, scene.kind, scene.colour, x, y, size * rng.uniform(0.93, 1.05), rng, tilt
        )
        if element == "water":
            drawing.shadow(image, x, y, size, (120, 180, 220, 170))
    return drawing.finish(image, rng)


def _beside_landmark(
    image: Image.Image, scene: Scene, rng: Generator
) -> tuple[float, float, float]:
    """Draw the landmark; return size, centre and foot of the things that go with it."""
    base = rng.uniform(196, 206)
    if scene.relation == "on":
        width, size = 140, {1: 108, 2: 76}[scene.count]
        x = centre = MIDDLE + rng.uniform(-20, 20)
        foot = base - drawing.SEATS[scene.landmark] * width + 3
    elif scene.relation == "above":
        width, size = 104, {1: 100, 2: 90}[scene.count]
        x = centre = MIDDLE + rng.uniform(-24, 24)
        foot = size + rng.uniform(4, 10)
    else:
        base -= 22
        side = -1 if scene.relation == "left of" else 1
        width, size = {1: 104, 2: 84}[scene.count], {1: 106, 2: 72}[scene.count]
        x, foot = MIDDLE - side * (110 - width / 2), rng.uniform(192, 206)
        centre = MIDDLE + side * {1: 58, 2: 46}[scene.count]
    drawing.shadow(image, x, base, width, (0, 0, 0, 70))
    drawing.add(image, scene.landmark, scene.landmark_colour, x, base, width, rng)
    return size, centre, foot


# --- writing -------------------------------------------------------------------------------------


def render_dataset(folder: str | os.PathLike, images: int = 1200, seed: int = 0) -> None:
    """Draw and describe `images` scenes, a twelfth each for dev and test, the rest for train.

    Writes `Flicker8k_Dataset/*.jpg`, `Flickr8k_text/Flickr8k.token.txt`, the three split lists
    and `scenes.json`, which says how they were made and what every picture shows. The same
    `images` and `seed` give the same bytes.

    Raises:
        CaptioningError: `images` or `seed` is out of range, or the folder holds something else.
    """
    folder = Path(folder)
    if not 3 <= images <= MAX_IMAGES:
        raise CaptioningError(
            f"expected 3 to {MAX_IMAGES} images, got {images}; choose another number"
        )
    if seed < 0:
        raise CaptioningError(f"expected a seed of 0 or more, got {seed}; choose another number")
    _make_room(folder)
    scenes = {f"scene{i:04d}": s for i, s in enumerate(distinct_scenes(images, seed))}
    record = {name: dataclasses.asdict(scene) for name, scene in scenes.items()}
    files.write_json(folder / "scenes.json", {"images": images, "seed": seed, "scenes": record})
    photos, texts = folder / "Flicker8k_Dataset", folder / "Flickr8k_text"
    photos.mkdir(parents=True, exist_ok=True)
    lines = []
    with console.Progress(images, "drawing") as progress:
        for number, (name, scene) in enumerate(scenes.items()):
            rng = np.random.default_rng([seed, number])
            draw(scene, rng).save(photos / f"{name}.jpg", quality=85)
            lines += [f"{name}.jpg#{i}\t{c} ." for i, c in enumerate(captions(scene, rng))]
            progress.update()
    held_out = max(1, images // 12)
    names = [f"{name}.jpg" for name in scenes]
    splits = {
        "train": names[: -2 * held_out],
        "dev": names[-2 * held_out : -held_out],
        "test": names[-held_out:],
    }
    for split, members in splits.items():
        _write_lines(texts / f"Flickr_8k.{split}Images.txt", members)
    _write_lines(texts / "Flickr8k.token.txt", lines)  # last: with it the dataset is whole


def _make_room(folder: Path) -> None:
    """Refuse a folder of something else; remove what a new rendering may not overwrite."""
    taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if taken and not (folder / "scenes.json").exists():
        raise CaptioningError(
            f"expected a new or empty folder or an earlier rendering at {folder}, found other "
            "files; name another folder"
        )
    (folder / "Flickr8k_text" / "Flickr8k.token.txt").unlink(missing_ok=True)
    for picture in folder.glob("Flicker8k_Dataset/scene*.jpg"):
        picture.unlink()


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    files.write_text(path, "".join(f"{line}\n" for line in lines))


def main() -> None:
    parser = console.parser(__doc__)
    parser.add_argument("folder", metavar="FOLDER", help="where the dataset is written")
    parser.add_argument(
        "--images",
        type=console.positive_int,
        default=1200,
        metavar="N",
        help=f"how many pictures, 3 to {MAX_IMAGES} (default: 1200)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="another seed, other scenes (default: 0)"
    )
    arguments = parser.parse_args()
    render_dataset(arguments.folder, arguments.images, arguments.seed)
    folder = Path(arguments.folder)
    console.written([*sorted(folder.glob("Flickr8k_text/*.txt")), folder / "scenes.json"])


if __name__ == "__main__":
    console.run(main)
