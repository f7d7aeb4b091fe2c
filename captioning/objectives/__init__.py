"""What captioners are trained by.

A recipe is one class and one row of `registry`: it owns its batches, its loss, its optimiser and
its hyper-parameters (`Settings`, which `--set` changes and the captioner's record keeps). Its
socket is `recipes.Recipe`. `train.train` runs any recipe with any decoder.

- `data`: captions and features as arrays, standardised where a recipe asks for it.
- `batches`: whole captions, or one prefix a sample.
- `cross_entropy`: the loss of the next word.

Neighbours: the networks are in `decoders`, the files that pass between scripts in `pipeline`.
"""
