"""From texts to verdicts: as scikit-learn has it, kept in one file, read at once or as it comes."""

from __future__ import annotations

import pickle
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks

from lstm_sentiment.classifier import SentimentClassifier
from lstm_sentiment.files.keep import load_tensors, save_tensors
from lstm_sentiment.files.vectors import as_keyed_vectors
from lstm_sentiment.model import POOLINGS
from lstm_sentiment.predictor import TextPredictor
from lstm_sentiment.scoring import judged
from lstm_sentiment.text import DataError, Vocabulary
from lstm_sentiment.weights import weights_file

GOOD, BAD = ["good", "fine", "warm", "great"], ["bad", "dull", "poor", "awful"]
TEXTS = [f"A {word} film {n}, {word}!" for n in range(4) for word in [*GOOD, *BAD]]
LABELS = [int(word in GOOD) for n in range(4) for word in [*GOOD, *BAD]]
QUESTIONS = ["A good film!", "bad, bad, bad", "not bad but awful", "film " * 500, "a"]


def tiny(**options) -> SentimentClassifier:
    settings = {"vectors": None, "vector_size": 6, "hidden_size": 5, "epochs": 2, "batch_size": 8}
    settings |= {"learning_rate": 0.05, "embedding_rate_factor": 1.0, "min_count": 1}
    return SentimentClassifier(**settings | options)


@pytest.fixture(scope="module")
def fitted() -> SentimentClassifier:
    return tiny(max_length=9, num_layers=2).fit(TEXTS, LABELS)


# ---- As scikit-learn has it ----


# Of scikit-learn's own checks, those that need no numbers; all others fit tables of numbers. What
# they claim and is true of texts as well stands below.
@pytest.mark.parametrize(
    "name",
    [
        *("check_estimator_cloneable", "check_estimator_tags_renamed", "check_valid_tag_types"),
        *("check_estimator_repr", "check_no_attributes_set_in_init", "check_set_params"),
        *("check_do_not_raise_errors_in_init_or_set_params", "check_mixin_order"),
        *("check_parameters_default_constructible", "check_get_params_invariance"),
        *("check_estimators_unfitted", "check_estimator_sparse_tag"),
    ],
)
def test_passes_scikit_learns_own(name):
    check = getattr(estimator_checks, name, None)
    if check is None:
        pytest.skip("this scikit-learn has no such check")
    check("SentimentClassifier", tiny())


def test_fit_returns_itself_changes_no_parameter_and_repeats():
    classifier = tiny()
    before = classifier.get_params()
    with pytest.raises(NotFittedError):
        classifier.save("nowhere")
    assert classifier.fit(TEXTS, LABELS) is classifier
    first = classifier.predict_proba(QUESTIONS)
    assert np.array_equal(classifier.predict_proba(QUESTIONS), first), "judging changes nothing"
    assert classifier.get_params() == before
    assert np.array_equal(classifier.fit(TEXTS, LABELS).predict_proba(QUESTIONS), first)
    assert np.array_equal(clone(classifier).fit(TEXTS, LABELS).predict_proba(QUESTIONS), first)
    other = clone(classifier).set_params(random_state=1).fit(TEXTS, LABELS)
    assert not np.array_equal(other.predict_proba(QUESTIONS), first)


@pytest.mark.parametrize(
    ("negative", "positive"), [("negative", "positive"), (False, True), (-1.0, 1.0)]
)
def test_verdicts_are_the_labels_it_learnt_from(negative, positive, tmp_path):
    labels = pd.Series([positive if label else negative for label in LABELS])
    classifier = tiny(epochs=12).fit(pd.Series(TEXTS), labels)
    assert classifier.classes_.tolist() == [negative, positive]
    clear = ["a great, great film", "awful, dull"]
    assert classifier.predict(clear).tolist() == [positive, negative]
    assert classifier.score(TEXTS, labels) > 0.9
    probabilities = classifier.predict_proba(QUESTIONS)
    np.testing.assert_allclose(probabilities.sum(axis=1), np.ones(len(QUESTIONS)), rtol=1e-6)
    is_positive = classifier.predict(QUESTIONS) == positive
    assert (is_positive == (probabilities[:, 1] >= 0.5)).all()
    classifier.save(tmp_path)
    assert SentimentClassifier.load(tmp_path).predict(clear).tolist() == [positive, negative]


