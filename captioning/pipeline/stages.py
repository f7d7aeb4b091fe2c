"""The stages of the pipeline, told once: the numbered scripts and the jigsaw scripts run them.

Each stage reads the files of the one before from a work folder, and returns the paths it wrote.
"""

import json
import platform
import sys
from collections.abc import Collection, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

from captioning.data import dataset, ids, images, seen, text
from captioning.data.tokenizer import Tokenizer
from captioning.pipeline import artifacts
from captioning.runtime import console, files
from captioning.runtime.errors import CaptioningError

CELL_WIDTH = 240  # pixels of a picture on a contact sheet
_MOST_COMPLAINTS = 20  # printed about one file

if TYPE_CHECKING:  # Keras is loaded by the stages that need it
    from captioning.decoders.captioner import Captioner
    from captioning.encoders.loading import Encoder


def describe(source: dataset.Dataset, workdir: Path, split_seed: int = 0) -> list[Path]:
    """Clean the captions of a dataset into `descriptions.txt`; draw splits where none are given."""
    captions, complaints, image_ids = source.parsed
    for complaint in complaints[:_MOST_COMPLAINTS]:
        console.note(complaint)
    if len(complaints) > _MOST_COMPLAINTS:
        console.note(f"and {len(complaints) - _MOST_COMPLAINTS} more lines like these")
    if image_ids.notice:
        console.note(image_ids.notice)
    cleaned, notices = text.clean_all(captions)
    vocabulary = {word for group in cleaned.values() for text_ in group for word in text_.split()}
    if not vocabulary:
        raise CaptioningError(
            f"expected words of two or more letters in the captions of {source.caption_file}, "
            "found none; check that file"
        )
    path = artifacts.save_descriptions(workdir, cleaned)
    empty = sum(not caption for group in cleaned.values() for caption in group)
    console.note(
        f"captions: {sum(map(len, cleaned.values()))} of {len(cleaned)} images, "
        f"{len(vocabulary)} words" + (f", {empty} clean to nothing" if empty else "")
    )
    for notice in notices:
        console.note(notice)
    _compare_with_images(source, captions.keys())
    return [path, *find_splits(source, workdir, split_seed, captions).written]


def _compare_with_images(source: dataset.Dataset, captioned: Set[str]) -> None:
    """Say which captions have no image, and which images no caption."""
    found = set(map(source.image_ids, source.pictures))
    if not found:  # captions alone will do for now
        return
    for what, keys in (
        ("images with captions have no file", captioned - found),
        ("image files have no caption", found - captioned),
    ):
        if keys:
            console.note(f"{len(keys)} {what} in {source.folder} ({artifacts.few(sorted(keys))})")


def find_splits(
    source: dataset.Dataset, workdir: Path, split_seed: int, known: Collection[str]
) -> dataset.Splits:
    """The split lists; says where they come from and whether they overlap.

    Args:
        known: the image ids of the dataset.
    """
    splits = dataset.splits(source, workdir, split_seed, known)
    sizes = "/".join(str(len(splits.ids[split])) for split in dataset.SPLITS)
    origin = f"drawn with --split-seed {split_seed} into" if splits.made else "from"
    console.note(f"splits: {sizes} images (train/dev/test), {origin} {splits.folder}")
    for sentence in splits.overlaps:
        console.note(f"warning: {sentence}")
    return splits


def extract(
    encoder: "Encoder",
    folder: Path,
    workdir: Path,
    batch_size: int,
    limit: int | None = None,
    strict: bool = False,
    image_ids: ids.ImageIds | None = None,
) -> tuple[list[Path], int]:
    """Features of every readable image of a folder → `features.pkl`, `features.json`.

    Args:
        image_ids: of the dataset; None for those of the folder's files alone.

    Returns:
        the paths written, and the number of files skipped.
    """
    from captioning.encoders import extraction

    paths = images.list_files(folder)[:limit]
    image_ids = image_ids or ids.ImageIds(paths)
    with files.locked(workdir):
        features, skipped = extraction.extract(
            encoder, paths, batch_size, workdir, strict, image_ids
        )
        for name, reason in skipped.items():
            console.note(f"skipped {name}: {reason}")
        if skipped:
            console.note(f"{len(skipped)} of {len(paths)} files were skipped")
        record = {
            "encoder": encoder.record,
            "dimension": encoder.dimension,
            "images": len(features),
            "skipped": skipped,
            artifacts.SEEN: seen.among(features, encoder.seen),
            "versions": versions(),
        }
        written = artifacts.save_features(workdir, features, record)
        extraction.forget(workdir)
    return written, len(skipped)


