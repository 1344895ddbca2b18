"""Commands: python -m lstm_sentiment train|evaluate|predict|submit|... (--help).

Each command imports what it needs when it runs: `--help` needs no PyTorch.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lstm_sentiment import __version__
from lstm_sentiment.studies.presets import (
    ADVERSARIAL,
    BENCH_PARTS,
    PRESETS,
    PRETRAINED,
    STUDY_NAMES,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from lstm_sentiment.predictor import TextPredictor
    from lstm_sentiment.text import DataError


def train(options: argparse.Namespace) -> None:
    """Train on 70% of the labelled reviews, choose on 20%, test on 10%, save the model.

    On several processors or GPUs: torchrun --nproc-per-node 2 -m lstm_sentiment train ...
    """
    settings, folder = _settings(options), Path(options.model)
    from filelock import FileLock, Timeout

    from lstm_sentiment.processes import is_first, process_group
    from lstm_sentiment.text import DataError

    if folder.is_file():
        raise DataError(f"--model {folder} is a file; name the folder to save the model in")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with process_group():
            lock = FileLock(folder / "training.lock", timeout=0)
            with lock if is_first() else contextlib.nullcontext():
                _train(options, settings, folder)
    except Timeout as error:
        raise DataError(
            f"another training writes to {folder}; wait for it, or name another --model"
        ) from error


def _train(options: argparse.Namespace, settings: dict, folder: Path) -> None:
    from lstm_sentiment.classifier import SentimentClassifier
    from lstm_sentiment.data import load_unlabelled, split_reviews
    from lstm_sentiment.evaluation import evaluate, evaluation_table, write_metrics
    from lstm_sentiment.files.keep import replacing
    from lstm_sentiment.processes import is_first
    from lstm_sentiment.training import best_epoch

    reviews, held_back, source = _labelled(options)
    split = split_reviews(reviews, seed=options.seed)
    sets = {name: (part["review"], part["sentiment"]) for name, part in split._asdict().items()}
    unlabelled = []
    if settings.get("vectors") == "own":
        unlabelled = load_unlabelled([*reviews["review"], *held_back])
    classifier = SentimentClassifier(**settings)
    classifier.fit(
        *sets["train"],
        validation=sets["validation"],
        unlabelled=unlabelled,
        checkpoint=folder / "training.checkpoint",
        resume=options.resume,
    )
    history = classifier.history_
    if len(history) < classifier.epochs:
        raise KeyboardInterrupt(
            f"{len(history)} of {classifier.epochs} epochs are done and no model is saved; the "
            "same command with --resume goes on from there"
        )
    results = {
        name: evaluate(labels == "positive", _positive(classifier, texts))
        for name, (texts, labels) in sets.items()
    }
    if not is_first():
        return
    for name in ("metrics.json", "history.csv"):  # of the model before
        (folder / name).unlink(missing_ok=True)
    classifier.save(folder)
    with replacing(folder / "history.csv") as part:
        history.to_csv(part, index=False)
    facts = {
        "data": {"source": source, "reviews": len(reviews), "settings": settings},
        "seconds": {"training": history["seconds"].sum()},
    }
    write_metrics(folder / "metrics.json", {**results, **facts})
    print(best_epoch(history).to_frame().T.to_string(index=False))
    print(evaluation_table(results).to_string())


def _positive(classifier: TextPredictor, texts: pd.Series) -> np.ndarray:
    """Probability (n,) that each text is positive; processes that train together share them out."""
    import torch

    from lstm_sentiment.processes import own_share, sum_of_all
    from lstm_sentiment.training import pick_device

    rows = [*own_share(range(len(texts)))]
    positive = torch.zeros(len(texts), device=pick_device())
    own = classifier.predict_proba(texts.iloc[rows])[:, 1]
    positive[rows] = torch.from_numpy(own).to(positive)
    sum_of_all(positive)
    return positive.cpu().numpy()


def _labelled(options: argparse.Namespace) -> tuple[pd.DataFrame, list[str], str]:
    """The reviews to learn from, those to hold back, and where the former come from."""
    from lstm_sentiment.data import draw_balanced, load_reviews
    from lstm_sentiment.files.tables import read_review_column
    from lstm_sentiment.text import normalised_text

    reviews, account = load_reviews(options.data)
    print(account)
    balanced = 2 * int(reviews["sentiment"].value_counts().min())
    if options.limit and options.limit < len(reviews):
        reviews = draw_balanced(reviews, min(options.limit, balanced), options.seed)
        print(f"{len(reviews):,} of them are drawn, half of them positive")
    held_back = read_review_column(options.hold_back) if options.hold_back else []
    if held_back:
        keys = {normalised_text(text) for text in held_back}
        left_out = reviews["review"].map(normalised_text).isin(keys)
        print(f"{left_out.sum():,} reviews left out, because they occur in {options.hold_back}")
        reviews = reviews[~left_out]
    return reviews, held_back, account.source


def _settings(options: argparse.Namespace) -> dict:
    """The classifier's parameters: those of the system chosen, with what other options change."""
    settings = dict(PRESETS[options.preset] if options.preset else {})
    if options.pretrained or options.adversarial:
        settings = dict(ADVERSARIAL if options.adversarial else PRETRAINED)
    names = ("vectors", "epochs", "batch_size", "learning_rate", "hidden_size", "pooling")
    given = {name: getattr(options, name) for name in names}
    settings |= {name: value for name, value in given.items() if value is not None}
    if options.bidirectional:
        settings["bidirectional"] = True
    return settings | {"random_state": options.seed}


