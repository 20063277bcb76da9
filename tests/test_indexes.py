"""IndexSet and IndexMap: a set and a dict of strings, only smaller."""

from __future__ import annotations

import io
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jsonl_runner.indexes import (
    IndexMap,
    IndexSet,
    _Buckets,
    place_of,
    places_of,
    places_of_integers,
)

INDICES_ASKED = {*map(str, range(45)), "07", "a"}
DENSE_EDGES = (7, 8, 255, 256, 4095)

#: Small integers, the same ones written otherwise, long ones, and any text at all.
INDICES = st.one_of(
    st.integers(0, 40).map(str),
    st.integers(0, 40).map(lambda n: f"0{n}"),
    st.integers(-40, 0).map(str),
    st.integers(10**8, 10**30).map(str),
    st.sampled_from([str(edge) for edge in DENSE_EDGES]),
    st.text(max_size=6),
    st.sampled_from(["٣", "७", "²", "+7", " 7", "7 ", "7.0", "1e3", "\ud800", "1_0", ""]),
)


@given(st.lists(INDICES, max_size=80), st.lists(INDICES, max_size=20))
@example(["7", "07", "+7", "७", "7 "], ["7.0"])
def test_an_index_set_is_a_set(added: list[str], asked: list[str]) -> None:
    """For every list of indices: membership, length and newness are those of a set."""
    real, ours = set[str](), IndexSet()
    for index in added:
        assert ours.add(index) == (index not in real)
        real.add(index)
        assert len(ours) == len(real)
    for index in added + asked:
        assert (index in ours) == (index in real)


@given(st.lists(st.lists(st.integers(0, 3000).map(str)) | st.lists(INDICES), max_size=6))
@example([[str(n) for n in range(100)], [str(n) for n in range(50, 150)]])
@example([[str(n) for n in range(99, -1, -1)], [str(n) for n in range(0, 300, 2)]])
@example([["1"] * 40, ["٣"] * 20, ["07"] * 20, [f"{n:03}" for n in range(200)]])
@example([[str(1 << 27)] * 20, ["-1"] * 20, [str(n) for n in range(-10, 30)]])
def test_many_at_a_time_is_one_by_one(lists: list[list[str]]) -> None:
    """For every lists of indices: put in together or one by one makes the same set."""
    together, alone = IndexSet(), IndexSet()
    for indices in lists:
        places = places_of(indices)
        assert list(places) == [place_of(index) for index in indices]
        lacking = [number for number, index in enumerate(indices) if index not in alone]
        assert together.lacking(places) == lacking
        known = [number for number, index in enumerate(indices) if not alone.add(index)]
        assert together.put_all(places) == known
        assert len(together) == len(alone)
    for index in {index for indices in lists for index in indices}:
        assert index in together


@given(st.lists(st.integers(-5, 40) | st.integers(2**26, 2**28), max_size=20))
def test_integers_lie_where_their_texts_do(numbers: list[int]) -> None:
    """For every list of integers, small and large."""
    assert list(places_of_integers(numbers)) == [place_of(str(number)) for number in numbers]


@given(st.lists(st.tuples(INDICES, st.integers(0, 2**64 - 2)), max_size=80), st.lists(INDICES))
@example([("x", 0), ("0", 0)], ["1", "y"])
@example([("x", 2**64 - 2), ("0", 2**64 - 2)], [])
def test_an_index_map_is_a_dict(given_: list[tuple[str, int]], asked: list[str]) -> None:
    """For every list of pairs, the last number given to an index holds, 0 and 2**64 - 2 too."""
    real, ours = dict[str, int](), IndexMap()
    for index, number in given_:
        ours.set(index, number)
        real[index] = number
        assert len(ours) == len(real)
    for index in [*real, *asked]:
        assert ours.get(index) == real.get(index)


def test_integers_in_any_order() -> None:
    """A file sorted backwards, or in leaps, is held like any other."""
    for order in (range(5000), range(4999, -1, -1), [n * 2477 % 5000 for n in range(5000)]):
        ours = IndexSet()
        assert all(ours.add(str(n)) for n in order)
        assert len(ours) == 5000
        assert not any(ours.add(str(n)) for n in order)
        assert "5000" not in ours


