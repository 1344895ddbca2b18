"""What comes with the package: small files without code, each with its card beside it.

`vectors` are word vectors, `language_model` is what a classifier can start from, `classifier`
judges texts as it is. NAME.md says of each what it was made from, by which command, how accurate it
is and where its limits are.
"""

from pathlib import Path

from lstm_sentiment.text import DataError

FOLDER = Path(__file__).parent


def weights_file(name: str) -> Path:
    """The file of "vectors", "language_model" or "classifier", for `load_tensors`.

    Raises:
        DataError: it is not there, because only the code was copied.
    """
    path = FOLDER / f"{name}.safetensors"
    if not path.exists():
        raise DataError(f"{path} is missing; it comes with the package, and in the zip to hand in")
    return path
