"""How good captions are, and how good features are: numbers, and nothing that is trained.

- `score`: the socket of captions' scores. A `Score` says how it is computed from captions and
  references, and how it is printed.
- `bleu` (three protocols), `cider`, `rouge`, `meteor`: the scores.
- `language`: what captions say, whatever they score.
- `probes`: the socket and the probes of features: a vote of neighbours, a linear probe, ….
- `registry`: `SCORES`, `COCO` and `PROBES`, by name and in the order in which they are shown.
- `report`: all scores of some captions, computed and printed.

To add a score: a file here and a line in `registry`; docs/examples/toy_score.py is one in full.
The script's report, bleu-dev.json and the table of runs then have it.

Where else to look: captions are made by `search` and scored on a split by `pipeline`; runs are
compared by `evaluation`.
"""
