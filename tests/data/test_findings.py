"""The collector of problems: counts, first examples, threads."""

import threading

import pytest

from autofocus_jax.data import findings as kinds
from autofocus_jax.data.findings import BadDataError, Findings


def test_a_line_for_each_kind_with_count_and_first_examples():
    problems = Findings(examples=2)
    problems.add(kinds.FLAT, "a", "b", "c")
    problems.add(kinds.MISSING, "d.jpg")
    assert problems.lines() == [
        "3 boxes without area (left out): a, b, …",
        "1 image files that are missing (their chips train nothing): d.jpg",
    ]
    assert problems.counts() == {kinds.FLAT: 3, kinds.MISSING: 1}
    assert problems.examples(kinds.FLAT) == ("a", "b") and problems.examples(kinds.CUT) == ()


def test_what_is_met_again_is_counted_once():
    problems = Findings()
    for _ in range(5):
        problems.add(kinds.UNREADABLE, "a.jpg")
    assert problems.counts() == {kinds.UNREADABLE: 1}


def test_new_lines_are_told_once():
    problems = Findings()
    problems.add(kinds.FLAT, "a")
    assert len(problems.lines(new=True)) == 1 and problems.lines(new=True) == []
    problems.add(kinds.FLAT, "a")
    assert problems.lines(new=True) == []
    problems.add(kinds.FLAT, "b")
    problems.add(kinds.CUT, "c")
    assert len(problems.lines(new=True)) == 2


def test_threads_lose_nothing():
    problems = Findings()

    def work(first):
        for number in range(500):
            problems.add(kinds.UNREADABLE, f"{first + number}.jpg")

    threads = [threading.Thread(target=work, args=(250 * n,)) for n in range(4)]  # each half overlaps the next
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems.counts() == {kinds.UNREADABLE: 1250}


def test_refuse_is_one_line_and_only_when_there_is_something():
    problems = Findings()
    problems.refuse()
    problems.report(kinds.BAD_BOX, "a.json: annotations[3] has bbox [1]", "want four")
    with pytest.raises(BadDataError, match=r"1 boxes that are not four finite numbers .*annotations\[3\]") as caught:
        problems.refuse()
    assert "\n" not in str(caught.value) and "do not be strict" in str(caught.value)


def test_every_kind_says_what_training_does():
    names = {value for name, value in vars(kinds).items() if name.isupper() and isinstance(value, str)}
    assert names == set(kinds.TREATMENT) | set(kinds.INSPECTED) and not set(kinds.INSPECTED) & set(kinds.TREATMENT)
