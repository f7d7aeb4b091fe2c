"""Grids of features: the encoder's, their file, and the way from pictures to captions by them."""

import json
import multiprocessing
import pickle
import tracemalloc

import h5py
import numpy as np
import pytest
from PIL import Image
from toys import looking_decoder

from captioning.data import grids, images, seen
from captioning.data.captions import fit_tokenizer
from captioning.data.grids import Grid
from captioning.data.ids import ImageIds
from captioning.decoders import captioner
from captioning.decoders.registry import DECODERS
from captioning.encoders import extraction, loading
from captioning.objectives.data import CaptionData
from captioning.pipeline import artifacts, caption, score
from captioning.pipeline import extract as stage
from captioning.pipeline import train as training
from captioning.runtime import files
from captioning.runtime.errors import CaptioningError

IDS = ["a", "ö.b", "c", "d", "e", "f"]
VALUES = np.random.default_rng(0).normal(3, 2, (6, 4, 5)).astype("float16")


def write(folder, values=VALUES, ids=IDS, **record):
    order = np.random.default_rng(1).permutation(len(ids))  # pieces come in any order
    pieces = [(order[i : i + 4], values[order[i : i + 4]]) for i in range(0, len(ids), 4)]
    record = {"encoder": {"name": "e", "grid": [2, 2]}} | record
    return grids.write(folder / artifacts.GRID, ids, values.shape[1:], pieces, record)


def test_rows_come_in_the_order_asked_for(tmp_path):
    grid = Grid(write(tmp_path))
    assert (grid.ids, grid.shape, len(grid)) == (IDS, (6, 4, 5), 6)
    for rows in ([5, 2, 2], np.array([0, 5, 1]), slice(1, 4), [], [-1]):
        np.testing.assert_array_equal(grid[rows], VALUES[rows].astype("float32"))
        assert grid[rows].dtype == np.float32
    chosen = grid.select(["e", "a", "ö.b"])
    np.testing.assert_array_equal(chosen[[2, 0]], VALUES[[1, 4]])
    assert ("e" in chosen, "c" in chosen, "c" in grid) == (True, False, True)
    with pytest.raises(KeyError, match="missing"):
        grid.select(["missing"])


def test_plain_hdf5_reads_the_file(tmp_path):
    path = write(tmp_path, seen_by_encoder=[f"{i:064d}" for i in range(2000)])  # over 64 kB
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["features"][:], VALUES)
        assert [name.decode() for name in file["ids"]] == IDS
        assert json.loads(file.attrs["record"])["encoder"]["grid"] == [2, 2]
        assert file["features"].chunks is None
    assert len(Grid(path).record["seen_by_encoder"]) == 2000


def _sum(grid, rows, results):
    results.put(float(grid[rows].sum()))


def test_another_process_reads_the_same(tmp_path):
    grid = Grid(write(tmp_path)).select(IDS[::-1])
    expected = float(grid[[4, 1]].sum())  # opened before the fork
    again = pickle.loads(pickle.dumps(grid))
    np.testing.assert_array_equal(again[:], VALUES[::-1])
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=_sum, args=(grid, [4, 1], results))
    process.start()
    assert results.get(timeout=30) == expected
    process.join()


def test_a_digest_is_of_the_numbers_and_the_images(tmp_path):
    one = Grid(write(tmp_path))
    assert one.digest == Grid(write(tmp_path, encoder={"name": "other"})).digest
    assert one.digest != one.select(IDS[1:]).digest
    assert one.digest != Grid(write(tmp_path, VALUES + np.float16(1))).digest


@pytest.mark.parametrize("value", [70_000, -1e6, np.inf, np.nan])
def test_a_number_that_16_bits_do_not_hold_is_refused(value):
    values = VALUES.astype("float32")
    assert grids.narrowed(values, IDS).dtype == np.float16
    values[2, 1, 3] = value
    with pytest.raises(CaptioningError, match="at most 65,504 in the grid of c, "):
        grids.narrowed(values, IDS)


def test_a_file_that_is_not_finite_names_the_image(tmp_path):
    values = VALUES.copy()
    values[3, 1, 1] = np.nan
    grid = Grid(write(tmp_path, values))
    assert np.isfinite(grid[[0, 4]]).all()
    with pytest.raises(CaptioningError, match="NaN or infinity in the grid of d; make it again"):
        grid[[0, 3, 4]]