def train(
    folder: Path,
    workdir: Path,
    seed: int,
    *,
    split_seed: int = 0,
    allow_seen: bool = False,
    recipe: str,
    epochs: int | None,
    batch_size: int | None,
    precision: str,
    resume: bool,
    plateau: int | None = None,
    patience: int | None = None,
) -> list[Path]:
    """Train the captioner on `features.pkl` and `descriptions.txt`.

    Args:
        allow_seen: warn, instead of raising, where the encoder was trained on images of dev or
            test.
        recipe: 'fast' or 'reference', see `recipes.compile_`; brings its own epochs and batch
            size where they are None.
        plateau: epochs without a better val_loss before the learning rate falls.
        patience: epochs without a better val_loss before training ends.

    Returns:
        the paths written: the checkpoints, best last, the history, the curves and the state.
    """
    descriptions = artifacts.load_descriptions(workdir)
    features, encoder, images_seen = artifacts.load_features(workdir)
    splits = find_splits(dataset.Dataset(folder), workdir, split_seed, descriptions)
    for split in ("dev", "test"):
        _check_unseen(split, splits.ids[split], images_seen, allow_seen)
    tokenizer = artifacts.fit_tokenizer(descriptions, splits.ids["train"])
    usable = {
        split: artifacts.usable_ids(split, splits.ids[split], descriptions, features)
        for split in ("train", "dev")
    }

    console.announce_device(precision)

    from captioning.objectives import recipes
    from captioning.runtime import training

    data = recipes.CaptionData.prepare(usable, descriptions, features, tokenizer)
    del features  # copied: they may be most of the memory
    console.note(
        f"training on {len(usable['train'])} images, {data.train.target_count} words to predict; "
        f"dev: {len(usable['dev'])} images, {data.dev.target_count} words; vocabulary "
        f"{tokenizer.vocabulary_size}, max_length {data.max_length}, D {data.dimension}"
    )
    settings = {
        "recipe": recipe,
        "epochs": epochs or recipes.EPOCHS[recipe],
        "batch_size": batch_size or recipes.default_batch_size(recipe, data),
        "precision": precision,
        "seed": seed,
        "plateau": plateau,
        "patience": patience,
        "data": data.digest,
        "versions": versions(),
    }
    record = {
        "encoder": encoder,
        "max_length": data.max_length,
        "vocabulary_hash": tokenizer.vocabulary_hash,
        "settings": settings,
    }
    with files.locked(workdir):
        if not resume:
            _warn_of_checkpoints(workdir)
        history = recipes.train(data, settings, record, workdir, resume)
    names = [artifacts.captioner_name(row) for row in training.improvements(history)]
    names += [training.HISTORY, training.CURVES, training.STATE]
    return [workdir / name for name in names if (workdir / name).exists()]


def _check_unseen(split: str, keys: Sequence[str], seen: Set[str], allowed: bool) -> int:
    """Refuse a split whose images the encoder was trained on; with `allowed`, warn.

    Returns:
        how many of them it was trained on.
    """
    found = [key for key in keys if key in seen]
    if found:
        fault = (
            f"the encoder was trained on {len(found)} of the {len(keys)} images of the {split} "
            f"split (such as {found[0]}), so that scores on them flatter"
        )
        if not allowed:
            raise CaptioningError(
                f"{fault}; use the split lists that it was pretrained with (put them into the "
                "work folder), or insist with --allow-seen"
            )
        console.note(f"warning: {fault}")
    return len(found)


def _warn_of_checkpoints(workdir: Path) -> None:
    """Name the checkpoints of former runs, among which script 3 will choose as well."""
    former = [path.name for path in artifacts.captioners(workdir)]
    if former:
        console.note(
            f"warning: {workdir} holds {len(former)} captioners of earlier runs "
            f"({artifacts.few(sorted(former))}); 3_BLEU.py takes the lowest val_loss of all, so "
            "move them away unless they are to compete"
        )


