"""The network: what it may depend on, that streams read as it does, that dropout is as told."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lstm_sentiment.model import SentimentLSTM, WordStream, evaluating

IDS, LENGTHS = torch.tensor([[5, 2, 9, 3], [4, 4, 0, 0], [7, 0, 0, 0]]), torch.tensor([4, 2, 1])


@pytest.fixture
def matrix():
    matrix = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    matrix[0] = 0
    return matrix


@pytest.mark.parametrize("pooling", ["last", "mean_max"])
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
        if pooling == "last":
            pooled = h_n[:, 0].flatten()
        else:
            pooled = torch.cat([outputs[0].mean(0), outputs[0].amax(0)])
        expected.append(model.output(pooled))
    logits = model(IDS, LENGTHS)
    torch.testing.assert_close(logits, torch.cat(expected), rtol=0, atol=1e-5)
    logits.sum().backward()
    sum(expected).backward()
    gradients = model.embedding.weight.grad, embedding.weight.grad
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-5)


@pytest.mark.parametrize("pooling", ["last", "mean_max"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_more_padding_changes_nothing(matrix, pooling, cell):
    model = SentimentLSTM(matrix, 3, pooling=pooling, cell=cell).eval()
    longer = nn.functional.pad(IDS, (0, 5))
    torch.testing.assert_close(model(longer, LENGTHS), model(IDS, LENGTHS))


def test_a_step_moves_the_words_seen_and_neither_padding_nor_others_nor_the_matrix_given(matrix):
    given = matrix.copy()
    model = SentimentLSTM(given, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model(IDS, LENGTHS).sum().backward()
    optimizer.step()
    moved = (model.embedding.weight.detach().numpy() != matrix).any(axis=1)
    assert np.flatnonzero(moved).tolist() == [2, 3, 4, 5, 7, 9]
    assert (given == matrix).all()


def test_frozen_word_vectors_are_no_parameters_to_train(matrix):
    for freeze in (True, False):
        model = SentimentLSTM(matrix, 3, freeze_embedding=freeze)
        assert model.embedding.weight.requires_grad != freeze


@pytest.mark.parametrize(
    "options",
    [
        {"embedding_dropout": 0.5},
        {"spatial_dropout": 0.5},
        {"recurrent_dropout": 0.5},
        {"dropout": 0.5},
        {"num_layers": 2, "dropout": 0.5},
        {"cell": "gru", "recurrent_dropout": 0.5},
    ],
)
def test_each_dropout_acts_in_training_only(matrix, options):
    torch.manual_seed(0)
    model = SentimentLSTM(matrix, 8, **options)
    if "num_layers" in options:
        model.dropout = nn.Identity()  # that of the pooled state; the other acts between layers
    assert len({tuple(model(IDS, LENGTHS).tolist()) for _ in range(8)}) > 1
    with evaluating(model):
        assert len({tuple(model(IDS, LENGTHS).tolist()) for _ in range(3)}) == 1


def test_embedding_dropout_takes_the_same_components_of_a_word_wherever_it_occurs():
    torch.manual_seed(0)
    model = SentimentLSTM(torch.cat([torch.zeros(1, 64), torch.ones(3, 64)]), 3)
    model.embedding_dropout.p = 0.5
    seen = []
    model.lstm.register_forward_pre_hook(
        lambda _, inputs, options: seen.append(inputs[0][options["rows"]]), with_kwargs=True
    )
    model(torch.tensor([[1, 2, 1], [3, 1, 2]]), torch.tensor([3, 3]))
    (x,) = seen  # (2, 3, 64)
    one, again, other = x[0, 0], x[0, 2], x[1, 1]
    assert torch.equal(one, again)
    assert torch.equal(one, other)
    assert not torch.equal(one, x[0, 1]), "another word loses others"
    assert set(one.tolist()) == {0.0, 2.0}


def test_spatial_dropout_takes_whole_dimensions_of_a_review():
    torch.manual_seed(0)
    matrix = torch.cat([torch.zeros(1, 4), torch.ones(5, 4)])
    model = SentimentLSTM(matrix, hidden_size=3, spatial_dropout=0.5)
    seen = []
    model.lstm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(torch.tensor([[1, 2, 3, 4, 5]] * 40), torch.full((40,), 5))
    (x,) = seen  # (40, 5, 4)
    assert torch.equal(x, x[:, :1].expand_as(x))
    assert set(x.unique().tolist()) == {0.0, 2.0}
    assert len({tuple(row) for row in x[:, 0].tolist()}) > 5, "each review has a mask of its own"


@pytest.mark.parametrize("fails", [False, True])
def test_what_was_in_evaluation_before_stays_so_whatever_happens(matrix, fails):
    model = SentimentLSTM(matrix, 3, dropout=0.5)
    model.lstm.eval()
    try:
        with evaluating(model):
            assert not model.training
            model.lstm.train()
            assert not fails
    except AssertionError:
        assert fails
    assert model.training
    assert model.output.training
    assert not model.lstm.training


@pytest.mark.parametrize(
    ("options", "message"),
    [({"pooling": "first"}, "'first'.*'last', 'mean_max'"), ({"cell": "LSTM"}, "'LSTM'.*'gru'")],
)
def test_wrong_options_are_named_with_what_they_can_be(matrix, options, message):
    with pytest.raises(ValueError, match=message):
        SentimentLSTM(matrix, 3, **options)


def test_a_padding_row_that_is_not_zero_is_refused(matrix):
    with pytest.raises(ValueError, match="row 0 of embedding_matrix stands for padding"):
        SentimentLSTM(matrix + 1, 3)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize(
    ("token_ids", "lengths"),
    [([[2, 99]], [2]), ([[2, -1]], [2]), ([2, 3], [2]), ([[2, 3]], [3]), ([[2, 3]], [0])],
)
def test_wrong_batches_are_refused(matrix, cell, token_ids, lengths):
    model = SentimentLSTM(matrix, 3, cell=cell)
    with pytest.raises((ValueError, IndexError)):
        model(torch.tensor(token_ids), torch.tensor(lengths))


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("options", [{}, {"spatial_dropout": 0.2}])
def test_gradients_on_two_threads_are_the_same_each_time(cell, options):
    torch.manual_seed(0)
    matrix = torch.randn(50, 32)
    matrix[0] = 0
    model = SentimentLSTM(matrix, hidden_size=16, cell=cell, **options)
    if cell == "lstm":
        model.lstm.backend = "reference"
    token_ids, lengths = torch.randint(1, 50, (32, 60)), torch.full((32,), 60)
    threads, gradients = torch.get_num_threads(), []
    try:
        torch.set_num_threads(2)
        for _ in range(5):
            torch.manual_seed(1)  # the same dropout
            model.zero_grad()
            model(token_ids, lengths).sum().backward()
            gradients.append(model.embedding.weight.grad)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)


# ---- Word by word ----

WORDS = [2, 7, 1, 9, 3, 3, 5, 8]


def at_once(model: SentimentLSTM, token_ids) -> float:
    with evaluating(model), torch.no_grad():
        return model(torch.tensor([token_ids]), torch.tensor([len(token_ids)])).item()


@pytest.mark.parametrize("pooling", ["last", "mean_max"])
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
    expected = [at_once(model, WORDS[: n + 1]) for n in range(len(WORDS))]
    np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize(("pooling", "vectors"), [("last", 2), ("mean_max", 4)])
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
    stream = WordStream(SentimentLSTM(matrix, 5, cell="gru"))
    stream.read(2)
    assert stream.gates() == {}, "other cells have none of these"


def test_a_network_that_reads_backward_cannot_stream(matrix):
    with pytest.raises(ValueError, match="bidirectional"):
        WordStream(SentimentLSTM(matrix, 3, bidirectional=True))


@pytest.mark.parametrize("index", [-1, 0, 6])
def test_a_stream_reads_words_of_the_vocabulary_only(index):
    stream = WordStream(SentimentLSTM(np.zeros((6, 3)), 2))
    with pytest.raises(IndexError, match=f"index {index} is not of the vocabulary"):
        stream.read(index)
