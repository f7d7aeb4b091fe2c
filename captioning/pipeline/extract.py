"""Stage 1: images → features.pkl."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from captioning.data import ids, seen
from captioning.pipeline import artifacts
from captioning.runtime import console, files, versions

if TYPE_CHECKING:  # Keras is loaded by the stages that need it
    from captioning.encoders.loading import Encoder


def extract(
    encoder: "Encoder",
    paths: Sequence[Path],
    workdir: Path,
    batch_size: int,
    strict: bool = False,
    image_ids: ids.ImageIds | None = None,
    datasets: Sequence[str] = (),
) -> tuple[list[Path], int]:
    """Features of every readable image → `features.pkl`, `features.json`.

    Args:
        paths: files of images, and what else lies among them.
        image_ids: of the dataset; None for those of `paths` alone.
        datasets: their names, for the record.

    Returns:
        the paths written, and the number of files skipped.
    """
    from captioning.encoders import extraction

    image_ids = image_ids or ids.ImageIds(paths)
    with files.locked(workdir):
        features, skipped = extraction.extract(
            encoder, paths, batch_size, workdir, strict, image_ids
        )
        for name, reason in skipped.items():
            console.note(f"skipped {name}: {reason}")
        if skipped:
            console.note(f"{len(skipped)} of {len(paths)} files were skipped")
        record = {"datasets": list(datasets)} if datasets else {}
        record |= {
            "encoder": encoder.record,
            "dimension": encoder.dimension,
            "images": len(features),
            "skipped": skipped,
            artifacts.SEEN: seen.among(features, encoder.seen),
            "versions": versions.installed(),
        }
        written = artifacts.save_features(workdir, features, record)
        extraction.forget(workdir)
    return written, len(skipped)