def score(
    folder: Path,
    workdir: Path,
    split_seed: int,
    split: str,
    model: Path | None,
    captioners: Path | None = None,
    allow_seen: bool = False,
) -> list[Path]:
    """Caption a split from its features and print its scores, see `metrics.report`.

    Without a `model`, the best of the folder `captioners`, which is the work folder by default.
    """
    descriptions = artifacts.load_descriptions(workdir)
    splits = find_splits(dataset.Dataset(folder), workdir, split_seed, descriptions)
    fitted = artifacts.fit_tokenizer(descriptions, splits.ids["train"])
    features, encoder, images_seen = artifacts.load_features(workdir)
    flattered = _check_unseen(split, splits.ids[split], images_seen, allow_seen)
    keys = artifacts.usable_ids(split, splits.ids[split], descriptions, features)

    path = model or artifacts.find_captioner(captioners or workdir)
    artifacts.check_shipped(path)

    console.announce_device()

    from captioning.decoders import captioner
    from captioning.scores import metrics
    from captioning.search import greedy

    _tell_choice(path, asked_for=model is not None)
    network = captioner.load(path)
    tokenizer = _tokenizer_of(network, fitted, path.parent)
    matrix = artifacts.stack_features(features, keys)
    del features
    network.check_features(matrix.shape[1], encoder)
    words = dict(zip(keys, greedy.greedy(network, tokenizer, matrix), strict=True))

    result = {"model": str(path), "split": split, "images": len(keys)}
    result |= {"training": network.record.get("settings"), artifacts.SEEN: flattered}
    result |= metrics.report(words, descriptions)
    result |= {"model_sha256": files.sha256(path), "encoder": encoder, "versions": versions()}
    captions = {key: greedy.sentence(value) for key, value in words.items()}
    return [
        files.write_json(workdir / f"bleu-{split}.json", result),
        files.write_json(workdir / f"captions-{split}.json", captions),
    ]


def _tell_choice(path: Path, asked_for: bool) -> None:
    """Say which captioner was taken, why, and which of other runs lie beside it."""
    count = len(artifacts.captioners(path.parent))
    if asked_for or count == 1:
        console.note(f"captioner: {path}")
        return
    console.note(f"captioner: {path}, of {count} the one with the lowest val_loss in its name")
    rivals = artifacts.competitors(path)
    if rivals:
        newer = sum(rival.stat().st_mtime > path.stat().st_mtime for rival in rivals)
        console.note(
            f"warning: captioners of other runs lie beside it: {len(rivals)}, of which {newer} are "
            f"newer ({artifacts.few([rival.name for rival in rivals])}); name one with --model, or "
            "move the files of a run away"
        )


def _tokenizer_of(network: "Captioner", fitted: Tokenizer, folder: Path) -> Tokenizer:
    """The tokenizer a captioner was trained with: the one fitted here, or that of its folder.

    Raises:
        CaptioningError: if neither has its vocabulary.
    """
    vocabulary = network.vocabulary_size, network.record.get("vocabulary_hash")
    beside = folder / artifacts.TOKENIZER
    try:
        fitted.check_fits(*vocabulary)
    except CaptioningError:
        if not beside.exists():
            raise
        tokenizer = artifacts.load_tokenizer(beside)
        tokenizer.check_fits(*vocabulary)
        console.note(f"word ids: from {beside}; descriptions.txt gives others")
        return tokenizer
    return fitted


def make_tokenizer(folder: Path, workdir: Path, split_seed: int = 0) -> list[Path]:
    """Fit the tokenizer on the train captions → `tokenizer.pkl`."""
    descriptions = artifacts.load_descriptions(workdir)
    splits = find_splits(dataset.Dataset(folder), workdir, split_seed, descriptions)
    tokenizer = artifacts.fit_tokenizer(descriptions, splits.ids["train"])
    console.note(f"vocabulary size: {tokenizer.vocabulary_size}")
    return [artifacts.save_tokenizer(workdir / artifacts.TOKENIZER, tokenizer)]


