"""The probe: scikit-learn's figures, near 1 for features that tell the words, else near chance."""

import sys

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import average_precision_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from captioning.evaluation import probe
from captioning.pipeline import artifacts
from captioning.runtime.errors import CaptioningError
from captioning.scores import probes
from captioning.scores.bleu import bleu
from captioning.scores.cider import cider

KINDS = ["dog grass", "boat water", "child swing", "red car street", "snow mountain"]
TRAIN, DEV = 400, 100
rng = np.random.default_rng(0)
kinds = {"train": rng.integers(len(KINDS), size=TRAIN), "dev": rng.integers(len(KINDS), size=DEV)}
CAPTIONS = {
    split: [[f"the {KINDS[kind]}", f"there is {KINDS[kind]}"] for kind in drawn]
    for split, drawn in kinds.items()
}
TELLING = [
    (np.eye(len(KINDS))[drawn] + rng.normal(0, 0.1, (len(drawn), len(KINDS)))).astype(np.float32)
    for drawn in kinds.values()
]
NOISE = [rng.normal(size=(n, 20)).astype(np.float32) for n in (TRAIN, DEV)]


@pytest.fixture(scope="module")
def vague():
    """Features and words that go together only somewhat, so that no figure is 0 or 1."""
    draw = np.random.default_rng(1)
    words = draw.random((TRAIN + DEV, 30)) < draw.uniform(0.02, 0.3, 30)
    features = words @ draw.normal(size=(30, 12)) + draw.normal(0, 2, (TRAIN + DEV, 12))
    features = features.astype(np.float32)
    return features[:TRAIN], features[TRAIN:], words[:TRAIN], words[TRAIN:]


def test_features_that_tell_the_words_score_near_one():
    figures = probes.scores(*TELLING, CAPTIONS["train"], CAPTIONS["dev"])
    assert figures.keys() == probe.columns().keys()
    assert figures["dimension"] == len(KINDS)
    assert min(figures[key] for key in ("recall", "neighbours", "linear")) > 0.99


def test_features_that_tell_nothing_score_near_chance():
    telling = probes.scores(*TELLING, CAPTIONS["train"], CAPTIONS["dev"])
    figures = probes.scores(*NOISE, CAPTIONS["train"], CAPTIONS["dev"])
    chance = probes.chance(CAPTIONS["train"], CAPTIONS["dev"])
    for key in ("recall", "neighbours", "linear"):
        assert figures[key] == pytest.approx(chance[key], abs=0.1), key
    for key in ("bleu4", "cider"):
        assert max(figures[key], chance[key]) < telling[key] / 2, key
    words = [word for kind in KINDS for word in kind.split()]
    shares = [np.mean([word in KINDS[kind].split() for kind in kinds["dev"]]) for word in words]
    assert chance["neighbours"] == chance["linear"] == pytest.approx(np.mean(shares))


def test_the_vote_is_scikit_learns(vague):
    train, dev, train_words, dev_words = vague
    voters = KNeighborsClassifier(
        n_neighbors=50,
        metric="cosine",
        algorithm="brute",
        weights=lambda distance: np.exp(-distance / probes.TEMPERATURE),
    ).fit(train, train_words)
    votes = np.stack([p[:, 1] for p in voters.predict_proba(dev)], axis=1)
    expected = average_precision_score(dev_words, votes, average="macro")
    assert probes.neighbours(*vague, k=50) == pytest.approx(expected, abs=1e-3)
    assert probes.neighbours(*vague, k=TRAIN) != pytest.approx(expected, abs=1e-3)
    assert probes.neighbours(*vague, k=10 * TRAIN) == probes.neighbours(*vague, k=TRAIN)


def test_the_linear_probe_is_scikit_learns_ridge(vague):
    """With the strength that does best when every fifth train image is held back."""
    train, dev, train_words, dev_words = vague
    scaler = StandardScaler().fit(train)
    train, dev = scaler.transform(train), scaler.transform(dev)
    centred = train_words - train_words.mean(axis=0)
    held = np.arange(TRAIN) % 5 == 0

    def precision(rows, strength, asked, words):
        ridge = Ridge(alpha=strength * rows.sum(), fit_intercept=False)
        answers = ridge.fit(train[rows], centred[rows]).predict(asked)
        return average_precision_score(words, answers, average="macro")

    held_scores = [precision(~held, s, train[held], train_words[held]) for s in probes.STRENGTHS]
    best = probes.STRENGTHS[int(np.argmax(held_scores))]
    expected = precision(np.ones(TRAIN, bool), best, dev, dev_words)
    assert probes.linear(*vague) == pytest.approx(expected, abs=1e-3)
    others = [precision(np.ones(TRAIN, bool), s, dev, dev_words) for s in probes.STRENGTHS]
    assert max(others) - min(others) > 0.01  # so that the choice shows


