"""The classifier: what it may depend on, and that it can learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from lstm_sentiment.fast.layer import fast_dropout
from lstm_sentiment.model import SentimentLSTM, evaluating

VOCABULARY_SIZE, EMBEDDING_SIZE, HIDDEN_SIZE = 12, 4, 3


@pytest.fixture
def embedding_matrix():
    matrix = np.random.default_rng(0).normal(size=(VOCABULARY_SIZE, EMBEDDING_SIZE))
    matrix[0] = 0
    return matrix.astype(np.float32)


@pytest.fixture
def batch():
    token_ids = torch.tensor([[5, 2, 9, 3], [4, 4, 0, 0], [7, 0, 0, 0]])
    return token_ids, torch.tensor([4, 2, 1])


@pytest.mark.parametrize("pooling", ["last", "mean_max"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("backend", ["fused", "reference"])
def test_equals_the_same_model_built_from_torch_parts(
    embedding_matrix, batch, pooling, bidirectional, backend
):
    torch.manual_seed(0)
    model = SentimentLSTM(
        embedding_matrix,
        HIDDEN_SIZE,
        bidirectional=bidirectional,
        pooling=pooling,
        backend=backend,
    ).eval()
    token_ids, lengths = batch
    trusted = model.lstm.to_torch()
    expected = []
    for ids, length in zip(token_ids, lengths, strict=True):
        outputs, (h_n, _) = trusted(torch.tensor(embedding_matrix)[ids[None, :length]])
        if pooling == "last":
            pooled = h_n[:, 0].flatten()
        else:
            pooled = torch.cat([outputs[0].mean(0), outputs[0].amax(0)])
        expected.append(model.output(pooled))
    torch.testing.assert_close(model(token_ids, lengths), torch.cat(expected), rtol=0, atol=1e-5)


def test_more_padding_changes_nothing(embedding_matrix, batch):
    model = SentimentLSTM(embedding_matrix, HIDDEN_SIZE).eval()
    token_ids, lengths = batch
    longer = nn.functional.pad(token_ids, (0, 5))
    torch.testing.assert_close(model(longer, lengths), model(token_ids, lengths))


def test_the_padding_row_stays_zero_and_unseen_words_keep_their_vectors(embedding_matrix, batch):
    model = SentimentLSTM(embedding_matrix, HIDDEN_SIZE)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model(*batch).sum().backward()
    optimizer.step()
    after = model.embedding.weight.detach().numpy()
    seen = [2, 3, 4, 5, 7, 9]
    unseen = [index for index in range(VOCABULARY_SIZE) if index not in seen]
    assert not after[0].any()
    assert (after[unseen] == embedding_matrix[unseen]).all()
    assert (after[seen] != embedding_matrix[seen]).any(axis=1).all()


def test_gradients_of_word_vectors_equal_those_of_a_plain_embedding(embedding_matrix, batch):
    model = SentimentLSTM(embedding_matrix, HIDDEN_SIZE)
    token_ids, lengths = batch
    model(token_ids, lengths).sum().backward()
    embedding = nn.Embedding.from_pretrained(
        torch.tensor(embedding_matrix), freeze=False, padding_idx=0
    )
    packed = pack_padded_sequence(embedding(token_ids), lengths, batch_first=True)
    _, (h_n, _) = model.lstm.to_torch()(packed)
    model.output(h_n[-1]).sum().backward()
    torch.testing.assert_close(
        model.embedding.weight.grad, embedding.weight.grad, rtol=0, atol=1e-6
    )


def test_frozen_word_vectors_are_no_parameters_to_train(embedding_matrix):
    model = SentimentLSTM(embedding_matrix, HIDDEN_SIZE, freeze_embedding=True)
    assert not model.embedding.weight.requires_grad
    assert SentimentLSTM(embedding_matrix, HIDDEN_SIZE).embedding.weight.requires_grad


def test_the_model_does_not_write_into_the_matrix_it_was_given(embedding_matrix, batch):
    before = embedding_matrix.copy()
    model = SentimentLSTM(embedding_matrix, HIDDEN_SIZE)
    with torch.no_grad():
        model.embedding.weight.add_(1)
    assert (embedding_matrix == before).all()


def test_predict_proba_is_the_sigmoid_of_the_logits(embedding_matrix, batch):
    model = SentimentLSTM(embedding_matrix, HIDDEN_SIZE, dropout=0.9).eval()
    expected = 1 / (1 + torch.exp(-model(*batch)))
    model.train()
    torch.testing.assert_close(model.predict_proba(*batch), expected.detach())
    assert model.training


@pytest.mark.parametrize("option", ["embedding_dropout", "recurrent_dropout", "dropout"])
def test_each_dropout_acts_in_training_only(embedding_matrix, batch, option):
    torch.manual_seed(0)
    model = SentimentLSTM(embedding_matrix, HIDDEN_SIZE, **{option: 0.5})
    outcomes = {tuple(model(*batch).tolist()) for _ in range(8)}
    assert len(outcomes) > 1
    model.eval()
    assert len({tuple(model(*batch).tolist()) for _ in range(3)}) == 1


def test_wrong_options_are_named(embedding_matrix):
    with pytest.raises(ValueError, match="pooling is 'first'"):
        SentimentLSTM(embedding_matrix, HIDDEN_SIZE, pooling="first")
    with pytest.raises(ValueError, match="row 0, which stands for padding"):
        SentimentLSTM(embedding_matrix + 1, HIDDEN_SIZE)
    with pytest.raises(ValueError, match=r"embedding_matrix has shape \(0, 4\); .* none of them 0"):
        SentimentLSTM(embedding_matrix[:0], HIDDEN_SIZE)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_word_vectors_that_are_not_finite_are_refused(embedding_matrix, number):
    embedding_matrix[5, 1] = number
    with pytest.raises(ValueError, match="embedding_matrix holds numbers that are NaN or infinite"):
        SentimentLSTM(embedding_matrix, HIDDEN_SIZE)


@pytest.mark.parametrize("pooling", ["last", "mean_max"])
def test_what_is_no_tensor_is_named(embedding_matrix, batch, pooling):
    model = SentimentLSTM(embedding_matrix, HIDDEN_SIZE, pooling=pooling)
    token_ids, lengths = batch
    with pytest.raises(ValueError, match=r"lengths is a NoneType; it must be a torch\.Tensor"):
        model(token_ids, None)
    with pytest.raises(ValueError, match="token_ids is a list"):
        model(token_ids.tolist(), lengths)


@pytest.mark.parametrize(
    ("token_ids", "lengths", "message"),
    [
        ([[2, 99]], [2], r"token_ids holds 2 to 99; it must stay between 0 and \d+, the last word"),
        ([[2, -1]], [2], "token_ids holds -1 to 2"),
        ([2, 3], [2], r"token_ids has shape \(2,\)"),
        ([[]], [0], r"token_ids has shape \(1, 0\)"),
        ([[2.0, 3.0]], [2], "token_ids has .* dtype torch.float32"),
        ([[2, 3]], [3], "lengths holds 3 to 3; each must lie between 1 and T = 2"),
        ([[2, 3]], [-1], "lengths holds -1 to -1"),
    ],
)
def test_wrong_batches_are_named(embedding_matrix, token_ids, lengths, message):
    model = SentimentLSTM(embedding_matrix, HIDDEN_SIZE)
    with pytest.raises(ValueError, match=message):
        model(torch.tensor(token_ids), torch.tensor(lengths))


def test_spatial_dropout_takes_whole_dimensions_of_a_review():
    """With the identity for vectors, a review's dimension is gone at every step or at none."""
    torch.manual_seed(0)
    matrix = torch.cat([torch.zeros(1, 4), torch.ones(5, 4)])
    model = SentimentLSTM(matrix, hidden_size=3, spatial_dropout=0.5)
    seen = []
    model.lstm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    ids = torch.tensor([[1, 2, 3, 4, 5]] * 40)
    model(ids, torch.full((40,), 5))
    (x,) = seen  # (40, 5, 4)
    assert torch.equal(x, x[:, :1].expand_as(x))
    assert set(x.unique().tolist()) == {0.0, 2.0}
    assert len({tuple(row) for row in x[:, 0].tolist()}) > 5, "each review has a mask of its own"
    model.eval()
    first, second = (model(ids, torch.full((40,), 5)) for _ in range(2))
    assert torch.equal(first, second)


