"""How fast everything is that takes time, each against what people use instead.

Reviews enter; tables leave, one row per thing measured. Whatever is compared takes turns in one
process, so that what else the machine does falls on all alike, and medians are taken; peak memory
is that of a process of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import pickle
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nltk
import numpy as np
import pandas as pd
import torch
from gensim.models import KeyedVectors
from nltk.stem import WordNetLemmatizer
from tqdm import tqdm

from lstm_sentiment.data import Batch, ReviewDataset, load_reviews, make_loader
from lstm_sentiment.embeddings import build_embedding_matrix, load_word_vectors
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.report.speed import (
    BATCH_SIZE,
    EMBEDDING_SIZE,
    TIMED,
    _take_steps,
    compare_speed,
    largest_disagreement,
    lstm_contenders,
    training_step,
)
from lstm_sentiment.text import Vocabulary, tokenize_all
from lstm_sentiment.training import make_optimizer, pick_device


def bench_steps(
    dataset: ReviewDataset,
    vocabulary_size: int,
    hidden_sizes: Sequence[int] = (64, 128, 256),
    rounds: int = 3,
) -> Iterator[dict]:
    """The LSTM by hand and nn.LSTM, on four batches of the dataset's short to long reviews.

    Yields:
        Per frozen or fine-tuned vectors, one or two directions, hidden size and model: the figures
        of `compare_speed` against nn.LSTM in its best case (the only right one for two directions
        is packed), `disagreement` in loss and gradients before, and `peak_mb`: by how much two
        training steps on the longest batch raise the memory of a process.
    """
    batches = _typical_batches(dataset, 4)
    for bidirectional, frozen, hidden_size in itertools.product(
        (False, True), (True, False), hidden_sizes
    ):
        model = _make_model(
            vocabulary_size, hidden_size, bidirectional=bidirectional, freeze_embedding=frozen
        )
        contenders = lstm_contenders(model)
        disagreement = largest_disagreement(contenders, batches[0])
        table = compare_speed(contenders, batches, rounds)
        configuration = {
            "vectors": "frozen" if frozen else "fine-tuned",
            "directions": 2 if bidirectional else 1,
            "hidden_size": hidden_size,
        }
        for row in table.to_dict("records"):
            contender = contenders[row["model"]]
            _, _, peak = in_own_process(_take_steps, contender, [batches[-1]] * 2)
            yield {**configuration, **row, "disagreement": disagreement, "peak_mb": peak}


def bench_memory_kept(
    dataset: ReviewDataset, vocabulary_size: int, rounds: int = 5
) -> Iterator[dict]:
    """How much of the time is the system's, which clears every page of memory that it hands out.

    Frozen vectors, one direction, 128 units; with glibc as it is and told to keep what is freed.

    Yields:
        Per case: the figures of `compare_speed` for nn.LSTM in its best case and by hand.
    """
    batches = _typical_batches(dataset, 4)
    model = _make_model(vocabulary_size, freeze_embedding=True)
    keep = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**34)}
    for case, variables in {"as usual": {}, "freed memory kept": keep}.items():
        with _environment(variables):
            table, _, _ = in_own_process(_compare_two, model, batches, rounds)
        for row in table.to_dict("records"):
            yield {"case": case, **row}


def bench_compilation() -> Iterator[dict]:
    """What compiling costs: seconds before the first training step is done, less a usual step.

    Yields:
        `case` ("first time on a machine" or "kept on disk") and `seconds`.
    """
    with tempfile.TemporaryDirectory() as folder, _environment({"NUMBA_CACHE_DIR": folder}):
        for case in ("first time on a machine", "kept on disk"):
            seconds, _, _ = in_own_process(_seconds_to_compile)
            yield {"case": case, "seconds": seconds}


def bench_epoch(
    dataset: ReviewDataset, vocabulary_size: int, embedding_size: int = 200, hidden_size: int = 128
) -> list[dict]:
    """One epoch of training as in the report: fine-tuned vectors, dropout, every review once.

    The models take turns of ten batches, each training on by itself.

    Returns:
        Per model: seconds, tokens_per_second, speedup over nn.LSTM in its best case, mean_loss of
        the epoch, and difference_in_ten_steps, the largest of the loss from the first model's in
        the first ten. That is rounding; training lets it grow, so that mean losses differ a little.
    """
    options = {"embedding_dropout": 0.5, "dropout": 0.5}
    contenders = lstm_contenders(
        _make_model(vocabulary_size, hidden_size, embedding_size, **options)
    )
    optimizers = {name: make_optimizer(model, TIMED) for name, model in contenders.items()}
    batches = [*make_loader(dataset, BATCH_SIZE, shuffle=True)]
    for contender in contenders.values():
        training_step(contender, batches[0])  # whatever is prepared once
    seconds = {name: 0.0 for name in contenders}
    losses = {name: [] for name in contenders}  # one per batch
    for start in tqdm(range(0, len(batches), 10), desc="an epoch each", leave=False):
        for name, contender in contenders.items():
            torch.manual_seed(start)  # the same dropout for all
            begin = time.perf_counter()
            for batch in batches[start : start + 10]:
                losses[name].append(training_step(contender, batch, optimizers[name]))
            seconds[name] += time.perf_counter() - begin
    first = next(iter(contenders))
    return [
        {
            "model": name,
            "seconds": seconds[name],
            "tokens_per_second": int(dataset.lengths.sum()) / seconds[name],
            "speedup": seconds[first] / seconds[name],
            "mean_loss": statistics.mean(losses[name]),
            "difference_in_ten_steps": max(
                abs(loss - expected)
                for loss, expected in zip(losses[name][:10], losses[first], strict=False)
            ),
        }
        for name in contenders
    ]


def bench_growth(
    dataset: ReviewDataset,
    vocabulary_size: int,
    review_counts: Sequence[int] = (1_000, 5_000, 25_000),
    lengths: Sequence[int] = (50, 100, 200, 400, 1_000),
    rounds: int = 3,
) -> list[dict]:
    """Time per token and memory as reviews become more and longer, for the LSTM by hand.

    Returns:
        Per number of reviews (one pass of training steps over them) and per length (64 reviews cut
        from the text, all of it; lengths for which it is too short are left out): the case,
        nanoseconds_per_token and peak_mb.
    """
    model = _make_model(vocabulary_size, freeze_embedding=True)
    optimizer = make_optimizer(model, TIMED)
    cases = []
    for n in dict.fromkeys(min(n, len(dataset)) for n in review_counts):
        part = ReviewDataset([dataset[i][0] for i in range(n)], dataset.labels[:n])
        cases.append((f"{n:,} reviews", [*make_loader(part, BATCH_SIZE, shuffle=True)]))
    for length in (n for n in lengths if BATCH_SIZE * n <= len(dataset.flat_ids)):
        token_ids = dataset.flat_ids[: BATCH_SIZE * length].reshape(BATCH_SIZE, length)
        made_up = ReviewDataset(token_ids, [0, 1] * (BATCH_SIZE // 2))
        cases.append((f"{length:,} tokens each", [*make_loader(made_up, BATCH_SIZE, False)] * 4))
    seconds = {name: [] for name, _ in cases}
    for _ in tqdm(range(rounds), desc="growing", unit="round", leave=False):
        for name, batches in cases:
            training_step(model, batches[0], optimizer)
            start = time.perf_counter()
            for batch in batches:
                training_step(model, batch, optimizer)
            seconds[name].append(time.perf_counter() - start)
    rows = []
    for name, batches in cases:
        tokens = sum(int(batch.lengths.sum()) for batch in batches)
        _, _, peak = in_own_process(_take_steps, model, batches)
        median = statistics.median(seconds[name])
        rows.append({"case": name, "nanoseconds_per_token": 1e9 * median / tokens, "peak_mb": peak})
    return rows


def bench_preparation(
    reviews: pd.DataFrame, vector_count: int = 100_000, rounds: int = 2
) -> Iterator[dict]:
    """Tokens, embedding matrix and CSV against what people use for them.

    Yields:
        Per task and way: seconds (median), peak_mb, both of a process of its own, and the ratio of
        the usual way's seconds to these.
    """
    texts = reviews["review"].tolist()
    lemmas = _has_nltk_data("corpora/wordnet")
    usual_tokens = f"nltk.word_tokenize{' and WordNetLemmatizer' if lemmas else ''}"
    with tempfile.TemporaryDirectory() as folder:
        vector_file, csv_file = Path(folder) / "vectors.txt", Path(folder) / "reviews.csv"
        _write_vector_file(vector_file, vector_count)
        words = [f"word{i}" for i in range(0, 2 * vector_count, 8)]  # half of them have vectors
        more = reviews.assign(review=reviews["review"] + " And so on.")
        pd.concat([reviews, more]).to_csv(csv_file, index=False)
        tasks = {
            f"tokenizing {len(texts):,} reviews": {
                usual_tokens: (_tokenize_as_usual, texts),
                "tokenize_all": (tokenize_all, texts),
            },
            f"embedding matrix out of a text file, {vector_count:,} x {EMBEDDING_SIZE}": {
                "gensim's loader": (_matrix_as_usual, vector_file, words),
                "load_word_vectors": (_matrix_of_ours, vector_file, words),
            },
            f"loading {2 * len(texts):,} reviews from CSV": {
                "pandas.read_csv, nothing checked": (pd.read_csv, csv_file),
                "load_reviews": (load_reviews, csv_file),
            },
        }
        for task, ways in tasks.items():
            seconds, peaks = ({way: [] for way in ways} for _ in range(2))
            for _ in range(rounds):
                for way, call in ways.items():
                    _, duration, peak = in_own_process(_discard_result, *call)
                    seconds[way].append(duration)
                    peaks[way].append(peak)
            usual = next(iter(ways))
            for way in ways:
                yield {
                    "task": task,
                    "way": way,
                    "seconds": statistics.median(seconds[way]),
                    "peak_mb": max(peaks[way]),
                    "speedup": statistics.median(
                        theirs / mine
                        for theirs, mine in zip(seconds[usual], seconds[way], strict=True)
                    ),
                }


def in_own_process(function: Callable, *arguments: object) -> tuple[object, float, float]:
    """Call `function` in a process of its own.

    Returns:
        its result, its seconds, and by how many MB it raised the peak of the process's memory (NaN
        on Windows, which does not say).
    """
    # As bytes: tensors sent by themselves would lie in memory shared with this process.
    call = pickle.dumps((function, arguments))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measured, call, torch.get_num_threads()).result()


def _measured(call: bytes, threads: int) -> tuple[object, float, float]:
    torch.set_num_threads(threads)
    function, arguments = pickle.loads(call)
    before = _peak_mb()
    start = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - start, _peak_mb() - before


def _peak_mb() -> float:
    """The most memory this process has had so far."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would be the parent's, if that had more
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    try:
        import resource
    except ImportError:
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2  # bytes, on macOS


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _compare_two(model: SentimentLSTM, batches: Sequence[Batch], rounds: int) -> pd.DataFrame:
    contenders = lstm_contenders(model)
    names = ("nn.LSTM, padded", "by hand, fused")
    return compare_speed({name: contenders[name] for name in names}, batches, rounds)


