"""A batch of pretraining: our batch normalisation beside Keras's.

    python benchmarks/pretraining.py [--precision bfloat16] [--size 96]

SimCLR with a ResNet-18 on made-up pictures, views, both losses and the update included. The
arithmetic is that of the convolutions, forward and twice that backward.
"""

import sys
from pathlib import Path
from unittest import mock

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository

from benchmarks import common
from captioning.runtime import console
from captioning.runtime.precision import PRECISIONS

VIEWS = 2  # of a picture


def main() -> None:
    parser = console.parser(__doc__)
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--size", type=console.positive_int, default=64, help="of the views")
    parser.add_argument("--batch-size", type=console.positive_int, default=128, help="in pictures")
    parser.add_argument("--rounds", type=console.positive_int, default=4)
    arguments = parser.parse_args()

    import keras

    from captioning.encoders import residual
    from captioning.pretraining import run

    side = 3 * arguments.size // 2
    pictures = np.random.default_rng(0).integers(
        256, size=(arguments.batch_size, side, side, 3), dtype=np.uint8
    )
    settings = {"method": "simclr", "size": arguments.size, "batch_size": arguments.batch_size}
    settings |= {"precision": arguments.precision, "probe_every": 1, "seed": 0}
    settings |= {"colour": 1.0, "gray": 0.2, "least_area": 0.08}
    ways = {}
    for name, norm in {
        "ours": residual.BatchNormalization,
        "Keras's": keras.layers.BatchNormalization,
    }.items():
        with mock.patch.object(residual, "BatchNormalization", norm):
            prepared = run.prepare(
                run.start(None, "resnet18", side, 0), pictures, None, None, settings
            )
        model, batch = prepared.model, prepared.data[0]
        model.compile(optimizer="adam")
        ways[name] = lambda model=model, batch=batch: model.train_on_batch(*batch)
        ways[name]()  # builds and traces
    ways["peak"] = product = common.MatrixProduct(arguments.precision)
    seconds = common.take_turns(ways, arguments.rounds)

    rate = product.operations / seconds["peak"]
    views = VIEWS * arguments.batch_size
    work = 3 * views * sum(map(operations, residual.convolutions(model.backbone)))
    print(f"{arguments.precision}; measured matrix peak {rate / 1e9:.0f} GFLOP/s")
    for name in ("ours", "Keras's"):
        print(
            f"{name:8} {seconds[name]:6.3f} s a batch, {views / seconds[name]:.0f} views/s, "
            f"{work / seconds[name] / rate:.0%} of the peak, "
            f"{seconds[name] / seconds['ours']:.2f} ×"
        )


def operations(convolution) -> int:
    """Additions and multiplications of a convolution for one picture."""
    _, height, width, _ = convolution.output.shape
    return 2 * height * width * int(np.prod(convolution.kernel.shape))


if __name__ == "__main__":
    console.run(main)
