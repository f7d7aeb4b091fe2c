"""Stage 2: train a captioner on features.pkl and descriptions.txt.

A checkpoint is written whenever the loss on the dev split improves, or with --select cider the
captions that the decoder writes of it. The recipe `fast` trains any decoder on whole captions at
once; `reference` is the reference's optimisation of the merge decoder, one prefix a sample, and
takes hours. Losses are plain cross-entropies of the next word, comparable over all of them.

    python 2_train_IC_model.py
    python 2_train_IC_model.py --dataset ~/flickr8k --workdir work --epochs 10
    python 2_train_IC_model.py --set units=512 dropout=.4
    python 2_train_IC_model.py --decoder transformer --select cider
    python 2_train_IC_model.py --sentences sentences.txt --min-count 5
    python 2_train_IC_model.py --resume

Files: model-ep….keras (best last), history.csv, curves.png, training-state.npz (for --resume); with
--sentences or --min-count the tokenizer.pkl that goes with them.
"""

from captioning.pipeline import arguments
from captioning.runtime import console


def parse_arguments():
    parser = console.parser(__doc__)
    arguments.add_workplace(parser, draws="the training")
    arguments.add_training(parser)
    arguments.add_vocabulary(parser)
    parser.add_argument(
        "--sentence-epochs",
        type=console.positive_int,
        metavar="N",
        help="how many, of --sentences, come before those of --epochs (default: the recipe's)",
    )
    args = parser.parse_args()
    if args.sentence_epochs and not args.sentences:
        parser.error("--sentence-epochs is an option of --sentences; add that")
    return args


def main() -> None:
    args = parse_arguments()

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
        batch_size=args.batch_size,
        precision=args.precision,
        resume=args.resume,
        decoder=args.decoder,
        changed=args.set,
        select=args.select,
        min_count=args.min_count,
        sentences=args.sentences,
        sentence_epochs=args.sentence_epochs,
    )
    console.written(written)


if __name__ == "__main__":
    console.run(main)
