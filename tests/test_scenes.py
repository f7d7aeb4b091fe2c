"""The demo dataset: a sound Flickr8k layout, true captions, and pictures of what they say."""

import collections
import dataclasses
import itertools
import re

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from captioning.demo import drawing, scenes
from captioning.demo.scenes import Scene
from captioning.runtime.errors import CaptioningError

SPLITS = ("train", "dev", "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    scenes.render_dataset(folder, images=48, seed=3)
    return folder


def read_captions(folder):
    captions = collections.defaultdict(list)
    for line in (folder / "Flickr8k_text/Flickr8k.token.txt").read_text().splitlines():
        name, number, caption = re.fullmatch(r"(\S+\.jpg)#(\d)\t(.+)", line).groups()
        assert int(number) == len(captions[name])
        captions[name].append(caption)
    return captions


def read_split(folder, split):
    return (folder / f"Flickr8k_text/Flickr_8k.{split}Images.txt").read_text().splitlines()


def test_layout_is_that_of_flickr8k(folder):
    pictures = {path.name for path in (folder / "Flicker8k_Dataset").iterdir()}
    captions = read_captions(folder)
    assert len(pictures) == 48
    assert captions.keys() == pictures
    assert {len(five) for five in captions.values()} == {5}
    splits = [read_split(folder, split) for split in SPLITS]
    assert [len(split) for split in splits] == [40, 4, 4]
    assert sorted(itertools.chain(*splits)) == sorted(pictures)


def test_pictures_are_small_colour_jpegs(folder):
    for path in (folder / "Flicker8k_Dataset").iterdir():
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (224, 224))


def test_captions_are_sentences_of_plain_words(folder):
    for five in read_captions(folder).values():
        assert len(set(five)) == 5
        for caption in five:
            assert re.fullmatch(r"[A-Z][a-z]*( [a-z]+)+ \.", caption)


