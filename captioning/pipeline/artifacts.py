"""Every file that passes from one script to the next: names, formats, checks."""

import math
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from captioning.data import grids, text
from captioning.data.grids import Grid
from captioning.data.ids import ImageIds, is_picture_name
from captioning.data.tokenizer import Tokenizer
from captioning.formats import pickles
from captioning.runtime import console, files
from captioning.runtime.errors import CaptioningError

FEATURES, FEATURES_RECORD, GRID = "features.pkl", "features.json", "features-grid.hdf5"
SEEN = "seen_by_encoder"  # in the record: ids of images that the encoder has been trained on
DESCRIPTIONS, DESCRIPTIONS_RECORD = "descriptions.txt", "descriptions.json"
TOKENIZER = "tokenizer.pkl"


def save_features(workdir: Path, features: Mapping[str, np.ndarray], record: dict) -> list[Path]:
    """Write `features.pkl` (image id → float32 (1, D)) and its record `features.json`.

    Returns:
        the two paths.
    """
    path = workdir / FEATURES
    pickles.dump(path, dict(features))
    files.write_json(workdir / FEATURES_RECORD, record | {"features_sha256": files.sha256(path)})
    return [path, workdir / FEATURES_RECORD]


def save_grid(
    workdir: Path, ids: Sequence[str], pieces: Iterable[tuple[np.ndarray, np.ndarray]], record: dict
) -> Path:
    """Write `features-grid.hdf5`, see `grids.write`.

    Args:
        record: that of the features, with an encoder's `grid_record`.
    """
    places = math.prod(record["encoder"]["grid"])
    shape = (places, record["dimension"])
    return grids.write(workdir / GRID, ids, shape, pieces, record | {"tokens": places})


class Features(NamedTuple):
    """`features.pkl` and what `features.json` tells of it, or `features-grid.hdf5`.

    Attributes:
        values: image id → float32 (1, D); or a grid.
        encoder: the encoder's record, or None for features made by other programs; a record
            of other features than these (copied here, or written just before a kill) is ignored.
        seen: ids of the images that the encoder has been trained on; None where that is unknown.
    """

    values: dict[str, np.ndarray] | Grid
    encoder: dict | None
    seen: frozenset[str] | None


def load_features(workdir: Path, grid: bool = False, datasets: Sequence[str] = ()) -> Features:
    """Read `features.pkl` and, where there is one, the record beside it.

    Args:
        grid: open `features-grid.hdf5` instead.
        datasets: the names of those that they are wanted of.

    Raises:
        CaptioningError: see `read_features` and `grids.Grid`; if the grids are of another encoder
            than `features.pkl` beside them; if the features are of other datasets.
    """
    values = Grid(workdir / GRID) if grid else read_features(workdir / FEATURES)
    record = _record_of_grid(values) if grid else _record_of(workdir / FEATURES)
    _check_datasets(workdir / (GRID if grid else FEATURES), record, datasets)
    return Features(
        values, record.get("encoder"), frozenset(record[SEEN]) if SEEN in record else None
    )