def evaluate(options: argparse.Namespace) -> None:
    """Score the saved model on a labelled file."""
    from lstm_sentiment.data import load_reviews
    from lstm_sentiment.evaluation import evaluate
    from lstm_sentiment.predictor import TextPredictor

    reviews, account = load_reviews(options.file)
    print(account)
    probabilities = TextPredictor.load(options.model).predict_proba(reviews["review"])
    print(json.dumps(evaluate(reviews["sentiment"] == "positive", probabilities[:, 1]), indent=2))


def predict(options: argparse.Namespace) -> None:
    """Sentiment and calibrated probability of texts, as CSV or JSON: those given, a file's, or
    standard input's.

    A file is judged as it is read, in constant memory whatever its size: a row of output for each
    row, in order. A row that cannot be read has empty fields there and is reported at the end;
    where nobody can tell where the next row begins, the command ends with exit status 1.
    """
    from lstm_sentiment.files.lines import stream_texts
    from lstm_sentiment.files.tables import STANDARD_INPUT
    from lstm_sentiment.scoring import judged, write_verdicts, write_words
    from lstm_sentiment.text import DataError

    predictor = _predictor(options)
    notes: list[str] = []
    rows: Iterator[str | DataError] = iter(options.text)
    source = STANDARD_INPUT if options.file in (None, "-") else options.file
    if options.file or not options.text:
        rows = itertools.chain(rows, stream_texts(source, options.format, notes))
    first = next(rows, None)
    if first is None:
        raise DataError(f"{source} holds no review")
    rows = itertools.chain([first], rows)
    if options.words:
        write_words(predictor, rows, sys.stdout, options.json)
    else:
        write_verdicts(judged(predictor, rows, options.strict), sys.stdout, options.json)
    if notes:
        warnings.warn(f"{source}: {'; '.join(notes)}", stacklevel=2)


def _predictor(options: argparse.Namespace) -> TextPredictor:
    """The saved model; where none was saved or named, the one that comes with the package."""
    from lstm_sentiment.predictor import TextPredictor, model_file

    if options.model or model_file("artifacts").exists():
        return TextPredictor.load(options.model or "artifacts")
    return TextPredictor.from_pretrained()


def _output(output: str, options: argparse.Namespace, *inputs: str) -> Path:
    """The file to write, which must be none that is read: neither the model nor `inputs`."""
    from lstm_sentiment.predictor import model_file
    from lstm_sentiment.text import DataError

    path = Path(output)
    read = [model_file(options.model or "artifacts"), *map(Path, inputs)]
    if path.is_dir() or (path.exists() and any(f.exists() and path.samefile(f) for f in read)):
        raise DataError(f"output {path} is a folder or a file to read; name another file")
    return path


