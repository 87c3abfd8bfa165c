"""Mutual nearest neighbors: a hand-worked case, and brute force."""

import numpy as np
import pytest

from epalm.evaluate.alignment.mutual_neighbors import chance, nearest_neighbors, overlap


def test_a_case_worked_by_hand() -> None:
    # Directions at 0, 10, 25 and 90 degrees; lengths do not count.
    angles = np.radians([0, 10, 25, 90])
    first = np.stack([np.cos(angles), np.sin(angles)], axis=1) * [[1], [7], [0.5], [3]]
    assert nearest_neighbors(first, 1).tolist() == [[1], [0], [1], [2]]
    other = np.radians([0, 80, 10, 85])
    second = np.stack([np.cos(other), np.sin(other)], axis=1)
    assert nearest_neighbors(second, 1).tolist() == [[2], [3], [0], [1]]
    assert overlap(nearest_neighbors(first, 1), nearest_neighbors(second, 1)).tolist() == [0] * 4
    # Two neighbors: {1, 2}, {0, 2}, {0, 1}, {1, 2} and {1, 2}, {2, 3}, {0, 1}, {1, 2}.
    pairs = nearest_neighbors(first, 2), nearest_neighbors(second, 2)
    assert [set(row) for row in pairs[0].tolist()] == [{1, 2}, {0, 2}, {0, 1}, {1, 2}]
    assert [set(row) for row in pairs[1].tolist()] == [{1, 2}, {2, 3}, {0, 1}, {1, 2}]
    assert overlap(*pairs).tolist() == [1, 0.5, 1, 1]


@pytest.mark.parametrize(("samples", "count"), [(40, 1), (300, 10), (600, 25)])
def test_neighbors_and_overlaps_equal_brute_force(samples: int, count: int) -> None:
    random = np.random.default_rng(samples)
    vectors = [random.normal(size=(samples, width)) + 0.5 for width in (6, 9)]
    sets = []
    for values in vectors:
        brute = []
        for index, own in enumerate(values):
            cosines = [
                float(own @ other / np.linalg.norm(own) / np.linalg.norm(other)) for other in values
            ]
            ranked = sorted(
                (place for place in range(samples) if place != index),
                key=lambda place: -cosines[place],
            )
            brute.append(set(ranked[:count]))
        sets.append(brute)
    actual = [nearest_neighbors(values, count) for values in vectors]
    for neighbors, brute in zip(actual, sets, strict=True):
        assert [set(row) for row in neighbors.tolist()] == brute
    expected = [len(a & b) / count for a, b in zip(*sets, strict=True)]
    assert overlap(*actual).tolist() == pytest.approx(expected)


def test_unrelated_representations_overlap_by_chance() -> None:
    random = np.random.default_rng(0)
    unrelated = [nearest_neighbors(random.normal(size=(800, 16)), 10) for _ in range(2)]
    assert overlap(*unrelated).mean() == pytest.approx(chance(800, 10), abs=0.005)
    assert overlap(unrelated[0], unrelated[0]).mean() == 1
