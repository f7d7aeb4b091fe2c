"""Programs that compare: finished runs, features, and what is reached without looking.

- `python -m captioning.evaluation.results`: scores of several runs as a table, seeds joined.
- `python -m captioning.evaluation.probe`: features as a table, without training a captioner.
- `python -m captioning.evaluation.baselines`: shuffled features, and one caption for all images.

Their columns are those of `scores.registry`: a new score or probe needs no change here. Nothing
in the package imports this room. The scores of a single run are `pipeline`'s, by 3_BLEU.py.
"""