def read_features(path: Path) -> dict[str, np.ndarray]:
    """Read the features alone, of a file of any name: image id → float32 (1, D).

    Keys may be names of pictures, as other programs write them. Features that are all the same
    get a warning.

    Raises:
        CaptioningError: when the file is missing, holds something else, D varies, or a number is
            not finite.
    """
    stored = pickles.load(_existing(path, "1_data_preprocessor.py", "Jigsaw_feature_extraction.py"))
    if not isinstance(stored, dict) or not stored:
        raise CaptioningError(f"{path}: expected a dictionary of image features, found none")
    image_ids = ImageIds(key for key in stored if isinstance(key, str))
    features, dimension = {}, None
    for name, value in stored.items():
        key = image_ids(name) if isinstance(name, str) and is_picture_name(name) else name
        is_feature = isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size
        if not (isinstance(key, str) and is_feature):
            raise CaptioningError(
                f"{path}: expected image id → array of numbers, found {key!r} → "
                f"{type(value).__name__}; make it again with 1_data_preprocessor.py"
            )
        if value.size != max(value.shape, default=1):
            raise CaptioningError(
                f"{path}: expected one feature of each image, found an array of shape "
                f"{value.shape} for {key}, a grid of features; average it over its places"
            )
        dimension = dimension or value.size
        if value.size != dimension:
            raise CaptioningError(
                f"{path}: expected {dimension} numbers for every image, found an array of shape "
                f"{value.shape} for {key}; make it again with 1_data_preprocessor.py"
            )
        with np.errstate(over="ignore"):  # said below
            value = value.reshape(1, dimension).astype(np.float32, copy=False)
        if not np.isfinite(value).all():
            raise CaptioningError(
                f"{path}: expected finite numbers, found NaN or infinity in the feature of {key}; "
                "make it again with 1_data_preprocessor.py"
            )
        if key in features:
            raise CaptioningError(
                f"{path}: expected one feature of each image, found two of {key}; make it again "
                "with 1_data_preprocessor.py"
            )
        features[key] = value
    first = next(iter(features.values()))
    if len(features) > 1 and all(np.array_equal(first, value) for value in features.values()):
        console.note(
            f"warning: the features of all {len(features)} images in {path} are the same: a "
            "captioner can tell nothing from them"
        )
    return features


def _record_of(features: Path) -> dict:
    path = features.with_name(FEATURES_RECORD)
    record = files.read_json(path) if path.exists() else {}
    if not _is_sound(record):
        raise CaptioningError(f"{path} is no record of features; delete it or make it again")
    described = record.get("features_sha256") if record.get("encoder") else None
    if described and described != files.sha256(features):
        console.note(f"{path} tells of other features than {features.name} holds: ignored")
        return {}
    return record


def _record_of_grid(grid: Grid) -> dict:
    from captioning.decoders.captioner import encoder_name, same_encoder  # which load Keras

    if not _is_sound(grid.record):
        raise CaptioningError(
            f"{grid.path} carries no record of features; make it again with "
            "1_data_preprocessor.py --grid"
        )
    features, found = grid.path.with_name(FEATURES), grid.record.get("encoder")
    pooled = _record_of(features).get("encoder") if features.exists() else None
    if found and pooled and not same_encoder(found, pooled | {"grid": found.get("grid")}):
        raise CaptioningError(
            f"expected {features} and {grid.path} of one encoder, found {encoder_name(pooled)} and "
            f"{encoder_name(found)}; make both again with 1_data_preprocessor.py --grid, or delete "
            "the one that is not wanted"
        )
    return grid.record


def _is_sound(record: object) -> bool:
    return (
        isinstance(record, dict)
        and isinstance(record.get("encoder"), dict | None)
        and _are_names(record.get(SEEN, []))
        and _are_names(record.get("datasets", []))
    )


def _are_names(found: object) -> bool:
    return isinstance(found, list) and all(isinstance(name, str) for name in found)


def _check_datasets(path: Path, record: dict, given: Sequence[str]) -> None:
    """Refuse what was made of several datasets where others are given, or in another order.

    An id that several of them have is that of the first. So the first ones alone will do; the name
    of a single one is free, since folders are renamed. What carries no names is taken as it is.
    """
    made_of = record.get("datasets", [])
    several = max(len(made_of), len(given)) > 1
    if made_of and several and made_of[: len(given)] != list(given):
        raise CaptioningError(
            f"expected {path} made of {', '.join(given)}, as --dataset says, found it made of "
            f"{', '.join(made_of)}; give these in this order, or make it again with "
            "1_data_preprocessor.py"
        )


