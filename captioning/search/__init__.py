"""How captions are found: a search asks a decoder for the next word, again and again.

A search is one file and one row of `registry`. Its socket: `(decoder, start, end, features, …) →
captions with scores`, written against the decoder's `start` and `step` alone, so that every search
works with every decoder. `captions` is what the rest of the package calls: words instead of ids.

Neighbours: decoders and their states are in `decoders`, scores of captions against people's in
`scores`.
"""
