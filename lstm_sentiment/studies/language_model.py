"""Pre-training without labels: the LSTM first learns to predict the next word of reviews.

To tell what comes next it must follow what was said, negation and tone included, and the text for
that costs no labels. Its word vectors and its LSTM then are where the classifier starts from (Dai &
Le 2015, "Semi-supervised Sequence Learning"; Howard & Ruder 2018 for the fine-tuning).
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import safetensors
import torch
from filelock import FileLock
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm import tqdm

from lstm_sentiment.data import ReviewDataset, make_loader
from lstm_sentiment.embeddings import training_key
from lstm_sentiment.fast.layer import linear, refuse_second_derivatives, weight_gradient
from lstm_sentiment.files.find import data_folder
from lstm_sentiment.lstm import (
    LSTMLayer,
    python_number,
    require_positive,
    require_share,
    require_whole,
)
from lstm_sentiment.model import Dropout, SentimentLSTM, evaluating
from lstm_sentiment.text import PADDING_INDEX, DataError, Vocabulary
from lstm_sentiment.training import (
    machine,
    one_cycle,
    pick_device,
    read_checkpoint,
    save_weights,
    write_checkpoint,
)

PIECE_LENGTH = 400  # words; a longer review is read as several texts


SCORES_AT_ONCE = 2**20  # in float32 they take 4 MB, which a usual third-level cache holds


@dataclass(frozen=True)
class PretrainingConfig:
    """How to train a language model.

    hidden_size: H of its LSTM, and of the classifier's that starts from it.
    epochs: passes over the texts.
    batch_size: texts per step.
    learning_rate: Adam's highest, see `one_cycle`.
    dropout: share of the hidden states dropped before the prediction.
    clip_norm: gradients with a larger norm are scaled down to it.
    seed: of the weights, the order of texts and dropout.
    """

    hidden_size: int = 256
    epochs: int = 6
    batch_size: int = 32
    learning_rate: float = 2e-3
    dropout: float = 0.1
    clip_norm: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in list(vars(self).items()):
            object.__setattr__(self, name, python_number(value))
        require_whole(hidden_size=self.hidden_size, epochs=self.epochs, batch_size=self.batch_size)
        require_whole(0, seed=self.seed)
        require_positive(learning_rate=self.learning_rate, clip_norm=self.clip_norm)
        require_share(dropout=self.dropout)


class LanguageModel(nn.Module):
    """The probability of each word of the vocabulary to come next.

    Embedding and LSTM are those of `SentimentLSTM`. The hidden state is then brought to the size of
    a word vector, and a word's score is its dot product with the word's own vector plus a bias
    (Press & Wolf 2017): the vectors learn from both ends, and there is no second table.

    Args:
        embedding_matrix: (V, D) where the word vectors start; row 0 is padding.
        counts: (V,) how often each word occurs in the texts.
        hidden_size: H.
        dropout: share of the hidden states dropped before the prediction, in training.
    """

    def __init__(
        self,
        embedding_matrix: np.ndarray | Tensor,
        counts: np.ndarray,
        hidden_size: int,
        dropout: float = 0.0,
    ):
        super().__init__()
        weights = torch.as_tensor(embedding_matrix, dtype=torch.float32)
        self.embedding = nn.Embedding.from_pretrained(
            weights.clone(), freeze=False, padding_idx=PADDING_INDEX
        )
        self.lstm = LSTMLayer(weights.shape[1], hidden_size)
        self.dropout = Dropout(dropout)
        self.projection = nn.Linear(hidden_size, weights.shape[1])
        shares = torch.as_tensor(counts, dtype=torch.float32).clamp(min=1)
        shares[PADDING_INDEX] = 0  # padding never comes next: it has neither score nor bias
        self.register_buffer("shares", shares / shares.sum(), persistent=False)
        self.bias = nn.Parameter(self.shares[1:].log())

    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        """Mean cross-entropy, in nats, of words 2, 3, ... of texts (B, T) with lengths (B,).

        In training, the words of the batch stand for the whole vocabulary: a word that would be
        there with probability q, if words were drawn one by one, counts 1 / q times, so that the
        sum over them approximates that over all words (Bengio & Senécal 2008). With 1,500 words
        instead of 30,000 a step takes a fraction of the time. In evaluation all words are summed
        over.
        """
        words, rows = torch.unique(token_ids, return_inverse=True)  # (U,), (B, T)
        vectors = self.embedding(words)  # (U, D)
        lengths = lengths - 1
        outputs, _ = self.lstm(vectors, lengths, rows=rows[:, :-1])  # (B, T - 1, H)
        valid = torch.arange(outputs.shape[1], device=outputs.device) < lengths[:, None].to(
            outputs.device
        )
        predicted = self.projection(self.dropout(outputs[valid]))  # (N, D)
        targets = token_ids[:, 1:][valid] - 1
        if not self.training:
            return cross_entropy(predicted, self.embedding.weight[1:], self.bias, targets)
        padding = int(words[0] == PADDING_INDEX)
        words, vectors = words[padding:], vectors[padding:]
        present = -torch.expm1(len(predicted) * torch.log1p(-self.shares[words]))  # q
        bias = self.bias[words - 1] - present.log()
        return cross_entropy(predicted, vectors, bias, rows[:, 1:][valid] - padding)


class _CrossEntropy(torch.autograd.Function):
    """`cross_entropy(linear(x, weight, bias), targets)`, block by block of rows.

    The scores of a block stay in the processor's cache, and become their own gradient there; all
    of them at once would be written to memory and read again half a dozen times.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, targets, keep):
        rows = max(128, SCORES_AT_ONCE // len(weight) // 128 * 128)
        d_x, d_weight, d_bias = [], torch.zeros_like(weight), torch.zeros_like(bias)
        loss = 0.0
        weight_back = weight.t().contiguous()
        for block, target in zip(x.split(rows), targets.split(rows), strict=True):
            scores = linear(block, weight, bias)
            scores -= scores.amax(dim=1, keepdim=True)
            target = target[:, None]
            loss -= scores.gather(1, target).sum()
            shares = scores.exp_()
            total = shares.sum(dim=1, keepdim=True)
            loss += total.log().sum()
            if keep:
                shares /= total
                shares.scatter_add_(1, target, shares.new_full(target.shape, -1.0))
                d_x.append(linear(shares, weight_back))
                d_weight += weight_gradient(shares, block)
                d_bias += shares.sum(dim=0)
        if keep:
            ctx.save_for_backward(torch.cat(d_x), d_weight, d_bias)
        ctx.n = len(x)
        return loss / ctx.n

    @staticmethod
    def backward(ctx, d_loss):
        refuse_second_derivatives("take torch.nn.functional.cross_entropy")
        return *(gradient * (d_loss / ctx.n) for gradient in ctx.saved_tensors), None, None


def cross_entropy(x: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy, in nats, of targets (N,) under scores x W^T + b (N, U).

    x (N, D), weight (U, D), bias (U,). Equal to PyTorch's functions of those names one after the
    other, in about six tenths of the time and without memory for the scores.
    """
    keep = torch.is_grad_enabled()  # within the function it never is
    return _CrossEntropy.apply(x, weight, bias, targets, keep)


def text_pieces(token_lists: Sequence[Sequence[str]], vocabulary: Vocabulary) -> ReviewDataset:
    """Word indices of the texts, cut into pieces of at most `PIECE_LENGTH` words.

    A piece of one word, after which nothing comes, is left out.

    Raises:
        DataError: no text has two words.
    """
    pieces = []
    for tokens in token_lists:
        ids = vocabulary.encode(tokens)
        pieces += [ids[start : start + PIECE_LENGTH] for start in range(0, len(ids), PIECE_LENGTH)]
    pieces = [piece for piece in pieces if len(piece) > 1]
    if not pieces:
        raise DataError("the texts for the language model hold no two words in a row")
    return ReviewDataset(pieces)


def perplexity(model: LanguageModel, dataset: ReviewDataset) -> float:
    """Exponential of the mean cross-entropy per word: of how many words it seems to choose."""
    device = next(model.parameters()).device
    total, words = 0.0, 0
    with evaluating(model), torch.inference_mode():
        for batch in make_loader(dataset, 16, shuffle=False):
            predicted = int((batch.lengths - 1).sum())
            total += model(batch.token_ids.to(device), batch.lengths).item() * predicted
            words += predicted
    return math.exp(total / words)


def pretrain(
    model: LanguageModel,
    training_set: ReviewDataset,
    validation_set: ReviewDataset,
    config: PretrainingConfig,
    checkpoint: Path,
) -> pd.DataFrame:
    """Train `model` in place; where `checkpoint` exists, go on from there.

    Returns:
        One row per epoch: epoch, training_loss (sampled, see `LanguageModel`),
        validation_perplexity, seconds, and on what machine, with which versions.

    Raises:
        FloatingPointError: a loss is no longer finite.
        DataError: the checkpoint is damaged or of another run.
        OSError: the checkpoint cannot be written.
    """
    device = pick_device()
    model.to(device)
    torch.manual_seed(config.seed)
    loader = make_loader(training_set, config.batch_size, shuffle=True, seed=config.seed)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=config.learning_rate, fused=device.type in ("cpu", "cuda")
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, one_cycle(config.epochs * len(loader)))
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    run = checkpoint.name  # see `pretrained_language_model`
    rows = []
    if checkpoint.exists():
        rows = read_checkpoint(checkpoint, parts, run, {"rows": list})["rows"]
    for epoch in range(len(rows) + 1, config.epochs + 1):
        start = time.perf_counter()
        loader.batch_sampler.set_epoch(epoch)
        model.train()
        losses = []
        with tqdm(loader, desc=f"language model, epoch {epoch}", unit="batch") as batches:
            for batch in batches:
                loss = model(batch.token_ids.to(device), batch.lengths)
                losses.append(loss.item())
                if not math.isfinite(losses[-1]):
                    raise FloatingPointError(f"the language model's loss became {losses[-1]}")
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
                optimizer.step()
                scheduler.step()
                if len(losses) % 20 == 0:
                    batches.set_postfix(loss=f"{np.mean(losses[-100:]):.3f}", refresh=False)
        row = {"epoch": epoch, "training_loss": float(np.mean(losses))}
        row["validation_perplexity"] = perplexity(model, validation_set)
        row["seconds"] = time.perf_counter() - start
        rows.append(row | machine())
        write_checkpoint(checkpoint, parts, {"run": run, "rows": rows})
    return pd.DataFrame(rows)


def pretrained_language_model(
    token_lists: Sequence[Sequence[str]],
    vocabulary: Vocabulary,
    embedding_matrix: np.ndarray,
    validation_token_lists: Sequence[Sequence[str]],
    config: PretrainingConfig,
) -> tuple[LanguageModel, pd.DataFrame]:
    """The language model of these texts, trained here unless it was before, and its history.

    It is kept in the data folder under a name that depends on the texts, the words, the vectors and
    the settings; so is, while it is trained, a checkpoint of the last epoch, from which a run that
    was interrupted goes on.

    Args:
        token_lists: the words of each text; none of them may be tested on later.
        vocabulary: the words to predict and to read.
        embedding_matrix: (V, D) where the word vectors start.
        validation_token_lists: texts for the perplexity in the history; nothing is chosen by it.

    Raises:
        DataError: the texts hold no two words in a row, or what was kept is damaged.
    """
    torch.manual_seed(config.seed)
    model = LanguageModel(embedding_matrix, vocabulary.counts, config.hidden_size, config.dropout)
    start = hashlib.sha256(np.ascontiguousarray(embedding_matrix).tobytes()).hexdigest()
    settings = asdict(config) | {"words": vocabulary.words, "vectors": start}
    path = data_folder() / f"language-model-{training_key(token_lists, settings)}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    # A second process waits, and takes what the first has made.
    with FileLock(path.with_suffix(".lock")):
        if not path.is_file():
            _pretrain_and_keep(model, token_lists, validation_token_lists, vocabulary, config, path)
        try:
            weights = load_file(path)
            with safetensors.safe_open(path, framework="pt") as file:
                metadata = file.metadata()
            if metadata["sha256"] != _kept_sha256(metadata["history"], weights):
                raise ValueError("it does not match its checksum")
            model.load_state_dict(weights)
        except Exception as error:  # what the readers raise for a damaged file has no common class
            raise DataError(
                f"{path} cannot be read ({error}); delete it, and it is trained again"
            ) from error
    return model, pd.DataFrame(json.loads(metadata["history"]))


def _pretrain_and_keep(
    model: LanguageModel,
    token_lists: Sequence[Sequence[str]],
    validation_token_lists: Sequence[Sequence[str]],
    vocabulary: Vocabulary,
    config: PretrainingConfig,
    path: Path,
) -> None:
    training_set = text_pieces(token_lists, vocabulary)
    validation_set = text_pieces(validation_token_lists, vocabulary)
    checkpoint = path.with_suffix(".checkpoint")
    history = pretrain(model, training_set, validation_set, config, checkpoint)
    rows = history.to_json(orient="records")
    save_weights(model, path, {"history": rows, "sha256": _kept_sha256(rows, model.state_dict())})
    checkpoint.unlink()


def _kept_sha256(history: str, weights: Mapping[str, Tensor]) -> str:
    """Of all that a kept model consists of."""
    digest = hashlib.sha256(history.encode())
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def start_from(model: SentimentLSTM, language_model: LanguageModel) -> None:
    """Give `model` the word vectors and the LSTM of `language_model`.

    Raises:
        ValueError: they differ in the size of anything.
    """
    try:
        model.embedding.load_state_dict(language_model.embedding.state_dict())
        model.lstm.load_state_dict(language_model.lstm.state_dict())
    except RuntimeError as error:
        raise ValueError(
            f"the classifier cannot start from this language model, which has other sizes: {error}"
        ) from error
