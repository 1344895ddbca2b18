"""Reading word by word gives what reading at once gives, in constant memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lstm_sentiment.classifier import GATES, WordStream, word_by_word
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.report.probes import gate_openings, quantized, weight_bytes

IDS = [2, 7, 1, 9, 3, 3, 5, 8]


def fresh_model(**options) -> SentimentLSTM:
    torch.manual_seed(0)
    matrix = torch.randn(10, 6)
    matrix[0] = 0
    return SentimentLSTM(matrix, hidden_size=16, dropout=0.5, **options)


def at_once(model: SentimentLSTM, token_ids) -> float:
    with torch.no_grad():
        return model.eval()(torch.tensor([token_ids]), torch.tensor([len(token_ids)])).item()


@pytest.mark.parametrize("pooling", ["last", "mean_max"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_after_every_word_the_verdict_is_that_on_the_words_so_far(pooling, cell, num_layers):
    model = fresh_model(pooling=pooling, cell=cell, num_layers=num_layers)
    stream = WordStream(model)  # in training mode: streams never drop anything
    logits = [stream.read(index) for index in IDS]
    expected = [at_once(model, IDS[: n + 1]) for n in range(len(IDS))]
    np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize(("pooling", "vectors"), [("last", 2), ("mean_max", 4)])
def test_what_a_stream_keeps_does_not_grow(pooling, vectors):
    model = fresh_model(pooling=pooling)
    stream = WordStream(model)
    for index in [2] + 200 * [3]:
        stream.read(index)
        assert stream.state_bytes == vectors * 4 * model.lstm.hidden_size  # of four bytes a number
    assert stream.words == 201


def test_two_streams_of_one_model_do_not_meddle():
    model = fresh_model()
    first, second = WordStream(model), WordStream(model)
    for index in IDS:
        logit = first.read(index)
        second.read(4)
    assert logit == pytest.approx(at_once(model, IDS), abs=1e-5)


def test_a_model_that_reads_backward_cannot_stream():
    with pytest.raises(ValueError, match="bidirectional"):
        WordStream(fresh_model(bidirectional=True))


@pytest.mark.parametrize("index", [0, -1, 10, 1.5, "a", True, None])
def test_an_index_of_no_word_is_refused(index):
    with pytest.raises(ValueError, match=f"index is {index!r}; it must lie between 1 and 9, and"):
        WordStream(fresh_model()).read(index)


def test_word_by_word_takes_whole_numbers_of_any_kind_and_rounds_none():
    model = fresh_model()
    expected = word_by_word(model, IDS)
    for ids in (np.array(IDS), torch.tensor(IDS)):
        assert word_by_word(model, ids).equals(expected)
    with pytest.raises(ValueError, match=r"index is 1\.7"):
        word_by_word(model, [1.7])


def test_gates_are_those_of_the_cell():
    model = fresh_model()
    table, openings = word_by_word(model, IDS), gate_openings(model, IDS)
    assert table["logit"].iloc[-1] == pytest.approx(at_once(model, IDS), abs=1e-5)
    cell = model.lstm.cells[0]
    hx = torch.cat([torch.zeros(1, 16), model.embedding.weight[IDS[0]][None]], dim=1)
    for name in GATES:
        opening = openings[name]
        assert opening.shape == (len(IDS), 16)
        np.testing.assert_allclose(opening[0], getattr(cell, name)(hx)[0].sigmoid().detach())
        np.testing.assert_allclose(table[name], opening.mean(axis=1))
        assert not getattr(cell, name)._forward_hooks


def test_other_cells_have_no_gates_to_show():
    model = fresh_model(cell="gru")
    assert list(word_by_word(model, IDS)) == ["logit"]
    assert gate_openings(model, IDS) == {}


@pytest.mark.filterwarnings("error")
def test_quantized_weights_are_smaller_and_nearly_agree():
    model = fresh_model()
    small = quantized(model)
    # 4 gates of 16 units over 22 inputs: a byte per weight instead of 4, biases stay.
    assert weight_bytes(model.lstm) == 4 * 4 * 16 * 23
    assert weight_bytes(small.lstm) < 0.5 * weight_bytes(model.lstm)
    assert at_once(small, IDS) == pytest.approx(at_once(model, IDS), abs=0.05)
    assert at_once(small, IDS) != at_once(model, IDS)
    stream = WordStream(small)
    logits = [stream.read(index) for index in IDS]
    assert logits[-1] == pytest.approx(at_once(small, IDS), abs=0.02)
    assert model.lstm.backend == "fused"
