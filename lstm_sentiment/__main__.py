"""Commands: python -m lstm_sentiment fetch|train|evaluate|predict|submit|study|bench (--help)."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
from optuna.storages import get_storage
from sqlalchemy.exc import SQLAlchemyError

from lstm_sentiment.classifier import SentimentPredictor, write_submission
from lstm_sentiment.data import (
    ReviewDataset,
    describe_loading,
    draw_balanced,
    load_reviews,
    load_unlabelled,
    split_reviews,
)
from lstm_sentiment.embeddings import load_word_vectors
from lstm_sentiment.evaluation import evaluate, evaluation_table, fit_temperature, write_metrics
from lstm_sentiment.files.tables import read_review_column
from lstm_sentiment.model import POOLINGS
from lstm_sentiment.report.speed import BATCH_SIZE
from lstm_sentiment.studies.bench import (
    bench_compilation,
    bench_epoch,
    bench_growth,
    bench_memory_kept,
    bench_preparation,
    bench_steps,
)
from lstm_sentiment.studies.presets import (
    PRESETS,
    PRETRAINED,
    REPORT,
    Configuration,
    build_model,
    prepare,
)
from lstm_sentiment.studies.study import (
    SEARCH_STORAGE,
    SEEDS,
    STUDIES,
    TRIALS,
    run_baselines,
    run_search,
    run_study,
    summarise_study,
)
from lstm_sentiment.text import (
    DataError,
    Vocabulary,
    choose_max_length,
    encode_labels,
    encode_reviews,
    normalised_text,
    tokenize_all,
)
from lstm_sentiment.training import machine, predict_logits, predict_proba, train

KEEP = "head_and_tail"
BENCH_PARTS = ("steps", "memory", "compilation", "epoch", "growth", "preparation")


def fetch(options: argparse.Namespace) -> None:
    """Bring word vectors into the data folder, so that later runs need no network."""
    if options.vectors == "imdb":
        raise DataError("imdb vectors are not fetched: the command train makes and keeps them")
    vectors = load_word_vectors(options.vectors)
    print(f"{options.vectors}: {len(vectors):,} words, {vectors.vector_size} dimensions")


def train_command(options: argparse.Namespace) -> None:
    """Train on 70% of the labelled reviews, choose on 20%, test on 10%, save the model."""
    configuration = _configuration(options)
    folder = Path(options.model)
    if folder.exists() and not folder.is_dir():
        raise DataError(f"--model {folder} is a file; name the folder to save the model in")
    reviews = load_reviews(options.data)
    print(describe_loading(reviews))
    balanced = 2 * int(reviews["sentiment"].value_counts().min())
    if options.limit and options.limit < len(reviews):
        reviews = draw_balanced(reviews, min(options.limit, balanced), options.seed)
        print(f"{len(reviews):,} of them are drawn, half of them positive")
    held_back = []
    if options.hold_back:
        held_back = read_review_column(options.hold_back)
        keys = {normalised_text(text) for text in held_back}
        left_out = reviews["review"].map(normalised_text).isin(keys)
        print(f"{left_out.sum():,} reviews left out, because they occur in {options.hold_back}")
        reviews = reviews[~left_out]
    split = split_reviews(reviews, seed=options.seed)

    token_lists = {
        name: tokenize_all(part["review"], name) for name, part in split._asdict().items()
    }
    texts = []
    if configuration.vectors == "imdb" or configuration.pretraining:
        texts = load_unlabelled([*reviews["review"], *held_back])
    unlabelled = tokenize_all(texts, "texts without labels")
    if not configuration.pretraining or len(unlabelled) < len(token_lists["train"]):
        # Where there is much other text, one language model serves however reviews are split.
        unlabelled = [*token_lists["train"], *unlabelled]
    if configuration.pretraining:
        print(f"language model from {len(unlabelled):,} texts, unless it is in the data folder")
    prepared = prepare(
        configuration,
        token_lists,
        {name: encode_labels(part["sentiment"]) for name, part in split._asdict().items()},
        unlabelled if configuration.pretraining else token_lists["train"],
        unlabelled,
    )
    datasets = prepared.datasets
    model = build_model(configuration, prepared)
    history = train(
        model,
        datasets["train"],
        datasets["validation"],
        configuration.training,
        folder / "training.checkpoint",
        resume=options.resume,
    )
    if len(history) < configuration.training.epochs:
        raise KeyboardInterrupt(
            f"{len(history)} of {configuration.training.epochs} epochs are done and no model is "
            "saved; the same command with --resume goes on from there"
        )
    history.to_csv(folder / "history.csv", index=False)
    validation = datasets["validation"]
    temperature = fit_temperature(validation.labels, predict_logits(model, validation))
    predictor = SentimentPredictor(
        model, prepared.vocabulary, prepared.max_length, configuration.keep, temperature
    )
    predictor.save(folder)
    print(history[history["is_best"]].tail(1).to_string(index=False))
    results = {
        name: evaluate(dataset.labels, predict_proba(model, dataset))
        for name, dataset in datasets.items()
    }
    data = {**reviews.attrs["loading"], "reviews": len(reviews)}
    data["configuration"] = asdict(configuration)
    seconds = {"training": history["seconds"].sum()}
    metrics = {**results, "baselines": {}, "data": data, "seconds": seconds}
    write_metrics(folder / "metrics.json", metrics)
    print(evaluation_table(results).to_string())


def _configuration(options: argparse.Namespace) -> Configuration:
    """The system that --preset and --pretrain name, with what other options change in it.

    Raises:
        DataError: the options do not go together or have impossible values.
    """
    configuration = PRESETS[options.preset] if options.preset else REPORT
    if options.pretrain:
        configuration = PRETRAINED
    given = {name: value for name, value in vars(options).items() if value is not None}
    model = {name: given[name] for name in ("hidden_size", "pooling") if name in given}
    if options.bidirectional:
        model["bidirectional"] = True
    settings = ("epochs", "batch_size", "learning_rate", "seed")
    training = {name: given[name] for name in settings if name in given}
    fields = {"vectors": options.vectors} if options.vectors else {}
    try:
        if options.pretrain and "hidden_size" in given:
            size = given["hidden_size"]
            fields["pretraining"] = replace(configuration.pretraining, hidden_size=size)
        return configuration.but(model, training, **fields)
    except ValueError as error:
        raise DataError(f"these options do not work: {error}") from error


def seed_number(text: str) -> int:
    """A seed that numpy, torch and gensim all take."""
    seed = int(text)
    if not 0 <= seed < 2**32:
        raise argparse.ArgumentTypeError(f"must be between 0 and {2**32 - 1}, got {seed}")
    return seed


def number_of_trials(text: str) -> int:
    """For argparse."""
    trials = int(text)
    if trials < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, got {trials}")
    return trials


def study(options: argparse.Namespace) -> None:
    """Run experiments that take long, or what is missing of them, into notebooks/results."""
    given = {name: getattr(options, name) for name in ("seeds", "trials", "storage")}
    meant = {"search": given, "baselines": []}.get(options.name, ["seeds"])
    if idle := [f"--{name}" for name in given if given[name] is not None and name not in meant]:
        raise DataError(f"study {options.name} has no option {', '.join(idle)}")
    seeds = options.seeds or SEEDS
    if options.name == "baselines":
        table = summarise_study(run_baselines())
    elif options.name == "search":
        Path("artifacts").mkdir(exist_ok=True)  # for the default storage
        storage = options.storage or SEARCH_STORAGE
        try:
            get_storage(storage)
        except (SQLAlchemyError, ImportError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"--storage {storage} cannot be used: {reason}") from error
        trials = TRIALS if options.trials is None else options.trials
        table = run_search(trials, storage, seeds[0])
    else:
        table = summarise_study(run_study(options.name, seeds))
    print(table.to_string(float_format="{:.4f}".format))


def evaluate_command(options: argparse.Namespace) -> None:
    """Score the saved model on a labelled file."""
    reviews = load_reviews(options.file)
    print(describe_loading(reviews))
    probabilities = SentimentPredictor.load(options.model).predict_proba(reviews["review"])
    result = evaluate(encode_labels(reviews["sentiment"]), probabilities)
    print(json.dumps(result, indent=2))


def predict_command(options: argparse.Namespace) -> None:
    """Sentiment and calibrated probability of texts, as CSV: those given, a file's, or standard
    input's, a review a line."""
    predictor = SentimentPredictor.load(options.model)
    texts = options.text
    if options.file:
        texts = [*texts, *_texts_of(Path(options.file))]
    elif not texts:
        texts = _lines(sys.stdin.buffer.read(), "standard input")
    if not texts:
        raise DataError(f"{options.file or 'standard input'} holds no review")
    if options.words:
        result = _word_by_word(predictor, texts)
    else:
        result = predictor.predict(texts)
        result.insert(0, "review", texts)
    # Before Python 3.13 a carriage return is not reason enough for quotes, and would end the row.
    returns = any("\r" in text for text in texts)
    quoting = csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL
    result.to_csv(sys.stdout, index=False, float_format="%.4f", quoting=quoting)


