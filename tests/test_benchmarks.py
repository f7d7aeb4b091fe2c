"""Programs behind the tables of docs/speed.md that read what the project ships."""

import pytest


@pytest.mark.long
def test_captions_one_word_at_a_time_are_those_of_the_searches(here):
    few = ("--images", 2, "--one-by-one", 1, "--beam", 2, "--rounds", 1)
    told = here("benchmarks/decoding.py", *few)
    assert "beam of 2: " in told
    assert told.count("1 of 1 captions equal") == 2


@pytest.mark.long
def test_a_batch_of_pretraining_is_timed_beside_that_of_keras(here):
    told = here("benchmarks/pretraining.py", "--size", 32, "--batch-size", 2, "--rounds", 1)
    assert "ours" in told
    assert "Keras's" in told