def _discard_result(function: Callable, *arguments: object) -> None:
    function(*arguments)


def _seconds_to_compile() -> float:
    model = _make_model(50, freeze_embedding=True)
    dataset = ReviewDataset([[2, 3, 4, 5]] * BATCH_SIZE, [0, 1] * (BATCH_SIZE // 2))
    batch = next(iter(make_loader(dataset, BATCH_SIZE, shuffle=False)))
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        training_step(model, batch)
        seconds.append(time.perf_counter() - start)
    return seconds[0] - statistics.median(seconds[1:])


def _make_model(
    vocabulary_size: int,
    hidden_size: int = 128,
    embedding_size: int = EMBEDDING_SIZE,
    **options: float,
) -> SentimentLSTM:
    """A model with made-up word vectors, about as long as real ones."""
    torch.manual_seed(0)
    vectors = torch.randn(vocabulary_size, embedding_size) / embedding_size**0.5
    vectors[0] = 0
    return SentimentLSTM(vectors, hidden_size, **options).to(pick_device())


def _typical_batches(dataset: ReviewDataset, count: int) -> list[Batch]:
    """`count` full batches, from those of short to those of long reviews."""
    full = [
        batch
        for batch in make_loader(dataset, BATCH_SIZE, shuffle=True)
        if len(batch.labels) == BATCH_SIZE
    ]
    full.sort(key=lambda batch: int(batch.lengths.sum()))
    return [full[(2 * i + 1) * len(full) // (2 * count)] for i in range(count)]


def _write_vector_file(path: Path, count: int) -> None:
    """A word2vec text file of `count` made-up vectors, word0 onwards."""
    generator = np.random.default_rng(0)
    with path.open("w", encoding="utf-8") as file:
        file.write(f"{count} {EMBEDDING_SIZE}\n")
        for index in range(count):
            numbers = " ".join(
                f"{number:.6f}" for number in generator.standard_normal(EMBEDDING_SIZE)
            )
            file.write(f"word{index} {numbers}\n")


def _matrix_of_ours(path: Path, words: list[str]) -> None:
    vectors = load_word_vectors(path, words)
    build_embedding_matrix(Vocabulary.from_tokens([words], min_count=1), vectors)


def _matrix_as_usual(path: Path, words: list[str]) -> None:
    vectors = KeyedVectors.load_word2vec_format(path)
    matrix = np.random.default_rng(0).normal(0, 0.1, (len(words) + 2, vectors.vector_size))
    for row, word in enumerate(words, start=2):
        if word in vectors:
            matrix[row] = vectors[word]


def _tokenize_as_usual(texts: list[str]) -> list[list[str]]:
    """What most notebooks do; without nltk's data, what of it needs none."""
    sentences = _has_nltk_data("tokenizers/punkt_tab")
    token_lists = [nltk.word_tokenize(text.lower(), preserve_line=not sentences) for text in texts]
    if _has_nltk_data("corpora/wordnet"):
        lemmatize = WordNetLemmatizer().lemmatize
        token_lists = [[lemmatize(token) for token in tokens] for tokens in token_lists]
    return token_lists


def _has_nltk_data(name: str) -> bool:
    for ending in ("", ".zip"):
        try:
            nltk.data.find(name + ending)
        except LookupError:
            continue
        return True
    return False
