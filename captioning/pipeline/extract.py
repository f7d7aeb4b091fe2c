"""Stage 1: images → features.pkl, and features-grid.hdf5."""

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
    grid: bool = False,
    datasets: Sequence[str] = (),
) -> tuple[list[Path], int]:
    """Features of every readable image → `features.pkl`, `features.json`.

    Args:
        paths: files of images, and what else lies among them.
        image_ids: of the dataset; None for those of `paths` alone.
        grid: write `features-grid.hdf5` too.
        datasets: their names, for the record.

    Returns:
        the paths written, and the number of files skipped.
    """
    from captioning.encoders import extraction

    image_ids = image_ids or ids.ImageIds(paths)
    with files.locked(workdir):
        features, skipped, grids = extraction.extract(
            encoder, paths, batch_size, workdir, strict, image_ids, grid
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
        if grid:
            record |= {"encoder": encoder.grid_record}
            written.append(artifacts.save_grid(workdir, list(features), grids, record))
        elif (workdir / artifacts.GRID).exists():
            console.note(
                f"{workdir / artifacts.GRID} is of an earlier run and stays as it is: --grid "
                "writes it anew"
            )
        extraction.forget(workdir)
    return written, len(skipped)
