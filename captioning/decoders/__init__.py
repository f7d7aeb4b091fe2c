"""Networks that write captions: features and the words so far → the next word.

A decoder is one file and one row of `registry`. Its socket is `decoder.Decoder`: a `Config` that
is saved with the weights and is all that is needed to build it again, `build(config)`, a Keras
model for whole captions, and `start(features)`, `step(words, state)`, by which every search writes.

- `merge`: the reference's, an LSTM beside the image. `attention` and `transformer` look at the
  places of a grid.
- `merge_files` reads merge captioners that
  other programs and former versions have written.
- `captioner`: a trained decoder and its record; the only place that writes and reads its file.

Neighbours: how decoders are trained is told in `objectives`, how captions are found in `search`.
"""