@given(
    st.integers(0, 8),
    st.lists(
        st.lists(st.sampled_from([0, 1]), min_size=14, max_size=14), max_size=12, unique_by=tuple
    ),
    st.lists(st.sampled_from([0, 1]), min_size=14, max_size=14),
)
def test_records_are_found_at_their_borders_only(
    value_size: int, records: list[list[int]], asked: list[int]
) -> None:
    """For every bucket of digests that look alike, each is found in its own place and nowhere else.

    A digest that lies across two of them is not found, and one behind such a place is.
    """
    buckets = _Buckets(value_size)
    for record in records:
        buckets.append(b"ab" + bytes(record), bytes(value_size))
    for record in [*records, asked]:
        _, at = buckets.locate(b"ab" + bytes(record))
        expected = records.index(record) * (14 + value_size) if record in records else -1
        assert at == expected


def test_a_digest_across_two_records_is_not_found() -> None:
    """The middle of two neighbours spells a third digest that nobody put in."""
    buckets = _Buckets(0)
    buckets.append(b"ab" + b"xxxxxxx1234567", b"")
    buckets.append(b"ab" + b"89abcdeyyyyyyy", b"")
    assert buckets.locate(b"ab" + b"123456789abcde")[1] == -1
    buckets.append(b"ab" + b"123456789abcde", b"")
    assert buckets.locate(b"ab" + b"123456789abcde")[1] == 28
    assert buckets.locate(b"cd" + b"123456789abcde") == (None, -1)


@pytest.mark.parametrize(
    ("kind", "form", "most"),
    [
        (IndexSet, "{}", 0.2),
        (IndexMap, "row-{}", 70),
    ],
)
def test_they_are_small(kind: type[IndexSet | IndexMap], form: str, most: float) -> None:
    """Bytes for each of 200,000 rows; a Python set of the same takes over 100."""
    tracemalloc.start()
    try:
        ours = kind()
        for n in range(200_000):
            if isinstance(ours, IndexSet):
                ours.add(form.format(n))
            else:
                ours.set(form.format(n), n)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(ours) == 200_000
    assert used / 200_000 <= most


def test_a_number_of_four_thousand_digits_is_an_index() -> None:
    """Python refuses to convert such a text; it is a name like any other."""
    ours = IndexSet()
    assert ours.add("9" * 5000)
    assert "9" * 5000 in ours
    assert "9" * 5001 not in ours


def test_the_edges_of_what_is_dense() -> None:
    """The largest dense integers and the first that are not are told apart."""
    edges = [str((1 << power) + off) for power in (24, 27) for off in (-1, 0, 1)]
    found, numbers = IndexSet(), IndexMap()
    for place, edge in enumerate(edges):
        assert edge not in found
        assert found.add(edge)
        numbers.set(edge, place)
    assert [numbers.get(edge) for edge in edges] == list(range(6))
    assert all(edge in found for edge in edges)
    assert str((1 << 27) + 2) not in found
    assert numbers.get(str((1 << 24) - 2)) is None


@given(st.lists(INDICES, max_size=80), st.integers(0, 40), st.integers(0, 40))
@example([str(n) for n in range(100)], 7, 0)
def test_a_set_that_was_kept_is_the_same(added: list[str], low: int, more: int) -> None:
    """For every set: it is read as it was written, and counts the integers between two others."""
    ours = IndexSet()
    for index in added:
        ours.add(index)
    stream = io.BytesIO()
    ours.dump(stream.write)
    stream.write(b"what follows")
    stream.seek(0)
    again = IndexSet.load(stream.read)
    assert stream.read() == b"what follows"
    assert len(again) == len(ours)
    for index in INDICES_ASKED | set(added):
        assert (index in again) == (index in ours)
    between = [number for number in range(low, low + more + 1) if str(number) in ours]
    assert ours.count_between(low, low + more) == len(between)
    assert [again.add(index) for index in added] == [False] * len(added)