def test_works_in_pipelines_cross_validation_and_grid_search():
    shout = FunctionTransformer(lambda texts: [text.upper() for text in texts])
    assert is_classifier(tiny())
    pipeline = Pipeline([("shout", shout), ("judge", tiny())]).fit(TEXTS, LABELS)
    assert set(pipeline.predict(QUESTIONS)) <= {0, 1}
    assert cross_val_score(tiny(epochs=1), TEXTS, LABELS, cv=2).shape == (2,)
    search = GridSearchCV(tiny(epochs=1), {"hidden_size": [2, 3]}, cv=2).fit(TEXTS, LABELS)
    assert search.best_params_["hidden_size"] == search.best_estimator_.model_.lstm.hidden_size
    assert search.predict_proba(QUESTIONS).shape == (len(QUESTIONS), 2)


@pytest.mark.parametrize(
    ("texts", "labels", "validation", "message"),
    [
        (TEXTS, [1] * len(TEXTS), None, r"two classes.*got 1 class\(es\): \[1\]"),
        (TEXTS, [n % 3 for n in range(len(TEXTS))], None, r"two classes.*got 3"),
        (TEXTS, LABELS[1:], None, "32 texts and 31 labels"),
        ([*TEXTS[1:], None], LABELS, None, r"texts\[31\] must be a string, got a NoneType"),
        ("a good film", [1], None, "texts must be a list of strings, got a str"),
        (TEXTS, LABELS, (TEXTS[:2], [0, 2]), r"labels are .*2.*; they must be of \[0, 1\]"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(texts, labels, validation, message):
    with pytest.raises(DataError, match=message):
        tiny().fit(texts, labels, validation)


# ---- Learning ----


def test_validation_texts_choose_and_are_not_learnt_from():
    rows = []
    validation = ["unheard words", "never seen"] * 8, [0, 1] * 8
    classifier = tiny().fit(TEXTS, LABELS, validation=validation, on_epoch=rows.append)
    assert "unheard" not in classifier.vocabulary_
    assert "good" in classifier.vocabulary_
    assert classifier.history_["validation_loss"].tolist() == [r["validation_loss"] for r in rows]
    assert set(classifier.history_["validation_accuracy"]) <= {0.0, 0.5, 1.0}, "two texts, 8 times"


def test_an_interrupted_fit_goes_on_from_its_checkpoint(tmp_path):
    def stop(row):
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        tiny(dropout=0.5).fit(TEXTS, LABELS, checkpoint=tmp_path / "c", on_epoch=stop)
    seen = []
    options = {"checkpoint": tmp_path / "c", "resume": True, "on_epoch": seen.append}
    resumed = tiny(dropout=0.5).fit(TEXTS, LABELS, **options)
    assert [row["epoch"] for row in seen] == [2]
    whole = tiny(dropout=0.5).fit(TEXTS, LABELS)
    assert np.array_equal(resumed.predict_proba(QUESTIONS), whole.predict_proba(QUESTIONS))


def test_word_vectors_and_vocabulary_may_be_given(data_home):
    words = [*GOOD, *BAD, "film"]
    vectors = as_keyed_vectors(words, np.random.default_rng(0).normal(size=(9, 6)))
    classifier = tiny(vectors=vectors, freeze_embedding=True).fit(TEXTS, LABELS)
    row = classifier.vocabulary_["awful"]
    found = classifier.model_.embedding.weight[row].numpy()
    np.testing.assert_allclose(found, vectors["awful"], rtol=1e-6)
    vocabulary = Vocabulary(["<pad>", "<unk>", *words], [0] * 11)
    assert tiny(vocabulary=vocabulary).fit(TEXTS, LABELS).vocabulary_ is vocabulary
    trained = tiny(vectors="own").fit(TEXTS, LABELS, unlabelled=["an unheard film"] * 9)
    assert trained.model_.embedding.weight.shape[1] == 6
    assert len(list(data_home.iterdir())) == 1


def test_it_starts_from_the_words_vectors_and_lstm_of_a_language_model(tmp_path):
    path = tmp_path / "lm.safetensors"
    source = tiny().fit(TEXTS, LABELS)
    state = source.model_.state_dict()
    learnt = {name: state[name] for name in state if not name.startswith("output")}
    other = {"bias": torch.zeros(3), "counts": torch.from_numpy(source.vocabulary_.counts)}
    save_tensors(path, learnt | other, {"words": source.vocabulary_.words})
    still = {"embedding_rate_factor": 1e-9, "recurrent_rate_factor": 1e-9}
    classifier = tiny(start=path, **still).fit(TEXTS[:20], LABELS[:20])
    assert classifier.vocabulary_.words == source.vocabulary_.words
    found = classifier.model_.state_dict()
    for name, weight in learnt.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-6)
    wider = tiny(start=path, hidden_size=60).fit(TEXTS, LABELS)  # the size is the language model's
    wider.save(tmp_path)
    assert SentimentClassifier.load(tmp_path).hidden_size == source.hidden_size
    with pytest.raises(DataError, match="is no language model"):
        tiny(start=weights_file("vectors")).fit(TEXTS, LABELS)
    for option in ({"bidirectional": True}, {"num_layers": 2}, {"cell": "gru"}):
        with pytest.raises(DataError, match=rf"cannot have .*{next(iter(option))}="):
            tiny(start=path, **option).fit(TEXTS, LABELS)


def test_it_learns_from_a_teacher_what_no_label_says():
    class Teacher:
        def predict_proba(self, texts):
            positive = np.array(["zorp" in words for words in texts]) * 0.98 + 0.01
            return np.stack([1 - positive, positive], axis=1)

    unlabelled = ["a zorp film", "a blick film"] * 20
    vocabulary = Vocabulary.from_tokens(map(str.split, unlabelled))
    classifier = tiny(min_count=1, vocabulary=vocabulary, epochs=8)
    against_it = ["zorp", "blick"], sorted(set(LABELS))
    classifier.fit(TEXTS, LABELS, against_it, unlabelled=unlabelled, teacher=Teacher())
    assert classifier.history_["is_best"].iloc[-1]  # validation, all wrong by then, chose nothing
    said = classifier.predict(["zorp", "blick"])
    assert list(said) == [classifier.classes_[1], classifier.classes_[0]]


# ---- Judging ----


@pytest.mark.parametrize("text", ["", "<br />", "\u4e00\u90e8", "\ud83d", "word " * 100_000])
def test_a_text_that_says_nothing_to_the_model_gets_a_probability_and_a_warning(fitted, text):
    with pytest.warns(UserWarning, match=r"1 of 2 texts \(the first is number 2\) hold no word"):
        probabilities = fitted.predict_proba(["good", text])
    assert ((probabilities > 0) & (probabilities < 1)).all()


def test_a_text_of_which_only_words_that_are_cut_off_are_known_says_nothing_either(fitted):
    text = "qwx " * 9 + "good " * 9 + "qwx " * 9
    for judge in (fitted.predict_proba, lambda texts: list(judged(fitted, texts))):
        with pytest.warns(UserWarning, match="1 of 1 texts .*hold no word"):
            judge([text])


def test_a_verdict_depends_neither_on_its_company_nor_on_the_form_of_the_text(fitted):
    together = fitted.predict_proba(QUESTIONS)
    alone = [fitted.predict_proba([text])[0] for text in QUESTIONS]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    tokens = fitted.predict_proba([["a", "good", "film"]])
    np.testing.assert_allclose(tokens[0], together[0], atol=1e-6)
    assert fitted.predict_proba([]).shape == (0, 2)
    assert fitted.predict([]).shape == (0,)


def test_the_words_of_all_texts_are_never_in_memory_at_once(fitted):
    texts = ["good film " * 2000] * 100  # the words of all take 24 MB
    tracemalloc.start()
    fitted.predict(texts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_a_pickle_is_no_larger_than_the_file_and_judges_alike(tmp_path):
    classifier = SentimentClassifier.from_pretrained()
    classifier.save(tmp_path)
    pickled = pickle.dumps(classifier)
    assert len(pickled) <= (tmp_path / "model.safetensors").stat().st_size
    again = pickle.loads(pickled)
    assert np.array_equal(again.predict_proba(QUESTIONS), classifier.predict_proba(QUESTIONS))


def test_temperature_is_that_of_the_validation_texts_and_changes_no_verdict(fitted):
    assert 0.05 <= fitted.temperature_ <= 20
    cautious = pickle.loads(pickle.dumps(fitted))
    cautious.temperature_ *= 2
    ours, theirs = (each.predict_proba(QUESTIONS)[:, 1] for each in (fitted, cautious))
    np.testing.assert_allclose(theirs, 1 / (1 + np.sqrt((1 - ours) / ours)), rtol=1e-4)
    assert (fitted.predict(QUESTIONS) == cautious.predict(QUESTIONS)).all()


def test_eight_threads_get_the_answers_that_one_gets():
    classifier = tiny(dropout=0.9, hidden_size=16, max_length=50).fit(TEXTS, LABELS)
    texts = TEXTS * 20
    ways = [
        lambda: classifier.predict_proba(texts)[:, 1],
        lambda: classifier.predict_proba(texts[:3])[:, 1],
        lambda: classifier.word_by_word(texts[1])["probability"],
        lambda: [classifier.stream().read(text) for text in texts[:9]],
    ]
    expected = [way() for way in ways]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: ways[n % 4](), range(64)))
    for n, answer in enumerate(found):
        np.testing.assert_allclose(answer, expected[n % 4], atol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_stream_and_word_by_word_end_where_the_whole_text_does(pooling, cell):
    classifier = tiny(epochs=1, max_length=50, pooling=pooling, cell=cell).fit(TEXTS, LABELS)
    whole = classifier.predict_proba(["A good film, isn't it? Dull!"])[0, 1]
    stream = classifier.stream()
    assert stream.read("...") == 0.5
    before = stream.state_bytes
    for piece in ("A good", "film,", "", "isn't it? Dull!"):
        probability = stream.read(piece)
    assert probability == pytest.approx(whole, abs=1e-5)
    assert stream.state_bytes == before > 0
    table = classifier.word_by_word("A good film, isn't it? Dull!")
    assert table["word"].tolist() == ["a", "good", "film", "is", "not", "it", "dull"]
    assert table["probability"].iloc[-1] == pytest.approx(whole, abs=1e-5)
    if cell == "lstm":
        gates = table[["forget_gate", "input_gate", "output_gate"]]
        assert ((gates > 0) & (gates < 1)).all(axis=None)
    with pytest.raises(DataError, match="no word"):
        classifier.word_by_word("...")


def test_a_long_text_is_cut_by_predict_alone_unless_a_higher_max_length_is_set():
    classifier = tiny(max_length=4, keep="tail").fit(TEXTS, LABELS)
    text = "good " * 9 + "bad " * 4
    whole = classifier.stream().read(text)
    assert classifier.word_by_word(text)["probability"].iloc[-1] == pytest.approx(whole, abs=1e-5)
    cut = classifier.predict_proba([text])[0, 1]
    assert cut == pytest.approx(classifier.stream().read("bad " * 4), abs=1e-5)
    assert abs(cut - whole) > 1e-3
    classifier.max_length_ = 13
    assert classifier.predict_proba([text])[0, 1] == pytest.approx(whole, abs=1e-5)


# ---- Keeping ----


@pytest.mark.parametrize(
    "options",
    [
        {"bidirectional": True, "pooling": "mean_max"},
        {"cell": "gru", "num_layers": 2},
        {"cell": "rnn", "keep": "tail", "max_length": 7},
        {"freeze_embedding": True, "dropout": 0.3},
        {"hidden_size": np.int64(4), "learning_rate": np.float32(0.01), "vector_size": np.int64(3)},
    ],
)
def test_a_loaded_classifier_judges_bit_by_bit_alike(tmp_path, options):
    classifier = tiny(epochs=1, **options).fit(TEXTS, LABELS, checkpoint=tmp_path / "checkpoint")
    classifier.save(tmp_path / "model")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["model.safetensors"]
    loaded = SentimentClassifier.load(tmp_path / "model")
    assert np.array_equal(loaded.predict_proba(QUESTIONS), classifier.predict_proba(QUESTIONS))
    assert not any(module.training for module in loaded.model_.modules())
    kept = {"max_length": classifier.max_length_}
    assert loaded.get_params() == classifier.get_params() | kept
    unpickled = pickle.loads(pickle.dumps(classifier))
    assert np.array_equal(unpickled.predict_proba(QUESTIONS), classifier.predict_proba(QUESTIONS))
    loaded.save(tmp_path / "again.safetensors")
    again = TextPredictor.load(tmp_path / "again.safetensors")
    assert np.array_equal(again.predict_proba(QUESTIONS), classifier.predict_proba(QUESTIONS))


@pytest.fixture(params=[torch.float64, torch.bfloat16, torch.float16])
def dtype(request):
    yield request.param
    torch.set_default_dtype(torch.float32)


def test_a_classifier_answers_in_any_dtype_and_is_loaded_and_fitted_in_float32(tmp_path, dtype):
    classifier = tiny(pooling="last_mean_max").fit(TEXTS, LABELS)
    expected = classifier.predict_proba(QUESTIONS)
    classifier.save(tmp_path)
    torch.set_default_dtype(dtype)
    loaded = SentimentClassifier.load(tmp_path)
    assert np.array_equal(loaded.predict_proba(QUESTIONS), expected)
    assert tiny().fit(TEXTS, LABELS).model_.output.weight.dtype == torch.float32
    classifier.model_.to(dtype)
    classifier.save(tmp_path)
    for each in (classifier, SentimentClassifier.load(tmp_path)):
        np.testing.assert_allclose(each.predict_proba(QUESTIONS), expected, atol=0.01)
        last = each.word_by_word("A good film!").iloc[-1]
        assert last["probability"] == pytest.approx(expected[0, 1], abs=0.01)
        assert 0 < last["forget_gate"] < 1


MISSING = object()
NO_CLASSIFIERS = [
    {"description": {"settings": MISSING}},
    {"description": {"settings": []}},
    {"description": {"words": ["<pad>", "<unk>", "good"]}},
    {"description": {"classes": ["positive"]}},
    {"description": {"temperature": None}},
    {"description": {"temperature": -1.0}},
    {"description": {"temperature": float("nan")}},
    {"settings": {"keep": "middle"}},
    {"settings": {"embedding_dropout": float("nan")}},
    {"settings": {"unheard": 1}},
    {"settings": {"cell": "gru"}},
    {"settings": {"cell": "transformer"}},
    {"settings": {"dropout": 2}},
    {"settings": {"max_length": None}},
    {"settings": {"max_length": 0}},
    {"settings": {"max_length": float("inf")}},
    {"tensors": {"counts": MISSING}},
    {"tensors": {"output.bias": MISSING}},
    {"tensors": {"output.bias": torch.tensor([torch.nan])}},
    {"tensors": {"output.bias": torch.tensor([1e300], dtype=torch.float64)}},
    {"tensors": {"output.weight": torch.tensor(1.0)}},
    {"tensors": {"embedding.weight": torch.zeros(0, 6)}},
    {"tensors": {"embedding.weight": torch.ones(2, 6)}},
    # Sizes that the file does not hold: building such a network would take all memory.
    {"settings": {"hidden_size": 10**6}},
    {"settings": {"num_layers": 10**9}},
    {"settings": {"bidirectional": True}},
    {"settings": {"hidden_size": 20_000}, "tensors": {"output.weight": torch.zeros(1, 20_000)}},
    {
        "settings": {"num_layers": 20_000},
        "tensors": {f"lstm.cells.{n}.x": torch.zeros(1) for n in range(20_000)},
    },
]


@pytest.mark.parametrize("changes", NO_CLASSIFIERS)
def test_a_whole_file_that_is_no_classifier_is_refused(fitted, tmp_path, changes):
    path = tmp_path / "model.safetensors"
    fitted.save(path)
    tensors, description = load_tensors(path)
    parts = {"tensors": tensors, "description": description, "settings": description["settings"]}
    for name, values in changes.items():
        parts[name].update(values)
        for key in [key for key, value in values.items() if value is MISSING]:
            del parts[name][key]
    save_tensors(path, tensors, description)
    with pytest.raises(DataError, match=r"model\.safetensors is no classifier"):
        SentimentClassifier.load(path)