def _change(path, name, value, **how):
    with h5py.File(path, "r+") as file:
        del file[name]
        file.create_dataset(name, data=value, **how)


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: p.unlink(),
        lambda p: p.write_bytes(b""),
        lambda p: p.write_bytes(p.read_bytes()[:-50]),
        lambda p: p.write_bytes(p.read_bytes()[:300]),
        lambda p: p.write_text("features"),
        lambda p: _change(p, "features", VALUES[:, 0]),
        lambda p: _change(p, "features", VALUES.astype("float32")),
        lambda p: _change(p, "features", VALUES[:0]),
        lambda p: _change(p, "features", VALUES, chunks=(1, 4, 5)),
        lambda p: _change(p, "ids", np.array([b"a", b"b"])),
        lambda p: _change(p, "ids", np.array([b"a"] * 6)),
        lambda p: _change(p, "ids", ["a"] * 6, dtype=h5py.string_dtype()),
        lambda p: h5py.File(p, "r+").attrs.update(record="[]"),
        lambda p: h5py.File(p, "r+").attrs.update(record=["{}"] * 3),
        lambda p: h5py.File(p, "r+").attrs.pop("record"),
    ],
)
def test_a_damaged_file_is_one_sentence(tmp_path, damage):
    path = write(tmp_path)
    damage(path)
    with pytest.raises(CaptioningError, match=r"features-grid\.hdf5") as refused:
        Grid(path)
    assert "make it" in str(refused.value)


def test_features_in_another_file_are_refused(tmp_path):
    path = write(tmp_path)
    path.rename(tmp_path / "other.hdf5")
    with h5py.File(path, "w") as file:
        file["features"] = h5py.ExternalLink("other.hdf5", "features")
    with pytest.raises(CaptioningError, match="it has no features"):
        Grid(path)


