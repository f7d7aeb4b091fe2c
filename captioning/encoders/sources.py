"""Where an encoder's weights come from: one table, with the preprocessing bound to each source.

Importing this module is cheap: scripts list its names in `--help`.
"""

import dataclasses
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from captioning.runtime import console, files
from captioning.runtime.errors import CaptioningError

DEFAULT = "simclr"  # the reference's
CROPS = (1, 2, 10)  # how many views of a picture its features may be the mean of


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """From 8-bit RGB to a network's input: `pixel * scale + shift` a channel.

    Attributes:
        scale, shift: one number for each of red, green and blue, for pixels in [0, 255].
        order: "RGB", or "BGR" where the channels are reversed after that.
        size: height and width in pixels that pictures are resized to.
    """

    scale: tuple[float, float, float]
    shift: tuple[float, float, float]
    order: str = "RGB"
    size: int = 224


def _standardised(mean: Sequence[float], std: Sequence[float]) -> Preprocessing:
    """`(pixel / 255 - mean) / std`, as torchvision's ToTensor and Normalize do together."""
    scale = tuple(1 / (255 * s) for s in std)
    return Preprocessing(scale, tuple(-m / s for m, s in zip(mean, std, strict=True)))


PREPROCESSINGS = {
    "imagenet": _standardised((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "swav": _standardised((0.485, 0.456, 0.406), (0.228, 0.224, 0.225)),  # .228 in SwAV's code
    "unit": _standardised((0, 0, 0), (1, 1, 1)),  # [0, 1]: Google's SimCLR
    "caffe": Preprocessing((1, 1, 1), (-123.68, -116.779, -103.939), "BGR"),  # Keras's ResNet50
}


@dataclasses.dataclass(frozen=True)
class Source:
    """Published weights of a network, and what they must be fed with.

    Attributes:
        title: what a reader should see.
        urls: files to download; the first is the one to read, others belong to it.
        preprocessing: a name of `PREPROCESSINGS`.
        licence: of the weights.
        sha256: of the first file, where its publisher's is known.
        network: a name of `registry.BACKBONES`; `backbones.read` must know its file's names.
        dimension: of its features, to be told before anything is downloaded.
    """

    title: str
    urls: tuple[str, ...]
    preprocessing: str
    licence: str
    sha256: str | None = None
    network: str = "resnet50"
    dimension: int = 2048


_FACEBOOK = "https://dl.fbaipublicfiles.com"
# The checkpoints' public copies, file by file; the .zip that the paper's page links needs a login.
_GOOGLE = "https://storage.googleapis.com/simclr-checkpoints"


def _tensorflow(prefix: str) -> tuple[str, str]:
    return f"{prefix}.index", f"{prefix}.data-00000-of-00001"


SOURCES = {
    "simclr": Source(
        "SimCLR, Lightning Bolts (the reference's)",
        (
            "https://pl-bolts-weights.s3.us-east-2.amazonaws.com"
            "/simclr/bolts_simclr_imagenet/simclr_imagenet.ckpt",
        ),
        preprocessing="imagenet",
        licence="Apache-2.0",
    ),
    "simclr-v1": Source(
        "SimCLR v1, Google",
        _tensorflow(f"{_GOOGLE}/simclrv1/pretrain/1x/model.ckpt-225206"),
        preprocessing="unit",
        licence="Apache-2.0",
    ),
    "simclr-v2": Source(
        "SimCLR v2 (r50_1x_sk0), Google",
        _tensorflow(f"{_GOOGLE}/simclrv2/pretrained/r50_1x_sk0/model.ckpt-250228"),
        preprocessing="unit",
        licence="Apache-2.0",
    ),
    "moco-v2": Source(
        "MoCo v2, 800 epochs",
        (f"{_FACEBOOK}/moco/moco_checkpoints/moco_v2_800ep/moco_v2_800ep_pretrain.pth.tar",),
        preprocessing="imagenet",
        licence="MIT",
    ),
    "dino": Source(
        "DINO",
        (f"{_FACEBOOK}/dino/dino_resnet50_pretrain/dino_resnet50_pretrain.pth",),
        preprocessing="imagenet",
        licence="Apache-2.0",
    ),
    "barlow-twins": Source(
        "Barlow Twins",
        (f"{_FACEBOOK}/barlowtwins/ljng/resnet50.pth",),
        preprocessing="imagenet",
        licence="MIT",
    ),
    "vicreg": Source(
        "VICReg",
        (f"{_FACEBOOK}/vicreg/resnet50.pth",),
        preprocessing="imagenet",
        licence="MIT",
    ),
    "swav": Source(
        "SwAV, 800 epochs",
        (f"{_FACEBOOK}/deepcluster/swav_800ep_pretrain.pth.tar",),
        preprocessing="swav",
        licence="CC-BY-NC-4.0",
    ),
    "imagenet": Source(
        "supervised, Keras applications",
        (
            "https://storage.googleapis.com/tensorflow/keras-applications/resnet"
            "/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        ),
        preprocessing="caffe",
        licence="MIT",
    ),
}

NAMES = (*SOURCES, "random")  # "random" is drawn from a seed, so it has no source

# Tensors that checkpoints hold behind the backbone's own prefix and beside it: heads,
# classifiers, counters, SwAV's prototypes, MoCo's queue, the slots of Google's optimiser.
IGNORED = (
    "*num_batches_tracked",
    "fc.*",
    "head*",
    "*_head.*",
    "project*",
    "predict*",
    "*classifier.*",
    "non_linear_evaluator.*",
    "prototypes*",
    "queue*",
    "*/Momentum",
    "*/ExponentialMovingAverage",
)


def dimension(name: str) -> int:
    """Length of the features of one of `NAMES`; "random" is a ResNet-50 too."""
    return SOURCES[name].dimension if name in SOURCES else Source.dimension


def cached(name: str) -> Path:
    """Where the file of a named source lies once it is downloaded, in Keras's cache."""
    home = os.environ.get("KERAS_HOME")
    if home is None:
        base = os.path.expanduser("~")
        home = os.path.join(base if os.access(base, os.W_OK) else tempfile.gettempdir(), ".keras")
    return Path(home, "encoders", name, os.path.basename(SOURCES[name].urls[0]))


def fetch(name: str) -> Path:
    """Path of a named source's weights, downloaded at the first call.

    Raises:
        CaptioningError: with the URL and the place to put the file, when it cannot be had, and
            when it is not the file its publisher describes.
    """
    import http.client

    source = SOURCES[name]
    place = cached(name)
    for url in source.urls:
        path = place.with_name(os.path.basename(url))
        if path.exists():
            continue
        console.note(f"{name}: {source.title}, licence {source.licence}, from {url}")
        try:
            download(url, path)
        except (OSError, http.client.HTTPException) as error:
            raise CaptioningError(
                f"the weights of encoder {name!r} are not on this machine and {url} could not be "
                f"downloaded ({error}); download it elsewhere and put it at {path}"
            ) from None
    if source.sha256 and (found := files.sha256(place)) != source.sha256:
        raise CaptioningError(
            f"expected {place} to have SHA-256 {source.sha256}, found {found}; delete it and run "
            "again"
        )
    return place


def download(url: str, path: Path) -> None:
    """Write what `url` serves to `path`, whole or not at all, with progress on stderr.

    Raises:
        OSError, http.client.HTTPException: when the connection fails or ends early.
    """
    import urllib.request  # a tenth of a second, which `--help` need not wait for

    with urllib.request.urlopen(url, timeout=30) as response, files.atomic(path) as temporary:
        total = int(response.headers.get("Content-Length") or 0)
        with (
            open(temporary, "wb") as file,
            console.Progress(-(-total // 2**20), path.name, "MiB") as progress,
        ):
            while block := response.read(2**20):
                file.write(block)
                progress.update()
        if total and temporary.stat().st_size != total:
            raise OSError(f"{temporary.stat().st_size:,} of {total:,} bytes arrived")