def save_descriptions(
    workdir: Path,
    descriptions: Mapping[str, Sequence[str]],
    kind: str = text.REFERENCE,
    datasets: Sequence[str] = (),
) -> list[Path]:
    """Write cleaned captions as `descriptions.txt`, and what they are as `descriptions.json`.

    Image by image, since there may be many. Those of the reference's text and one dataset, as ever,
    have no such record.

    Args:
        kind: a name of `text.TEXTS`.
        datasets: their names.

    Returns:
        the paths written.
    """
    path, record = workdir / DESCRIPTIONS, workdir / DESCRIPTIONS_RECORD
    said = {"text": kind, "datasets": list(datasets)}
    recorded = kind != text.REFERENCE or len(datasets) > 1
    groups = ({key: texts} for key, texts in descriptions.items() if texts)
    with files.atomic(path) as temporary:
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            for number, group in enumerate(groups):
                file.write("\n" * bool(number) + text.format_descriptions(group))
        if recorded:
            # before the captions: should this be interrupted, it is ignored as that of others
            digest, python = files.sha256(temporary), platform.python_version()
            files.write_json(record, said | {"descriptions_sha256": digest, "python": python})
    if recorded:
        return [path, record]
    record.unlink(missing_ok=True)
    return [path]


def text_of(workdir: Path, datasets: Sequence[str] = ()) -> str:
    """Which of `text.TEXTS` the captions in `descriptions.txt` are.

    A record of other captions than these (edited since, or copied here) is ignored.

    Args:
        datasets: the names of those whose captions they are to be.

    Raises:
        CaptioningError: when the record is damaged; if the captions are of other datasets.
    """
    path = workdir / DESCRIPTIONS_RECORD
    if not path.exists():
        return text.REFERENCE
    record = files.read_json(path)
    if (
        not isinstance(record, dict)
        or record.get("text") not in list(text.TEXTS)
        or not _are_names(record.get("datasets", []))
    ):
        raise CaptioningError(
            f"expected in {path} the text {' or '.join(text.TEXTS)} and names of datasets, found a "
            "damaged record; make it again with 1_data_preprocessor.py --only descriptions"
        )
    if record.get("descriptions_sha256") != files.sha256(workdir / DESCRIPTIONS):
        console.note(
            f"{path} tells of other captions than {DESCRIPTIONS} holds: ignored, and these taken "
            f"for the text {text.REFERENCE}"
        )
        return text.REFERENCE
    _check_datasets(workdir / DESCRIPTIONS, record, datasets)
    return record["text"]


def load_descriptions(workdir: Path) -> dict[str, list[str]]:
    """Read `descriptions.txt`: image id → cleaned captions.

    Raises:
        CaptioningError: when the file is missing or empty.
    """
    path = workdir / DESCRIPTIONS
    _existing(path, "1_data_preprocessor.py --only descriptions", "jigsaw_captions.py")
    descriptions = text.parse_descriptions(text.read_text(path))
    if not descriptions:
        raise CaptioningError(f"{path}: expected lines `id word word …`, found none")
    return descriptions


def save_tokenizer(path: Path, tokenizer: Tokenizer) -> Path:
    """Write `tokenizer.pkl`."""
    pickles.dump(path, tokenizer)
    return path


def load_tokenizer(path: Path) -> Tokenizer:
    """Read `tokenizer.pkl`, ours or one pickled by Keras in any year.

    Raises:
        CaptioningError: when the file is missing or holds something else.
    """
    placeholder = pickles.load(_existing(path, "4_tokenizer.py", "Jigsaw_tokenizer.py"))
    if not isinstance(placeholder, pickles.TokenizerState):
        raise CaptioningError(
            f"{path}: expected a Keras tokenizer, found {type(placeholder).__name__}; "
            "make one with 4_tokenizer.py"
        )
    return Tokenizer.from_state(placeholder.state)


def _existing(path: str | os.PathLike, script: str, of_jigsaw: str) -> Path:
    if not Path(path).is_file():
        raise CaptioningError(
            f"expected the file {path}, found none; make it with python {script} (in the jigsaw "
            f"branch jigsaw/{of_jigsaw})"
        )
    return Path(path)
