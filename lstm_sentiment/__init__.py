"""Sentiment of IMDB movie reviews with an LSTM written by hand in PyTorch.

The public names, in the order in which data passes through them.
"""

from lstm_sentiment.text import DataError
from lstm_sentiment.data import (
    ReviewDataset,
    batch_padding_share,
    describe_loading,
    draw_balanced,
    find_kaggle_file,
    load_reviews,
    load_unlabelled,
    make_loader,
    split_reviews,
)
from lstm_sentiment.files.tables import read_review_column
from lstm_sentiment.text import (
    Vocabulary,
    choose_max_length,
    encode_labels,
    encode_reviews,
    tokenize,
    tokenize_all,
    truncate,
)
from lstm_sentiment.files.vectors import as_keyed_vectors
from lstm_sentiment.embeddings import build_embedding_matrix, load_word_vectors, train_word_vectors
from lstm_sentiment.report.words import (
    choose_words,
    cosine_table,
    mean_by_relation,
    mean_cosines,
    nearest_words,
    project,
)
from lstm_sentiment.evaluation import separation
from lstm_sentiment.lstm import GRUCell, LSTMCell, LSTMLayer, RNNCell, run_cells
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.training import (
    TrainingConfig,
    one_cycle,
    pick_device,
    predict_logits,
    predict_proba,
    score,
    search,
    train,
)
from lstm_sentiment.studies.language_model import (
    LanguageModel,
    PretrainingConfig,
    perplexity,
    pretrained_language_model,
    start_from,
)
from lstm_sentiment.evaluation import (
    Accuracy,
    compare,
    evaluate,
    evaluation_table,
    expected_calibration_error,
    fit_temperature,
    points,
    reliability_curve,
    wilson_interval,
    write_metrics,
)
from lstm_sentiment.report.probes import (
    accuracy_by_length,
    accuracy_by_negation,
    audit,
    influence_by_distance,
    kept_per_word,
    misclassified,
    same_accuracy_p_value,
)
from lstm_sentiment.studies.baselines import (
    averaged_word_vectors,
    nb_weighted_bigrams,
    tfidf_logistic_regression,
)
from lstm_sentiment.report.speed import differences_from_torch, lstm_contenders, with_torch_lstm
from lstm_sentiment.report.speed import (
    Rereader,
    RunningAverage,
    compare_speed,
    largest_disagreement,
    reading_time,
    time_by_operation,
    word_latency,
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
    ABLATION,
    FROM_LANGUAGE_MODEL,
    FULL_LENGTH,
    LEAKS,
    finished_trials,
    read_study,
    run_all_again,
    run_baselines,
    run_search,
    run_study,
    summarise_study,
)
from lstm_sentiment.studies.results import study_results
from lstm_sentiment.classifier import WordStream, word_by_word
from lstm_sentiment.report.probes import gate_openings, quantized, weight_bytes
from lstm_sentiment.report.probes import first_word_task, remembered_first_word, shuffled
from lstm_sentiment.classifier import SentimentPredictor, write_submission

__version__ = "0.1.0"
