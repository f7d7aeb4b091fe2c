"""Pretraining: what backbones are trained by, from pictures alone or with their captions.

A **method** is a subclass of `method.Method`: a Keras model around a backbone. Its socket:

    Settings               a dataclass of its hyper-parameters: --set name=value, and the record
    view_count, reports, reads_captions    what it needs, and what it reports beside the loss
    __init__(backbone, preprocessing, settings, pairs)    makes heads, a momentum encoder, …
    call(batch, training)  its forward pass → outputs, with "features" among them
    objective(outputs)     → loss, {report: value}
    after_step(step, steps)    after each update of the weights
    augmentations(…), targets(captions)    views of its own, arrays made of the captions
    kept                   the network that becomes the encoder, the backbone by default

To add one, write one file and one line in `registry.METHODS`; docs/examples/toy_method.py is an
example.

    registry       names of the methods, cheap to import: choices and help of the script
    simclr, image_text    a file a method, to be read beside its paper; parts: what they share
    run            start, prepare, train: from weights and pictures to encoder.weights.h5
    pairs          pictures and their captions, train and dev
    views, view_batches   random views of pictures, and batches of them, the same after resuming
    feature_probe  how good the features are while training goes on; callbacks: what it is made of

The jigsaw branch trains a network of its own, on puzzles instead of views, into a file of its own:

    jigsaw         the training; encoders.context_free is the network
    permutation_sets, tiles, puzzles, puzzle_batches    from pictures to batches of puzzles

Neighbours: what a backbone is `encoders` knows, training that resumes is `runtime.training`'s, and
numbers that judge features are `scores`'.
"""