def submit(options: argparse.Namespace) -> None:
    """Write the predictions for a Kaggle file (columns review and, maybe, id) as ID,sentiment."""
    from lstm_sentiment.files.submission import write_submission
    from lstm_sentiment.files.tables import read_reviews_and_ids

    output = _output(options.output, options, options.file)
    predictor = _predictor(options)
    reviews, ids = read_reviews_and_ids(options.file)
    sentiments, _ = predictor.verdicts(reviews)
    write_submission(sentiments, output, ids)
    print(f"{len(sentiments):,} predictions written to {output}")


def page(options: argparse.Namespace) -> None:
    """Write one web page that reads reviews word by word in the browser, without a server."""
    from lstm_sentiment.page import write_page

    size = write_page(_predictor(options), _output(options.file, options))
    print(f"{options.file}: {size / 1e6:.1f} MB; open it in a browser")


def study(options: argparse.Namespace) -> None:
    """Run experiments that take long, or what is missing of them, into notebooks/results."""
    from lstm_sentiment.studies.study import run

    table = run(options.name, options.seeds, options.trials, options.storage)
    print(table.to_string(float_format="{:.4f}".format))


def bench(options: argparse.Namespace) -> None:
    """Time training and inference against what people use instead; twenty minutes for all parts."""
    import pandas as pd

    from lstm_sentiment.studies.bench import run

    results = run(options.part, options.data)
    if options.json:
        print(json.dumps(results, indent=2))
        return
    del results["machine"]
    for part, rows in results.items():
        table = pd.DataFrame(rows)
        print(f"{part}\n{table.to_string(index=False, float_format='{:,.4g}'.format)}\n")


def hand_in(options: argparse.Namespace) -> None:
    """Make the zip to hand in: the report, its code as one .py file, and what reruns need."""
    from lstm_sentiment.report import hand_in

    hand_in.main(options.student, options.notebook)


def check(options: argparse.Namespace) -> int:
    """Whether notebooks are whole runs whose outputs belong to their code, with all sections.

    A line each: what is wrong, and how many numbers of the prose no output shows. Nothing of them
    is run. The exit status is 1 if anything is wrong; numbers to read again do not count.
    """
    from lstm_sentiment.report import check, rerun

    good = check.main(options.notebook, options.verbose)
    if options.against:
        good &= all([rerun.main(notebook, options.against) for notebook in options.notebook])
    return 0 if good else 1


def check_cell(options: argparse.Namespace) -> int:
    """Compare a hand-written LSTM cell with nn.LSTMCell, and say which mistake it makes.

    This RUNS the file, with all your rights, in a process of its own. The exit status is 1 if the
    cell is wrong.
    """
    from lstm_sentiment.report import check_cell

    return 0 if check_cell.main(options.cell, options.timeout) else 1