def test_a_file_in_use_is_said_so(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    path = write(tmp_path)
    with open(path, "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(CaptioningError, match="is in use by a program"):
            Grid(path)
    Grid(path)


def test_a_writer_that_fails_leaves_the_old_file(tmp_path):
    before = write(tmp_path).read_bytes()

    def pieces():
        yield np.arange(3), VALUES[:3] * 0
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        grids.write(tmp_path / artifacts.GRID, IDS, (4, 5), pieces(), {})
    with pytest.raises(ValueError, match="3 images are missing"):
        grids.write(tmp_path / artifacts.GRID, IDS, (4, 5), [(np.arange(3), VALUES[:3])], {})
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]


def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(grids, "_BLOCK", 2**18)
    values = np.zeros((16, 16, 512), "float16")  # 256 kB a piece

    def peak(pieces):
        ids = [f"{i}" for i in range(16 * pieces)]
        rows = ((np.arange(16) + 16 * i, values) for i in range(pieces))
        path = tmp_path / f"{pieces}.hdf5"
        tracemalloc.start()
        grids.write(path, ids, (16, 512), rows, {})
        written = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        _data(Grid(path), ids).standardised(1)
        read = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return max(written, read)

    peak(1)  # what is loaded once
    assert peak(32) < peak(4) + 2**20  # of 8 MB


def _data(features, ids, looks=True):
    descriptions = {key: ["a dog"] for key in ids}
    splits = {"train": ids, "dev": ids[:1]}
    return CaptionData.prepare(
        splits, descriptions, features, fit_tokenizer(descriptions, ids), looks
    )


def test_grids_are_standardised_over_images_and_places(tmp_path, monkeypatch):
    monkeypatch.setattr(grids, "_BLOCK", 200)  # several blocks
    data = _data(Grid(write(tmp_path)), IDS)
    assert (data.dimension, data.tokens) == (5, 4)
    standardised, how = data.standardised(0.5)
    rows = VALUES.astype("float64").reshape(-1, 5)
    np.testing.assert_allclose(how.mean, rows.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(how.scale, rows.std(axis=0) / 0.5, rtol=1e-5)
    np.testing.assert_allclose(
        standardised.train_features[[5, 2, 2]],
        ((rows - rows.mean(axis=0)) / rows.std(axis=0) * 0.5).reshape(6, 4, 5)[[5, 2, 2]],
        atol=1e-5,
    )
    assert standardised.train_features.shape == (6, 4, 5)


def test_pooled_features_are_a_grid_of_one_place():
    pooled = {key: VALUES[i, :1].astype("float32") for i, key in enumerate(IDS)}
    flat, looked = _data(pooled, IDS, looks=False), _data(pooled, IDS)
    assert (flat.train_features.shape, looked.train_features.shape) == ((6, 5), (6, 1, 5))
    assert (flat.tokens, looked.tokens, looked.dimension) == (1, 1, 5)
    (a, how_a), (b, how_b) = flat.standardised(0.1), looked.standardised(0.1)
    np.testing.assert_allclose(how_a.mean, how_b.mean, rtol=1e-5)
    np.testing.assert_allclose(how_a.scale, how_b.scale, rtol=1e-4)
    np.testing.assert_allclose(a.train_features[:2], b.train_features[:2][:, 0], atol=1e-5)


@pytest.mark.parametrize("crops", [1, 2, 10])
def test_the_mean_over_places_is_the_feature_of_the_whole_picture(untrained, photographs, crops):
    encoder = loading.load(untrained, crops=crops)
    side = encoder.size
    pixels = np.stack([np.array(Image.fromarray(p).resize((side, side))) for p in photographs])
    features, grid = encoder.extract_both(pixels, batch_size=1)
    assert (encoder.grid, grid.shape, grid.dtype) == ((6, 6), (2, 36, 128), np.float32)
    np.testing.assert_allclose(features, encoder.extract(pixels), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(grid, encoder.extract_grid(pixels), rtol=1e-4, atol=1e-5)
    if crops == 1:
        np.testing.assert_allclose(grid.mean(axis=1), features[:, 0], rtol=1e-4, atol=1e-5)
    elif crops == 2:  # the mirror image's grid is nearly, but for paddings, the mirrored grid
        of_whole = loading.load(untrained).extract_grid(pixels)
        np.testing.assert_allclose(grid, of_whole, rtol=1e-4, atol=1e-5)
    # row by row: what changes at the bottom right changes the last place and not the first
    pixels[:, -4:, -4:] = 0
    changed = np.abs(encoder.extract_grid(pixels) - grid).max(axis=-1)
    assert (changed[:, -1] > 1e-2).all()
    assert changed[:, 0].max() < 1e-4
    pixels[:, :4, -4:] = 0
    before, grid = grid, encoder.extract_grid(pixels)
    assert (np.abs(grid - before).max(axis=-1)[:, 5] > 1e-2).all()


def test_an_encoder_without_a_grid_is_refused_before_the_work(tmp_path):
    import keras

    pixels = keras.Input((8, 8, 3), dtype="uint8")
    network = keras.Model(pixels, keras.layers.Flatten()(pixels))
    nine_tiles = loading.Encoder(network, {"name": "jigsaw small"})
    with pytest.raises(CaptioningError, match=r"found jigsaw small, which has no .*leave --grid"):
        stage.extract(nine_tiles, [], tmp_path, 2, grid=True)


class Corners:
    """An encoder that needs no network: the colours of the four quarters, and their mean."""

    size, tokens, dimension, grid, seen = 8, 1, 3, (2, 2), seen.NONE
    record = {"name": "corners", "file": None, "sha256": None, "preprocessing": None}  # noqa: RUF012
    grid_record = record | {"grid": [2, 2]}

    def __init__(self, stop=1000, brightness=1.0):
        self.count, self.stop, self.brightness = 0, stop, brightness

    def extract_both(self, pixels, batch_size):
        self.count += len(pixels)
        if self.count > self.stop:
            raise KeyboardInterrupt
        parts = pixels.reshape(-1, 2, 4, 2, 4, 3).mean(axis=(2, 4)).reshape(-1, 4, 3)
        grid = (parts * self.brightness).astype("float32")
        return grid.mean(axis=1, keepdims=True), grid

    def extract(self, pixels, batch_size):
        return self.extract_both(pixels, batch_size)[0]

    def extract_grid(self, pixels):
        return self.extract_both(pixels, 1)[1]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for i in range(20):
        quarters = rng.integers(0, 256, (2, 2, 3)).astype("uint8")
        pixels = quarters.repeat(8, axis=0).repeat(8, axis=1)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i:02d}.png")
    return tmp_path / "images"


def extract(folder, encoder=None, workdir="work", grid=True):
    paths, _ = stage.extract(
        encoder or Corners(), images.list_files(folder), folder.parent / workdir, 2, grid=grid
    )
    return paths


def test_grids_lie_beside_the_features_of_the_same_images(folder, capsys):
    (folder / "07.png").write_bytes(b"no picture")
    features, record, path = extract(folder)
    assert path.name == "features-grid.hdf5"
    grid, pooled = Grid(path), artifacts.read_features(features)
    assert grid.ids == list(pooled)
    assert grid.shape == (19, 4, 3)
    np.testing.assert_allclose(
        grid[:].mean(axis=1), np.concatenate(list(pooled.values())), rtol=1e-3
    )
    said = json.loads(record.read_text())
    expected = said | {"encoder": Corners.grid_record, "tokens": 4}
    del expected["features_sha256"]
    assert {key: grid.record[key] for key in expected} == expected
    assert list((folder.parent / "work").glob("features.partial/*")) == []
    extract(folder, grid=False)
    assert "features-grid.hdf5 is of an earlier run" in capsys.readouterr().err


@pytest.mark.parametrize("large", [1, 2**25])  # a piece a batch, and pieces of 16 batches
def test_an_interrupted_run_goes_on_and_ends_the_same(folder, large, monkeypatch):
    *_, path = extract(folder)
    whole = Grid(path)
    monkeypatch.setattr(extraction, "_LARGE", large)
    monkeypatch.setattr(extraction, "_PIECE", 4)
    with pytest.raises(KeyboardInterrupt):
        extract(folder, Corners(stop=12), "again")
    pieces = sorted((folder.parent / "again" / extraction.PARTIAL).glob("*.npz"))
    pieces[0].write_bytes(pieces[0].read_bytes()[:400])  # and one is damaged
    assert not (folder.parent / "again" / artifacts.GRID).exists()
    encoder, writing = Corners(), grids.files.atomic

    def killed(path):
        if path.name == artifacts.GRID:
            raise KeyboardInterrupt
        return writing(path)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(grids.files, "atomic", killed)
        extract(folder, encoder, "again")
    assert encoder.count == 10 if large == 1 else 20
    encoder = Corners()
    *_, path = extract(folder, encoder, "again")
    assert encoder.count == 0
    again = Grid(path)
    assert (again.ids, again.record, again.digest) == (whole.ids, whole.record, whole.digest)
    np.testing.assert_array_equal(again[:], whole[:])


def test_pieces_without_grids_are_not_taken_for_some_with(folder):
    paths = images.list_files(folder)
    how = (2, folder.parent / "work", False, ImageIds(paths))
    extraction.extract(Corners(), paths, *how)
    encoder = Corners()
    assert len(list(extraction.extract(encoder, paths, *how, grid=True).grids)) == 1
    assert encoder.count == 20


def test_an_image_that_16_bits_do_not_hold_is_named(folder):
    with pytest.raises(CaptioningError, match=r"grid of .*images/0\d\.png, .* leave --grid out"):
        extract(folder, Corners(brightness=1000))


COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A work folder with a captioner that looks: scripts 1 and 2 on quarters of one colour."""
    DECODERS.add("looking", looking_decoder(), "looks")
    folder = tmp_path_factory.mktemp("looking")
    (folder / "images").mkdir()
    rng, captions = np.random.default_rng(0), {}
    for i in range(60):
        colour = list(COLOURS)[i % 3]
        quarters = rng.integers(60, 90, (2, 2, 3))
        quarters[tuple(rng.integers(0, 2, 2))] = COLOURS[colour]
        pixels = quarters.repeat(8, axis=0).repeat(8, axis=1).astype("uint8")
        Image.fromarray(pixels).save(folder / "images" / f"{i:02d}.png")
        captions[f"{i:02d}"] = [f"{colour} square"]
    ids, workdir = sorted(captions), folder / "work"
    extract(folder / "images")
    artifacts.save_descriptions(workdir, captions)
    for split, part in (("train", ids[:42]), ("dev", ids[42:]), ("test", ids[59:])):
        (workdir / f"Flickr_8k.{split}Images.txt").write_text("\n".join(part))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("captioning.runtime.training.draw_curves", lambda path, history: path)
        *_, path = train(folder, workdir)
    yield folder, workdir, path
    DECODERS.remove("looking")


def train(folder, workdir, epochs=6):
    changed = ["learning_rate=0.03", "feature_std=1"]
    how = {"recipe": "fast", "decoder": "looking", "changed": changed, "batch_size": 8}
    paths = training.train(folder, workdir, epochs=epochs, **how)
    return [path for path in paths if path.suffix == ".keras"]


def scored(folder, workdir, path):
    score.score(folder, workdir, 0, "dev", path)
    return json.loads((workdir / "captions-dev.json").read_text())


def test_a_decoder_that_looks_is_trained_scored_and_used_on_grids(trained, capsys, monkeypatch):
    folder, workdir, path = trained
    learned = captioner.load(path)
    assert learned.takes_grid
    assert learned.decoder.config.tokens == 4
    assert learned.record["encoder"] == Corners.grid_record
    expected = {f"{i:02d}": f"{list(COLOURS)[i % 3]} square" for i in range(42, 60)}
    monkeypatch.setattr("captioning.search.captions._NUMBERS", 50)  # four images a batch
    assert scored(folder, workdir, path) == expected
    tokenizer = fit_tokenizer(artifacts.load_descriptions(workdir), expected)
    artifacts.save_tokenizer(workdir / "tokenizer.pkl", tokenizer)
    monkeypatch.setattr(caption, "_encoder_of", lambda *_: Corners())
    capsys.readouterr()
    photos = [folder / "images" / f"{key}.png" for key in expected]
    how = dict.fromkeys(("model", "tokenizer_file", "encoder_name", "output"))
    caption.caption(photos, workdir, **how, as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert [row["caption"] for row in said] == list(expected.values())


def test_the_same_photo_has_the_same_grid_in_scripts_1_and_5(untrained, folder):
    *_, path = extract(folder, loading.load(untrained, crops=2))
    again = loading.from_record(Grid(path).record["encoder"])
    (batch,) = images.batches(images.list_files(folder), again.size, 32)
    made = again.extract_grid(batch.pixels)
    np.testing.assert_allclose(Grid(path)[:], made, rtol=6e-4, atol=1e-4)  # 16 bits
    pooled = list(artifacts.read_features(path.with_name("features.pkl")).values())
    np.testing.assert_allclose(pooled, again.extract(batch.pixels), rtol=1e-4, atol=1e-4)


def test_grids_and_captioners_that_do_not_belong_together_are_refused(trained, tmp_path, capsys):
    folder, workdir, path = trained
    other = tmp_path / "other"
    other.mkdir()
    for file in workdir.iterdir():
        if file.name != "features-grid.hdf5" and file.is_file():
            files.copy(file, other / file.name)
    with pytest.raises(CaptioningError, match=r"features-grid\.hdf5, found none; .* --grid"):
        scored(folder, other, path)
    grid = Grid(workdir / artifacts.GRID)

    def place(values, ids=grid.ids, **encoder):
        pieces = [(np.arange(len(values)), values.astype("float16"))]
        record = grid.record | {"encoder": Corners.grid_record | encoder}
        grids.write(other / artifacts.GRID, ids, values.shape[1:], pieces, record)

    place(grid[:], name="another")
    with pytest.raises(CaptioningError, match=r"of one encoder, found corners and another \(grid"):
        scored(folder, other, path)
    (other / "features.json").unlink()
    with pytest.raises(CaptioningError, match=r"trained on features of corners .* of another"):
        scored(folder, other, path)
    place(grid[:][:, :3], grid=[1, 3])
    with pytest.raises(CaptioningError, match=r"features 4 of 3 numbers an image, .* 3 of 3;"):
        scored(folder, other, path)
    place(grid[:][:50], grid.ids[:50])
    capsys.readouterr()
    assert len(scored(folder, other, path)) == 8
    assert "dev: 10 of 18 images have no features (50, 51, 52, …)" in (
        said := capsys.readouterr().err
    )
    assert "--only features --grid makes them" in said


def test_without_grids_a_decoder_looks_at_pooled_features(trained, tmp_path, capsys):
    folder, workdir, _ = trained
    for file in workdir.iterdir():
        if file.suffix in {".pkl", ".json", ".txt"}:
            files.copy(file, tmp_path / file.name)
    *_, path = train(folder, tmp_path, epochs=1)
    assert "looks at features.pkl, as grids of one place" in capsys.readouterr().err
    learned = captioner.load(path)
    assert not learned.takes_grid
    assert learned.decoder.config.tokens == 1
    files.copy(workdir / artifacts.GRID, tmp_path / artifacts.GRID)
    assert len(scored(folder, tmp_path, path)) == 18  # whether or not there are grids by now
    learned.check_features(3, Corners.record, 1)
    with pytest.raises(CaptioningError, match=r"features of corners, these are .*\(grid \[2, 2\]"):
        learned.check_features(3, Corners.grid_record)

    descriptions = artifacts.load_descriptions(tmp_path)
    artifacts.save_tokenizer(tmp_path / "tokenizer.pkl", fit_tokenizer(descriptions, descriptions))
    maps = tmp_path / "maps.png"
    how = dict.fromkeys(("model", "tokenizer_file", "encoder_name")) | {"as_json": True}
    for output, sentence in (
        (None, "found the decoder 'looking', trained on pooled features; .* --grid"),
        (maps, "expected two files for --output and --attention"),
    ):
        with pytest.raises(CaptioningError, match=sentence):
            caption.caption(
                [folder / "images" / "00.png"], tmp_path, output=output, attention=maps, **how
            )
        assert not maps.exists()
