"""Every fuzz target with its corpus and some mutations of it; see tests/fuzz.py for more."""

import pytest

from tests.fuzz import CORPUS, TARGETS, mutations, try_one


@pytest.mark.parametrize("name", TARGETS)
def test_target_stands_its_corpus_and_what_is_like_it(name):
    for data in mutations(name, seed=1, count=400):
        try_one(name, data)


def test_every_target_has_a_corpus_and_the_other_way_round():
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert all(len(list((CORPUS / name).iterdir())) >= 4 for name in TARGETS)