# ---- The command line ----


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lstm-sentiment",
        description="Sentiment of movie reviews with an LSTM written by hand in PyTorch.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(function: Callable, name: str = "") -> argparse.ArgumentParser:
        description = function.__doc__ or ""
        summary = description.partition("\n\n")[0].replace("%", "%%")
        name = name or function.__name__
        command = commands.add_parser(name, help=summary, description=description)
        command.set_defaults(run=function)
        if function in (train, evaluate):
            command.add_argument(
                "--model", default="artifacts", help="folder of the saved model (%(default)s)"
            )
        if function in (predict, submit, page):
            command.add_argument(
                "--model",
                help="folder of the saved model (artifacts; where none was saved, the model that "
                "comes with the package)",
            )
        return command

    command = add(train)
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
        "--pretrained",
        action="store_true",
        help="start from the language model that comes with the package",
    )
    systems.add_argument(
        "--adversarial",
        action="store_true",
        help="the same with adversarial steps: better, and four times as long",
    )
    command.add_argument(
        "--vectors",
        help="imdb, own, google-news-26k, a vector file or a gensim.downloader name (imdb)",
    )
    for name, usual in [("--epochs", 50), ("--batch-size", 64), ("--hidden-size", 128)]:
        command.add_argument(name, type=_at_least(1), help=f"({usual}, or as in the system chosen)")
    command.add_argument("--learning-rate", type=_rate, help="(0.002, or as in the system chosen)")
    command.add_argument(
        "--pooling",
        choices=("last", "mean_max", "last_mean_max"),
        help="(last, or as in the system chosen)",
    )
    command.add_argument("--bidirectional", action="store_true", help="read from both ends")
    command.add_argument("--seed", type=_seed, default=0, help="(%(default)s)")
    command.add_argument(
        "--resume", action="store_true", help="go on where the same command was interrupted"
    )

    add(evaluate).add_argument("file", help="CSV with the columns review and sentiment")

    command = add(predict)
    command.add_argument("text", nargs="*", help="reviews; without any, standard input is read")
    command.add_argument(
        "--file",
        help="CSV with the column review, JSON Lines with that field, or text, a review a line; "
        "also packed (.gz, .zip); - is standard input",
    )
    command.add_argument(
        "--format",
        choices=("csv", "jsonl", "text"),
        help="of the file (as its name ends: .csv, .tsv, .jsonl, .json; text for another and for "
        "standard input)",
    )
    command.add_argument(
        "--strict", action="store_true", help="end at the first row that cannot be read"
    )
    command.add_argument(
        "--words",
        action="store_true",
        help="the probability and the gates after each word; long reviews are then read whole, "
        "else cut to the length learnt, which may change the verdict",
    )
    command.add_argument("--json", action="store_true", help="a JSON object a line, for programs")

    command = add(submit)
    command.add_argument("file", help="CSV with the column review")
    command.add_argument("--output", default="artifacts/predictions.csv", help="(%(default)s)")

    command = add(page)
    command.add_argument("file", nargs="?", default="artifacts/page.html", help="(%(default)s)")

    command = add(hand_in, "hand-in")
    command.add_argument("student", metavar="STUDENT_ID")
    command.add_argument("notebook", nargs="?", type=Path, help="(notebooks/report.ipynb)")

    command = add(check)
    command.add_argument("notebook", nargs="+", type=Path)
    command.add_argument("--verbose", action="store_true", help="every fault, a line each")
    command.add_argument(
        "--against",
        type=Path,
        metavar="OTHER",
        help="another run of the same code: list the outputs that differ, times apart",
    )

    command = add(check_cell, "check-cell")
    command.add_argument("cell", metavar="FILE.py:CLASS")
    command.add_argument(
        "--timeout", type=_at_least(1), default=60, help="seconds until it is stopped (%(default)s)"
    )

    command = add(study)
    command.add_argument("name", choices=STUDY_NAMES)
    command.add_argument(
        "--seeds",
        type=_seed,
        nargs="+",
        help="each trains once more (0 1 2); the search takes the first",
    )
    command.add_argument("--trials", type=_at_least(0), help="of the search, in all (40)")
    command.add_argument(
        "--storage",
        help="URL of the database of the search, which several machines may share "
        "(artifacts/search.db)",
    )

    command = add(bench)
    command.add_argument("--data", help="labelled reviews: a CSV file, aclImdb, or bundle")
    command.add_argument(
        "--part",
        action="append",
        choices=BENCH_PARTS,
        help="only this; may be given repeatedly (all but keras, which needs keras and tensorflow)",
    )
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {text}")
        return int(text)

    return number


def _rate(text: str) -> float:
    if not 0 < float(text) < 1e3:
        raise argparse.ArgumentTypeError(f"must be above 0 and below 1,000, got {text}")
    return float(text)


def _seed(text: str) -> int:
    """A seed that numpy, torch and gensim all take."""
    if not 0 <= int(text) < 2**32:
        raise argparse.ArgumentTypeError(f"must be between 0 and {2**32 - 1}, got {text}")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; what is wrong with the input is said in one line, without a traceback."""
    options = _parser().parse_args(arguments)
    from lstm_sentiment.text import DataError

    if isinstance(sys.stdout, io.TextIOWrapper):  # the system's encoding may lack characters
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        return options.run(options) or 0
    except BrokenPipeError:  # the reader, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (DataError, OSError, FloatingPointError, MemoryError) as error:
        print(f"error: {error or 'there is not enough memory for this'}", file=sys.stderr)
        return 1
    except RuntimeError as error:
        if "allocate" not in str(error):
            raise
        print("error: there is not enough memory for this", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        print(f"interrupted: {interrupt}".removesuffix(": "), file=sys.stderr)
        return 130  # as shells report it


def console() -> None:
    """The command `lstm-sentiment`."""
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    with contextlib.suppress(KeyboardInterrupt):  # while modules are loaded
        sys.exit(main())
    sys.exit(130)


if __name__ == "__main__":
    console()
