"""How captions are found: a search asks a decoder for the next word, again and again.

A search is one file and one row of `registry`. Its socket: `(decoder, start, end, features, keys,
…) → for each image its captions, best first, as pairs of word ids and log-probability`, written
against the decoder's `start` and `step` alone, so that every search works with every decoder.

- `captions` is what the rest of the package calls: words instead of ids.
- `greedy`, `beam` and `sampling` are the searches; `walk` is what they share.
- `replay` says a known caption once more, to see where the decoder looked.

Neighbours: decoders and their states are in `decoders`, scores of captions against people's in
`scores`.
"""
