"""Coverage-guided fuzzing of what reads files by strangers: CSV files and word vectors.

    pip install atheris
    PYTHONPATH=. python tests/fuzz_readers.py csv -atheris_runs=200000
    PYTHONPATH=. python tests/fuzz_readers.py vectors -atheris_runs=200000

Whatever the bytes, a reader gives what it promises or raises DataError. The input that breaks this
is written to a file `crash-...` and belongs into the table of test_tables.py or test_vectors.py.
Other options are libFuzzer's (-max_total_time, a folder to collect a corpus in).
"""

from __future__ import annotations

import gzip
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["lstm_sentiment"]):
    from lstm_sentiment.files.tables import read_review_column, read_table
    from lstm_sentiment.files.vectors import read_vector_file
    from lstm_sentiment.text import DataError


def check_table(table):
    numbers = sorted([*table.row_numbers, *table.malformed])
    assert numbers == list(range(1, 1 + len(numbers))), "a row is lost without a word"
    assert all(len(row) == len(table.header) for row in table.rows)


def check_reviews(texts):
    assert texts
    assert all(isinstance(text, str) for text in texts)


def check_vectors(vectors):
    assert len(vectors.index_to_key) == len(set(vectors.index_to_key)) == len(vectors.vectors)
    assert abs(vectors.vectors).max() < float("inf")


CHECKS = {
    "csv": {read_table: check_table, read_review_column: check_reviews},
    "vectors": {read_vector_file: check_vectors},
}
SEEDS = {
    "csv": [
        b"review,sentiment\nGood,positive\nBad,negative\n",
        b'text;label\r\n"Said ""no""; left.";0\r\n"Two\nlines";1\r\n',
        b"\xef\xbb\xbf\tReview\tLABEL\n0\tFine\tTrue\n1\tPoor\tfalse\n",
        "review,sentiment\nGood,pos\nBad,neg\n".encode("utf-16"),
        gzip.compress(b"review,sentiment\nGood,1\nBad,0\n"),
        b"review\nOnly, one, column\n\nof text\n",
    ],
    "vectors": [
        b"2 3\ngood 1 2 3\nbad -1 .5 2e-3\n",
        b"good 1 2 3\nbad 4 5 6\n",
        b"2 2\ngood " + bytes(8) + b"\nbad " + bytes(8) + b"\n",
        gzip.compress(b"2 1\ngood 1\nbad 2\n"),
    ],
}


def main(kind, options, folder):
    path, corpus = folder / "fuzzed", folder / "corpus"

    def target(content):
        path.write_bytes(content)
        for read, check in CHECKS[kind].items():
            try:
                check(read(path))
            except DataError as error:
                message = str(error)
                assert path.name in message, message
                assert len(message) < 2_000, message

    warnings.simplefilter("ignore")
    corpus.mkdir()
    for number, seed in enumerate(SEEDS[kind]):
        (corpus / str(number)).write_bytes(seed)
    atheris.Setup([sys.argv[0], *options, str(corpus)], target)
    atheris.Fuzz()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(sys.argv[1], sys.argv[2:], Path(name))