def _texts_of(path: Path) -> list[str]:
    """The column review of a CSV or TSV file, or the lines of another."""
    if {".csv", ".tsv"} & {suffix.lower() for suffix in path.suffixes}:  # also .csv.gz, .csv.zip
        return read_review_column(path)
    return _lines(path.read_bytes(), str(path))


def _lines(content: bytes, source: str) -> list[str]:
    """The lines of UTF-8 text, blank ones too, so that results stand in the order of the input.

    Only a line feed ends a line, or a carriage return where there is none (old Macs): a review may
    hold other characters that `str.splitlines` takes for an end.

    Raises:
        DataError: it is not UTF-8; the message names `source`.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{source} is not UTF-8 text ({error}); save it as such") from error
    if not text:
        return []
    if "\n" not in text:
        text = text.replace("\r", "\n")
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def _word_by_word(predictor: SentimentPredictor, texts: Sequence[str]) -> pd.DataFrame:
    """One row per word of each text, with the text's number, from 1, in the column review.

    Raises:
        DataError: a text cannot be followed word by word; the message names its number.
    """
    tables = []
    for number, text in enumerate(texts, start=1):
        try:
            table = predictor.word_by_word(text)
        except ValueError as error:
            raise DataError(f"review {number}: {error}") from error
        table.insert(0, "review", number)
        tables.append(table)
    return pd.concat(tables)


def submit(options: argparse.Namespace) -> None:
    """Write the predictions for a Kaggle file (column review) as ID,sentiment."""
    if Path(options.output).is_dir():
        raise DataError(f"--output {options.output} is a folder; name the file to write")
    predictor = SentimentPredictor.load(options.model)
    sentiments = predictor.predict(read_review_column(options.file))["sentiment"]
    write_submission(sentiments, options.output)
    print(f"{len(sentiments):,} predictions written to {options.output}")


def bench(options: argparse.Namespace) -> None:
    """Time everything slow against what people use instead; half an hour for all parts."""
    reviews = load_reviews(options.data).sample(frac=1, random_state=0)  # files are often sorted
    if len(reviews) < BATCH_SIZE:
        raise DataError(f"{len(reviews)} reviews; at least {BATCH_SIZE} are needed, a full batch")
    token_lists = tokenize_all(reviews["review"])
    vocabulary = Vocabulary.from_tokens(token_lists)
    max_length = choose_max_length([len(tokens) for tokens in token_lists]).max_length
    token_ids = encode_reviews(token_lists, vocabulary, max_length, KEEP)
    labels = encode_labels(reviews["sentiment"])
    every_review = ReviewDataset(token_ids, labels)
    as_in_report = ReviewDataset(token_ids[:7_000], labels[:7_000])
    parts = {
        "steps": lambda: bench_steps(as_in_report, len(vocabulary)),
        "memory": lambda: bench_memory_kept(as_in_report, len(vocabulary)),
        "compilation": bench_compilation,
        "epoch": lambda: bench_epoch(as_in_report, len(vocabulary)),
        "growth": lambda: bench_growth(every_review, len(vocabulary)),
        "preparation": lambda: bench_preparation(reviews),
    }
    results = {"machine": machine()}
    for part in options.part or BENCH_PARTS:
        results[part] = list(parts[part]())
        if not options.json:
            table = pd.DataFrame(results[part])
            print(f"{part}\n{table.to_string(index=False, float_format='{:,.4g}'.format)}\n")
    if options.json:
        print(json.dumps(results, indent=2))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lstm_sentiment",
        description="Sentiment of movie reviews with an LSTM written by hand in PyTorch.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, function) -> argparse.ArgumentParser:
        summary = function.__doc__
        command = commands.add_parser(name, help=summary.replace("%", "%%"), description=summary)
        command.set_defaults(run=function)
        if name != "fetch":
            command.add_argument(
                "--model", default="artifacts", help="folder of the saved model (%(default)s)"
            )
        return command

    vectors_help = "google-news-26k, imdb, a vector file or a gensim.downloader name (imdb)"
    command = add("fetch", fetch)
    command.add_argument(
        "vectors",
        nargs="?",
        default="google-news-26k",
        help="google-news-26k or a gensim.downloader name (%(default)s)",
    )

    command = add("train", train_command)
    command.add_argument("--data", help="labelled reviews: a CSV file, aclImdb, or bundle")
    command.add_argument(
        "--limit", type=int, default=10_000, help="reviews to draw, 0 for all (%(default)s)"
    )
    command.add_argument(
        "--hold-back",
        metavar="FILE",
        help="CSV of reviews that training must not see, if it has them",
    )
    systems = command.add_mutually_exclusive_group()
    systems.add_argument(
        "--preset", choices=PRESETS, help="a system by others; other options change it"
    )
    systems.add_argument(
        "--pretrain",
        action="store_true",
        help="start from a language model, trained first on the text at hand (with 50,000 reviews "
        "one to two hours; other text, such as after another --seed, needs another one)",
    )
    command.add_argument("--vectors", help=vectors_help)
    for name, kind, usual in [
        ("--epochs", int, REPORT.training.epochs),
        ("--batch-size", int, REPORT.training.batch_size),
        ("--learning-rate", float, REPORT.training.learning_rate),
        ("--hidden-size", int, REPORT.model["hidden_size"]),
    ]:
        command.add_argument(name, type=kind, help=f"({usual}, or as in the system chosen)")
    command.add_argument("--pooling", choices=POOLINGS, help="(last, or as in the system chosen)")
    command.add_argument("--bidirectional", action="store_true", help="read from both ends")
    command.add_argument("--seed", type=seed_number, default=0, help="(%(default)s)")
    command.add_argument(
        "--resume", action="store_true", help="go on where the same command was interrupted"
    )

    command = add("evaluate", evaluate_command)
    command.add_argument("file", help="CSV with the columns review and sentiment")

    command = add("predict", predict_command)
    command.add_argument("text", nargs="*", help="reviews; without any, standard input is read")
    command.add_argument("--file", help="CSV with the column review, or text, a review a line")
    command.add_argument(
        "--words", action="store_true", help="the probability and the gates after each word"
    )

    command = add("submit", submit)
    command.add_argument("file", help="CSV with the column review")
    command.add_argument("--output", default="artifacts/predictions.csv", help="(%(default)s)")

    command = commands.add_parser("study", help=study.__doc__, description=study.__doc__)
    command.set_defaults(run=study)
    command.add_argument("name", choices=[*STUDIES, "baselines", "search"])
    command.add_argument(
        "--seeds",
        type=seed_number,
        nargs="+",
        help="each trains once more (0 1 2); the search takes the first",
    )
    command.add_argument(
        "--trials", type=number_of_trials, help=f"of the search, in all ({TRIALS})"
    )
    command.add_argument(
        "--storage",
        help="URL of the database of the search, which several machines may share "
        f"({SEARCH_STORAGE})",
    )

    command = commands.add_parser("bench", help=bench.__doc__, description=bench.__doc__)
    command.set_defaults(run=bench)
    command.add_argument("--data", help="labelled reviews: a CSV file, aclImdb, or bundle")
    command.add_argument(
        "--part", action="append", choices=BENCH_PARTS, help="only this; may be given repeatedly"
    )
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; what is wrong with the input is said in one line, without a traceback."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # the system's encoding may lack characters
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        options.run(options)
    except BrokenPipeError:  # the reader, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (DataError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        print(f"interrupted: {interrupt}".removesuffix(": "), file=sys.stderr)
        return 130  # as shells report it
    return 0


if __name__ == "__main__":
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    sys.exit(main())
