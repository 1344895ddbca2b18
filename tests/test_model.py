"""The network: what it may depend on, that streams read as it does, that dropout is as told."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lstm_sentiment.model import POOLINGS, SentimentLSTM, WordStream, evaluating

IDS, LENGTHS = torch.tensor([[5, 2, 9, 3], [4, 4, 0, 0], [7, 0, 0, 0]]), torch.tensor([4, 2, 1])
ONES = torch.cat([torch.zeros(1, 64), torch.ones(3, 64)])


@pytest.fixture
def matrix():
    matrix = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    matrix[0] = 0
    return matrix


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("backend", ["fused", "reference"])
def test_equals_the_same_network_built_from_torch_parts(matrix, pooling, bidirectional, backend):
    """In logits and in the gradients of the word vectors, one review after another."""
    torch.manual_seed(0)
    model = SentimentLSTM(matrix, 3, bidirectional=bidirectional, pooling=pooling)
    model.lstm.backend = backend
    trusted = model.lstm.to_torch()
    embedding = nn.Embedding.from_pretrained(torch.tensor(matrix), freeze=False, padding_idx=0)
    expected = []
    for ids, length in zip(IDS, LENGTHS, strict=True):
        outputs, (h_n, _) = trusted(embedding(ids[None, :length]))
        states = {
            "last": h_n[:, 0].flatten(),
            "mean": outputs[0].mean(0),
            "max": outputs[0].amax(0),
        }
        expected.append(model.output(torch.cat([states[name] for name in pooling.split("_")])))
    logits = model(IDS, LENGTHS)
    torch.testing.assert_close(logits, torch.cat(expected), rtol=0, atol=1e-5)
    logits.sum().backward()
    sum(expected).backward()
    gradients = model.embedding.weight.grad, embedding.weight.grad
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-5)


def test_a_step_moves_the_words_seen_and_neither_padding_nor_others_nor_the_matrix_given(matrix):
    given = matrix.copy()
    model = SentimentLSTM(given, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model(IDS, LENGTHS).sum().backward()
    optimizer.step()
    moved = (model.embedding.weight.detach().numpy() != matrix).any(axis=1)
    assert np.flatnonzero(moved).tolist() == [2, 3, 4, 5, 7, 9]
    assert (given == matrix).all()


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("part", ["embedding", "spatial", "recurrent", "pooled", "between layers"])
def test_each_dropout_acts_in_training_only(matrix, part, cell):
    option = "dropout" if part in ("pooled", "between layers") else f"{part}_dropout"
    layers = 2 if part == "between layers" else 1
    model = SentimentLSTM(matrix, 8, num_layers=layers, cell=cell, **{option: 0.5})
    if part == "between layers":
        model.dropout = nn.Identity()
    assert len({tuple(model(IDS, LENGTHS).tolist()) for _ in range(8)}) > 1
    with evaluating(model):
        assert len({tuple(model(IDS, LENGTHS).tolist()) for _ in range(3)}) == 1


@pytest.fixture
def seen(monkeypatch):
    """The vectors of ones (B, T, D) that reach the network's classifier, dropped or doubled."""
    vectors = []

    def classify(model, table, lengths, rows=None):
        vectors.append(table if rows is None else table[rows])
        return lengths

    monkeypatch.setattr(SentimentLSTM, "classify", classify)
    return vectors


def test_embedding_dropout_takes_the_same_components_of_a_word_wherever_it_occurs(seen):
    model = SentimentLSTM(ONES, 3, embedding_dropout=0.5)
    model(torch.tensor([[1, 2, 1], [3, 1, 2]]), torch.tensor([3, 3]))
    (x,) = seen  # (2, 3, 64)
    assert torch.equal(x[0, 0], x[0, 2])
    assert torch.equal(x[0, 0], x[1, 1])
    assert not torch.equal(x[0, 0], x[0, 1]), "another word loses others"
    assert set(x.unique().tolist()) == {0.0, 2.0}


def test_spatial_dropout_takes_whole_dimensions_of_a_review(seen):
    model = SentimentLSTM(ONES, 3, spatial_dropout=0.5)
    model(torch.tensor([[1, 2, 3], [3, 1, 2]]), torch.tensor([3, 3]))
    (x,) = seen  # (2, 3, 64)
    assert torch.equal(x, x[:, :1].expand_as(x))
    assert not torch.equal(x[0, 0], x[1, 0]), "each review has a mask of its own"
    assert set(x.unique().tolist()) == {0.0, 2.0}