def test_an_error_leaves_the_model_in_training(embedding_matrix, batch):
    model = SentimentLSTM(embedding_matrix, HIDDEN_SIZE).train()
    with pytest.raises(ValueError, match="token_ids holds 99"):
        model.predict_proba(torch.tensor([[99]]), torch.tensor([1]))
    assert model.training
    assert not SentimentLSTM(embedding_matrix).eval().predict_proba(*batch).requires_grad


def test_dropout_acts_between_layers(embedding_matrix, batch):
    model = SentimentLSTM(embedding_matrix, 8, num_layers=2, dropout=0.5)
    model.dropout = nn.Identity()  # that of the pooled state
    assert not torch.equal(model(*batch), model(*batch))
    model.eval()
    assert torch.equal(model(*batch), model(*batch))


def test_what_was_in_evaluation_before_stays_so(embedding_matrix, batch):
    model = SentimentLSTM(embedding_matrix, 3, dropout=0.5)
    model.lstm.eval()
    with evaluating(model):
        assert not model.training
        model.lstm.train()
    assert model.training
    assert model.output.training
    assert not model.lstm.training


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("options", [{"backend": "reference"}, {"spatial_dropout": 0.2}])
def test_gradients_on_two_threads_are_the_same_each_time(cell, options):
    torch.manual_seed(0)
    matrix = torch.randn(50, 32)
    matrix[0] = 0
    model = SentimentLSTM(matrix, hidden_size=16, cell=cell, **options)
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


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dropout_keeps_each_number_with_the_same_chance(p, dtype):
    torch.manual_seed(0)
    n = 400_000
    kept = fast_dropout(torch.ones(n // 8, 8, dtype=dtype), p, training=True)
    assert kept.dtype == dtype
    torch.testing.assert_close(
        kept.unique(),
        torch.tensor([0, 1 / (1 - p)]).to(dtype),
        rtol=1e-4 + torch.finfo(dtype).eps,
        atol=0,
    )
    is_kept = (kept > 0).double()
    deviation = np.sqrt(p * (1 - p) / n)
    assert abs(is_kept.mean() - (1 - p)) < 5 * deviation
    # Columns are drawn from different bits of the same numbers.
    assert (is_kept.mean(0) - (1 - p)).abs().max() < 5 * np.sqrt(8) * deviation
    assert (is_kept.T.corrcoef() - torch.eye(8)).abs().max() < 5 * np.sqrt(8 / n)


def test_dropout_as_pytorch_has_it():
    x = torch.randn(3, 5, 7, requires_grad=True)
    for p, training in ((0.0, True), (1.0, True), (0.5, False)):
        expected = torch.nn.functional.dropout(x, p, training)
        assert torch.equal(fast_dropout(x, p, training), expected)
    torch.manual_seed(0)
    dropped = fast_dropout(x, 0.5, training=True)
    dropped.sum().backward()
    assert torch.equal(dropped, x * x.grad)
    torch.manual_seed(0)
    assert torch.equal(fast_dropout(x, 0.5, training=True), dropped)
    assert not torch.equal(fast_dropout(x, 0.5, training=True), dropped)
    assert fast_dropout(torch.empty(0, 4), 0.5, training=True).shape == (0, 4)