def read_bytes(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_same_seed_same_bytes(folder, tmp_path):
    scenes.render_dataset(tmp_path / "again", images=48, seed=3)
    assert read_bytes(tmp_path / "again") == read_bytes(folder)


def test_another_seed_gives_other_scenes(folder, tmp_path):
    scenes.render_dataset(tmp_path, images=48, seed=4)
    before, after = read_captions(folder), read_captions(tmp_path)
    assert sum(before[name] != after[name] for name in before) > 40


def test_no_two_pictures_have_the_same_contents():
    drawn = scenes.distinct_scenes(scenes.MAX_IMAGES, seed=0)
    contents = {dataclasses.replace(scene, size="", side="", relation="") for scene in drawn}
    assert len(drawn) == len(contents) == scenes.MAX_IMAGES


def test_rendering_again_replaces_the_earlier_one(tmp_path):
    scenes.render_dataset(tmp_path, images=8, seed=0)
    scenes.render_dataset(tmp_path, images=5, seed=0)
    assert len(list((tmp_path / "Flicker8k_Dataset").iterdir())) == 5
    assert len(read_captions(tmp_path)) == 5


def test_refuses_a_folder_of_something_else(tmp_path):
    precious = tmp_path / "Flickr8k_text" / "Flickr8k.token.txt"
    precious.parent.mkdir()
    precious.write_text("mine")
    with pytest.raises(CaptioningError, match="name another folder"):
        scenes.render_dataset(tmp_path, images=5)
    with pytest.raises(CaptioningError, match="name another folder"):
        scenes.render_dataset(precious, images=5)
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("wrong", [{"images": 2}, {"images": 10**6}, {"images": 9, "seed": -1}])
def test_refuses_numbers_out_of_range(tmp_path, wrong):
    with pytest.raises(CaptioningError, match="expected"):
        scenes.render_dataset(tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()


# --- captions tell the truth ---------------------------------------------------------------------


def mentioned(caption):
    """The facts a caption states, read back from its words."""
    words = caption.lower().replace("green field", "").replace("blue sea", "").split()
    nouns = {kind: kind for kind in (*scenes.KINDS, *scenes.LANDMARKS)}
    nouns |= {kind.plural: name for name, kind in scenes.KINDS.items()}
    return {
        "nouns": {nouns[word] for word in words if word in nouns},
        "colours": {word for word in words if word in drawing.COLOURS},
        "numbers": {word for word in words if word in ("two", "three")},
        "sizes": {word for word in words if word in ("small", "big")},
        "sides": {word for word in words if word in ("left", "right", "middle", "center")},
        "plural": any(word in nouns and word not in nouns.values() for word in words),
    }


def test_captions_state_only_what_the_scene_holds():
    rng = np.random.default_rng(0)
    for _ in range(1500):
        scene = scenes.random_scene(rng)
        side = scene.side or scene.relation.removesuffix(" of")
        for caption in scenes.captions(scene, rng):
            facts = mentioned(caption)
            assert scene.kind in facts["nouns"], caption
            assert facts["nouns"] <= {scene.kind, scene.landmark}, caption
            assert facts["colours"] <= {scene.colour, scene.landmark_colour}, caption
            assert facts["numbers"] == {1: set(), 2: {"two"}, 3: {"three"}}[scene.count]
            assert facts["plural"] == (scene.count > 1), caption
            assert facts["sizes"] <= {scene.size}, caption
            assert facts["sides"] <= {side, "center" if side == "middle" else side}, caption


def test_captions_mention_different_things():
    scene = Scene("beach", 1, "red", "ball", relation="left of", landmark="house",
                  landmark_colour="blue")  # fmt: skip
    five = scenes.captions(scene, np.random.default_rng(0))
    with_house = sum("blue house" in caption for caption in five)
    with_colour = sum("red ball" in caption for caption in five)
    assert 1 <= with_house < 5
    assert 4 <= with_colour <= 5


def test_articles_and_numbers_agree():
    rng = np.random.default_rng(1)
    for _ in range(1000):
        scene = scenes.random_scene(rng)
        for caption in scenes.captions(scene, rng):
            assert not re.search(r"\b(a [aeiou]|an [^aeiou])", caption, re.IGNORECASE), caption
            assert (" are " in caption) <= (scene.count > 1), caption
            assert (" is " in caption) <= (scene.count == 1), caption


# --- pictures show it ----------------------------------------------------------------------------


def near(pixels, colour, tolerance=45):
    """Where pixels (h, w, 3) have a named colour."""
    distance = np.abs(pixels.astype(int) - drawing.COLOURS[colour]).max(axis=-1)
    return distance < tolerance


def picture(scene, seed=0):
    return np.asarray(scenes.draw(scene, np.random.default_rng(seed)))


def centre(mask):
    """Mean (x, y) of a mask's pixels."""
    y, x = np.nonzero(mask)
    assert len(x) > 150
    return x.mean(), y.mean()


@pytest.mark.parametrize(
    ("kind", "colour"),
    [(name, colour) for name, kind in scenes.KINDS.items() for colour in kind.colours],
)
def test_the_named_colour_dominates_the_thing(kind, colour):
    rng = np.random.default_rng(0)
    image = Image.new("RGBA", (drawing.SIZE * drawing.OVERSAMPLING,) * 2)
    drawing.add(image, kind, colour, 112, 190, 150, rng)
    pixels = np.asarray(image)
    thing = pixels[pixels[..., 3] > 0][:, :3].astype(int)
    assert len(thing) > 0.02 * pixels.shape[0] * pixels.shape[1]
    names = list(drawing.COLOURS)
    distances = [np.abs(thing - drawing.COLOURS[name]).sum(axis=1) for name in names]
    nearest = np.argmin(distances, axis=0)
    assert names[np.bincount(nearest).argmax()] == colour


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("place", ["beach", "snow", "street", "night"])
def test_as_many_balls_as_counted(count, place):
    mask = near(picture(Scene(place, count, "purple", "ball")), "purple")
    areas = np.bincount(ndimage.label(mask)[0].ravel())[1:]
    assert (areas > 300).sum() == count


@pytest.mark.parametrize("seed", range(3))
def test_sides_and_sizes(seed):
    small, big = (
        near(picture(Scene("meadow", 1, "purple", "tent", size), seed), "purple").sum()
        for size in ("small", "big")
    )
    assert big > 2 * small
    left, middle, right = (
        centre(near(picture(Scene("meadow", 1, "purple", "tent", "", side), seed), "purple"))[0]
        for side in ("left", "middle", "right")
    )
    assert left + 20 < middle < right - 20


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("count", [1, 2])
def test_relations(count, seed):
    def centres(kind, relation, landmark, colour="red"):
        scene = Scene("meadow", count, "purple", kind, "", "", relation, landmark, colour)
        pixels = picture(scene, seed)
        return centre(near(pixels, "purple")), centre(near(pixels, colour))

    (ball, _), (house, _) = centres("ball", "left of", "house")
    assert ball + 50 < house
    (ball, _), (house, _) = centres("ball", "right of", "house")
    assert ball - 50 > house
    (_, kite), (_, house) = centres("kite", "above", "house")
    assert kite + 60 < house
    (_, ball), (_, crate) = centres("ball", "on", "crate", "brown")
    assert ball + 50 < crate


def test_any_scene_differs_visibly_from_its_empty_place():
    rng = np.random.default_rng(5)
    for seed in range(80):
        scene = scenes.random_scene(rng)
        empty = drawing.background(scene.place, np.random.default_rng(seed))
        empty = np.asarray(empty.reduce(drawing.OVERSAMPLING)).astype(int)
        changed = np.abs(picture(scene, seed) - empty).max(axis=-1) > 40
        assert changed.mean() > 0.02, scene
