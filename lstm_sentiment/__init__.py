"""Sentiment of IMDB movie reviews with an LSTM written by hand in PyTorch.

The public names, in the order in which data passes through them.
"""

from lstm_sentiment.data import (
    DataError,
    ReviewDataset,
    batch_padding_share,
    describe_loading,
    draw_balanced,
    find_kaggle_file,
    load_reviews,
    load_unlabelled,
    make_loader,
    read_review_column,
    split_reviews,
)
from lstm_sentiment.text import (
    Vocabulary,
    choose_max_length,
    encode_labels,
    encode_reviews,
    tokenize,
    tokenize_all,
    truncate,
)
from lstm_sentiment.embeddings import (
    build_embedding_matrix,
    choose_words,
    cosine_table,
    load_word_vectors,
    project,
    train_word_vectors,
)
from lstm_sentiment.lstm import LSTMCell, LSTMLayer
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.training import (
    TrainingConfig,
    pick_device,
    predict_proba,
    run_trial,
    score,
    search,
    train,
)
from lstm_sentiment.evaluation import (
    accuracy_by_length,
    compare,
    count_overlap,
    evaluate,
    evaluation_table,
    influence_by_distance,
    misclassified,
    wilson_interval,
    write_metrics,
)
from lstm_sentiment.baselines import (
    differences_from_torch,
    lstm_contenders,
    tfidf_logistic_regression,
)
from lstm_sentiment.bench import (
    compare_speed,
    largest_disagreement,
    seconds_per_word,
    time_by_operation,
)
from lstm_sentiment.predictor import SentimentPredictor, write_submission

__version__ = "0.1.0"

__all__ = [
    "DataError",
    "LSTMCell",
    "LSTMLayer",
    "ReviewDataset",
    "SentimentLSTM",
    "SentimentPredictor",
    "TrainingConfig",
    "Vocabulary",
    "accuracy_by_length",
    "batch_padding_share",
    "build_embedding_matrix",
    "choose_max_length",
    "choose_words",
    "compare",
    "compare_speed",
    "cosine_table",
    "count_overlap",
    "describe_loading",
    "differences_from_torch",
    "draw_balanced",
    "encode_labels",
    "encode_reviews",
    "evaluate",
    "evaluation_table",
    "find_kaggle_file",
    "influence_by_distance",
    "largest_disagreement",
    "load_reviews",
    "load_unlabelled",
    "load_word_vectors",
    "lstm_contenders",
    "make_loader",
    "misclassified",
    "pick_device",
    "predict_proba",
    "project",
    "read_review_column",
    "run_trial",
    "score",
    "search",
    "seconds_per_word",
    "split_reviews",
    "tfidf_logistic_regression",
    "time_by_operation",
    "tokenize",
    "tokenize_all",
    "train",
    "train_word_vectors",
    "truncate",
    "wilson_interval",
    "write_metrics",
    "write_submission",
]