def test_what_was_in_evaluation_before_stays_so_whatever_happens(matrix):
    model = SentimentLSTM(matrix, 3)
    model.lstm.eval()

    def fail():
        with evaluating(model):
            assert not model.training
            model.lstm.train()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert model.training
    assert model.output.training
    assert not model.lstm.training


@pytest.mark.parametrize(
    ("padding", "options", "message"),
    [
        (0, {"pooling": "first"}, "'first'.*'last', 'mean_max'"),
        (0, {"cell": "LSTM"}, "'LSTM'.*'gru'"),
        (1, {}, "row 0 of embedding_matrix stands for padding"),
    ],
)
def test_what_a_network_cannot_be_is_said(matrix, padding, options, message):
    with pytest.raises(ValueError, match=message):
        SentimentLSTM(matrix + padding, 3, **options)


@pytest.fixture
def two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("options", [{}, {"spatial_dropout": 0.2}])
def test_gradients_on_two_threads_are_the_same_each_time(cell, options):
    torch.manual_seed(0)
    matrix = torch.randn(50, 32)
    matrix[0] = 0
    model = SentimentLSTM(matrix, hidden_size=16, cell=cell, **options)
    model.lstm.backend = "reference"
    token_ids, lengths = torch.randint(1, 50, (32, 60)), torch.full((32,), 60)
    gradients = []
    for _ in range(5):
        torch.manual_seed(1)  # the same dropout
        model.zero_grad()
        model(token_ids, lengths).sum().backward()
        gradients.append(model.embedding.weight.grad)
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)


# ---- Word by word ----

WORDS = [2, 7, 1, 9, 3, 3, 5, 8]


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_after_every_word_a_stream_says_what_the_network_says_of_the_words_so_far(
    matrix, pooling, cell, num_layers
):
    options = {"pooling": pooling, "cell": cell, "num_layers": num_layers}
    model = SentimentLSTM(matrix, 16, dropout=0.5, **options)
    stream, other = WordStream(model), WordStream(model)  # in training: they never drop anything
    logits = []
    for index in WORDS:
        logits.append(stream.read(index))
        other.read(4)  # two streams do not meddle
    ends = torch.arange(1, 1 + len(WORDS))
    with evaluating(model):
        expected = model(torch.tensor([WORDS] * len(WORDS)).tril(), ends)
    np.testing.assert_allclose(logits, expected.detach(), atol=1e-5)


@pytest.mark.parametrize(
    ("pooling", "vectors"), [("last", 2), ("mean_max", 4), ("last_mean_max", 4)]
)
def test_what_a_stream_keeps_does_not_grow(matrix, pooling, vectors):
    stream = WordStream(SentimentLSTM(matrix, 16, pooling=pooling))
    for index in [2] + 200 * [3]:
        stream.read(index)
        assert stream.state_bytes == vectors * 16 * 4  # bytes a number
    assert stream.words == 201


def test_gates_are_those_of_the_last_layer_at_the_last_word(matrix):
    model = SentimentLSTM(matrix, 5, num_layers=2)
    stream, hidden = WordStream(model), []
    assert stream.gates() == {}
    model.lstm.cells[1].register_forward_pre_hook(lambda _, inputs: hidden.append(inputs))
    for index in WORDS:
        stream.read(index)
    x, (h, _) = hidden[-1]
    gates = stream.gates()
    assert set(gates) == {"forget_gate", "input_gate", "output_gate"}
    for name, openings in gates.items():
        gate = getattr(model.lstm.cells[1], name)
        expected = gate(torch.cat([h, x], dim=1))[0].sigmoid().detach()
        np.testing.assert_allclose(openings, expected, rtol=1e-6)
    other = WordStream(SentimentLSTM(matrix, 5, cell="gru"))
    other.read(2)
    assert other.gates() == {}, "other cells have none of these"


@pytest.mark.parametrize("index", [-1, 0, 12])
def test_a_stream_reads_words_of_the_vocabulary_only(matrix, index):
    with pytest.raises(IndexError, match=f"index {index} is not of the vocabulary"):
        WordStream(SentimentLSTM(matrix, 2)).read(index)
