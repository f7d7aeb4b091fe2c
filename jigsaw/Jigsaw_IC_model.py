"""Stage 2: train a captioner on the features of Jigsaw_feature_extraction.py.

The learning rate falls after an epoch without a better loss on dev, training ends after three.

    python jigsaw/Jigsaw_IC_model.py
    python jigsaw/Jigsaw_IC_model.py --dataset ~/flickr8k --workdir jigsaw_work --resume

Files: model-ep….keras (best last), history.csv, curves.png, training-state.npz (for --resume).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository

from captioning.pipeline import arguments
from captioning.runtime import console

EPOCHS = 25  # the reference's


def main() -> None:
    parser = console.parser(__doc__)
    arguments.add_workplace(parser, "jigsaw_work", draws="the training")
    arguments.add_training(parser, EPOCHS)
    args = parser.parse_args()

    from captioning.pipeline.train import list_settings, train

    if "help" in args.set:
        list_settings(args.recipe, args.decoder)
        return
    written = train(
        args.dataset,
        args.workdir,
        seed=args.seed,
        split_seed=args.split_seed,
        allow_seen=args.allow_seen,
        recipe=args.recipe,
        epochs=args.epochs,
        usual_epochs=EPOCHS,
        batch_size=args.batch_size,
        precision=args.precision,
        resume=args.resume,
        decoder=args.decoder,
        changed=args.set,
        select=args.select,
        plateau=1,
        patience=3,
    )
    console.written(written)


if __name__ == "__main__":
    console.run(main)