def test_features_may_be_half_precision_constant_or_zero(vague):
    train, dev, *words = vague
    train, dev = (np.pad(f, ((0, 0), (0, 2)), constant_values=((0, 0), (0, 3))) for f in vague[:2])
    train[0] = 0
    for measure in (probes.neighbours, probes.linear):
        full = measure(train, dev, *words)
        half = measure(train.astype(np.float16), dev.astype(np.float16), *words)
        assert 0 < full < 1
        assert half == pytest.approx(full, abs=0.02)


def test_words_of_no_dev_image_do_not_count():
    words = np.array([[True, False], [False, False], [True, False]])
    predicted = np.array([[0.9, 0.1], [0.2, 0.5], [0.8, 0.3]])
    assert probes.mean_average_precision(predicted, words) == 1
    assert np.isnan(probes.mean_average_precision(predicted, np.zeros_like(words)))


def test_retrieval_scores_the_captions_of_the_images_it_is_given():
    train = [["a brown dog runs on grass", "dog on the grass"], ["boat on blue water with people"]]
    dev = [["the boat on blue water with two people in it"], ["brown dog runs on grass today"]]
    figures = probes.retrieval(np.array([1, 0]), train, dev)
    # boat, blue, water, people; brown, dog, runs, grass of brown, dog, runs, grass, today
    assert figures["recall"] == pytest.approx(8 / 9)
    references = {"x": dev[0], "y": dev[1]}
    rounds = [
        {"x": train[1][0].split(), "y": train[0][i].split()} for i in (0, 1, 0, 1, 0)
    ]  # an image with fewer captions begins again with its first
    expected = np.mean([cider(said, references) for said in rounds])
    bleu4 = np.mean([bleu(said, references, "standard")[3] for said in rounds])
    assert figures["cider"] == pytest.approx(expected)
    assert figures["bleu4"] == pytest.approx(bleu4)
    assert probes.retrieval(np.array([0, 1]), train, dev)["recall"] == 0


def test_frequent_words_are_content_words_by_the_number_of_images():
    captions = [["the dog dog dog", "dog"], ["the boat"], ["the boat", ""]]
    assert probes.frequent_words(captions) == ["boat", "dog"]
    assert probes.frequent_words(captions, 1) == ["boat"]
    assert probes.holds(captions, ["boat", "dog"]).tolist() == [
        [False, True],
        [True, False],
        [True, False],
    ]
    with pytest.raises(CaptioningError, match="expected English words"):
        probes.frequent_words([["the of"], [""]])


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["probe", *map(str, arguments)])
    probe.main()


def test_the_table_has_a_row_for_chance_and_for_each_argument(tiny, monkeypatch, capsys):
    """On coloured squares whose captions tell the colour; test pictures are not read."""
    monkeypatch.setattr(probes, "STRENGTHS", (1,))  # 3072 pixels take a while for each
    draw = np.random.default_rng(0)
    names = sorted(path.stem for path in (tiny / "Flicker8k_Dataset").iterdir())
    noise = {name: draw.normal(size=(1, 6)).astype(np.float32) for name in names}
    artifacts.save_features(tiny / "noise", noise, {})
    run(
        monkeypatch,
        *("--dataset", tiny, "--workdir", tiny),
        *("pixels", "colours", tiny / "noise" / "features.pkl"),
    )
    said = capsys.readouterr()
    assert "pictures: 20/20 images" in said.err
    header, line, *rows = (row.strip("| ").split(" | ") for row in said.out.splitlines())
    assert header == ["features", *probe.columns().values(), "seconds"]
    assert line == ["|".join(["---"] * len(header))]
    assert [row[:2] for row in rows] == [
        ["chance", "–"],
        ["pixels", "3072"],
        ["colours", "512"],
        ["noise", "6"],
    ]
    precisions = [float(row[-2]) for row in rows]
    assert precisions[1:3] == [1, 1]
    assert max(precisions[0], precisions[3]) < 1


def test_mistakes_get_a_sentence(tiny, tmp_path, monkeypatch):
    with pytest.raises(CaptioningError, match="pixels, colours, found no file pixel;"):
        run(monkeypatch, "--dataset", tiny, "pixels", "pixel")
    with pytest.raises(CaptioningError, match=r"Flickr8k.token.txt, or dataset_flickr8k.json"):
        run(monkeypatch, "--dataset", tmp_path / "nowhere", "pixels")
    names = [path.stem for path in (tiny / "Flicker8k_Dataset").iterdir()]
    artifacts.save_features(tmp_path, {n: np.full((1, 2), np.nan, "f4") for n in names}, {})
    with pytest.raises(CaptioningError, match="expected finite numbers, found NaN"):
        run(monkeypatch, "--dataset", tiny, tmp_path / "features.pkl")