def caption(
    inputs: Sequence[Path],
    workdir: Path,
    *,
    model: Path | None,
    tokenizer_file: Path | None,
    encoder_name: str | None,
    output: Path | None,
    as_json: bool,
    strict: bool = False,
) -> int:
    """Caption images and folders of images: one line `path<TAB>caption` each.

    Returns:
        the exit code: 3 if some files were no readable images.
    """
    if output:
        images.check_suffix(output)
    paths = _images_of(inputs)
    tokenizer_file = tokenizer_file or workdir / artifacts.TOKENIZER
    tokenizer = artifacts.load_tokenizer(tokenizer_file)
    path = model or artifacts.find_captioner(workdir)
    artifacts.check_shipped(path, tokenizer_file)
    console.announce_device()

    from captioning.decoders import captioner
    from captioning.search import greedy

    _tell_choice(path, asked_for=model is not None)
    network = captioner.load(path)
    tokenizer.check_fits(network.vocabulary_size, network.record.get("vocabulary_hash"))
    encoder = _encoder_of(network, encoder_name, path.parent)
    network.check_features(encoder.dimension, encoder.record)
    captions, skipped = {}, {}
    with console.Progress(len(paths), "captions") as progress:
        for batch in images.batches(paths, encoder.size, 16, strict=strict):
            skipped |= batch.unreadable
            if batch.paths:
                words = greedy.greedy(network, tokenizer, encoder.extract(batch.pixels)[:, 0])
                captions |= dict(zip(batch.paths, map(greedy.sentence, words), strict=True))
            if not as_json:
                for file in batch.paths:
                    console.result(f"{file}\t{captions[file]}")
            progress.update(len(batch.paths) + len(batch.unreadable))
    if as_json:
        rows = [{"image": str(file), "caption": line} for file, line in captions.items()]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    for file, reason in skipped.items():
        console.note(f"skipped {file}: {reason}")
    if not captions:
        raise CaptioningError("expected at least one readable image, found none")
    if output:
        console.written([_draw(captions, output)], sys.stderr if as_json else sys.stdout)
    return console.SOME_SKIPPED if skipped else console.DONE


def _images_of(inputs: Sequence[Path]) -> list[Path]:
    paths = []
    for path in inputs:
        if not path.exists():
            raise CaptioningError(f"expected an image or a folder at {path}, found neither")
        paths += images.list_files(path) if path.is_dir() else [path]
    return list(dict.fromkeys(paths))


def _encoder_of(network: "Captioner", name: str | None, folder: Path) -> "Encoder":
    """The encoder a captioner was trained with, as its record has it.

    `name` may say where its weights are now, and names the encoder of models that carry no record.
    `folder` is the captioner's: a file of weights may have been copied with it.
    """
    from captioning.encoders import loading, sources

    record = network.record.get("encoder")
    published = name in sources.NAMES
    if record and published and name != record["name"]:
        network.check_features(sources.DIMENSION, {"name": name})  # refuses, before a download
    if record and (not name or published or record["sha256"]):
        if name and not published:
            record, folder = record | {"file": name}, None
        try:
            return loading.from_record(record, beside=folder)
        except (KeyError, TypeError, ValueError) as error:  # a record as untrusted as its file
            raise CaptioningError(
                f"the captioner's record of its encoder lacks or misnames {error}; name the "
                "encoder with --encoder"
            ) from None
    name = name or sources.DEFAULT
    if name in sources.NAMES:  # refused, if at all, before it is downloaded
        network.check_features(sources.DIMENSION, None)
    return loading.load(name)


def _draw(captions: dict[Path, str], output: Path) -> Path:
    from captioning.report.contact_sheet import contact_sheet

    pictures = []
    for path, line in captions.items():
        picture = images.load_rgb(path)
        picture.thumbnail((2 * CELL_WIDTH, 2 * CELL_WIDTH))  # a folder of photos must fit in memory
        pictures.append((picture, line))
    sheet = contact_sheet(pictures, width=CELL_WIDTH)
    with files.atomic(output) as temporary:
        sheet.save(temporary)
    return output


def versions() -> dict[str, str]:
    """Versions of what a result depends on, for its record, and which backend computed it."""
    from importlib import metadata

    import keras

    names = ("keras", "tensorflow", "jax", "torch", "numpy", "pillow", "h5py")
    installed = {d: metadata.version(d) for d in names if _installed(d)}
    where = {"python": platform.python_version(), "platform": sys.platform}
    return where | {"backend": keras.backend.backend()} | installed


def _installed(name: str) -> bool:
    from importlib import metadata

    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
