"""Classification of texts: naive Bayes, an n-gram model for each class, logistic regression; choices and temperature on val."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from genai.metrics.discriminative import log_posterior
from genai.networks.kneser_ney import KneserNey

TEMPERATURES = torch.logspace(-1, 3, 81, dtype=torch.float64)
MIN_COUNT = 2  # documents that a word is in; others are not counted


class Labelled(NamedTuple):
    """Texts and their classes (N,) int64."""

    texts: Sequence[str]
    labels: np.ndarray


class Fitted(NamedTuple):
    """ln p(class | text), each (N, K) float64, of the validation and the test texts, and what was chosen on validation."""

    val: Tensor
    test: Tensor
    choice: str


def naive_bayes(train: Labelled, num_classes: int) -> Iterator[tuple[str, Callable[[Sequence[str]], Tensor]]]:
    """Multinomial naive Bayes on counts of words (McCallum & Nigam 1998), a candidate for each smoothing."""
    from sklearn.naive_bayes import MultinomialNB

    for alpha in (0.01, 0.1, 1.0):
        yield f"smoothing {alpha:g}", words_model(MultinomialNB(alpha=alpha), train, num_classes, logarithmic=False)


def logistic_regression(train: Labelled, num_classes: int) -> Iterator[tuple[str, Callable[[Sequence[str]], Tensor]]]:
    """Logistic regression on ln(1 + count) of words, a candidate for each regularisation."""
    from sklearn.linear_model import LogisticRegression

    for c in (0.1, 1.0, 10.0):
        yield f"C {c:g}", words_model(LogisticRegression(C=c, max_iter=300), train, num_classes, logarithmic=True)


def words_model(model: Any, train: Labelled, num_classes: int, logarithmic: bool) -> Callable[[Sequence[str]], Tensor]:
    """Fit a scikit-learn model of the counts of words and single punctuation marks: texts -> ln p(class | text) (N, K)."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    counts = CountVectorizer(token_pattern=r"\w+|[^\w\s]", min_df=min(MIN_COUNT, len(train.texts) // 20 + 1))
    steps = [FunctionTransformer(np.log1p, accept_sparse=True)] if logarithmic else []
    fitted = make_pipeline(counts, *steps, model).fit(train.texts, train.labels)

    def predict(texts: Sequence[str]) -> Tensor:
        log_p = torch.full((len(texts), num_classes), -torch.inf, dtype=torch.float64)
        log_p[:, fitted.classes_] = torch.from_numpy(fitted.predict_log_proba(texts))  # the others have no training text
        return log_p

    return predict


def ngrams_of_classes(train: Labelled, num_classes: int) -> Iterator[tuple[str, Callable[[Sequence[str]], Tensor]]]:
    """n-grams of bytes with modified Kneser-Ney smoothing for each class, by Bayes' rule; a candidate for each n."""
    prior = torch.from_numpy(np.bincount(train.labels, minlength=num_classes) / len(train.labels))
    for order in (3, 4, 5):
        models = []
        for k in range(num_classes):
            model = KneserNey(256, order, by_document=True)
            for start in range(0, len(train.texts), 500):
                part = zip(train.texts[start : start + 500], train.labels[start : start + 500], strict=True)
                if own := [text for text, label in part if label == k]:
                    model.add(padded(own)[0])
            models.append(model)
        yield f"n {order}", partial(n_gram_posterior, models, prior)


def n_gram_posterior(models: Sequence[KneserNey], prior: Tensor, texts: Sequence[str]) -> Tensor:
    """ln p(class | text) of texts: (N, K) float64."""
    return log_posterior(log_likelihoods(models, texts), prior)


def log_likelihoods(models: Sequence[KneserNey], texts: Sequence[str]) -> Tensor:
    """ln p(text | class) of each class: (N, K) float64."""
    rows = []
    for start in range(0, len(texts), 200):
        tokens, is_text = padded(texts[start : start + 200])
        columns = [(model.log_probs(tokens.clamp(min=0)) * is_text).sum(dim=1) for model in models]
        rows.append(torch.stack(columns, dim=1))
    return torch.cat(rows)


def padded(texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The bytes of texts after a line feed, -1 for padding (N, L), and whether each is a byte of the text (N, L)."""
    rows = [torch.tensor([10, *text.encode()]) for text in texts]
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
    is_text = tokens >= 0
    is_text[:, 0] = False
    return tokens, is_text


TEXT_BASELINES = {
    "naive Bayes": naive_bayes,
    "n-grams by Bayes' rule": ngrams_of_classes,
    "logistic regression": logistic_regression,
}


def text_baseline(name: str, splits: Mapping[str, Labelled], num_classes: int) -> Fitted:
    """Fit the candidates of a baseline on train; the one with the highest accuracy on val predicts val and test.

    Among candidates of the same accuracy, the one with the lowest loss on val is taken.
    """
    labels = torch.from_numpy(splits["val"].labels)
    candidates = []
    for choice, predict in TEXT_BASELINES[name](splits["train"], num_classes):
        log_p = predict(splits["val"].texts)
        accuracy = float((log_p.argmax(dim=1) == labels).double().mean())
        candidates.append(
            (accuracy, -float(torch.nn.functional.nll_loss(log_p.clamp(min=-1e4), labels)), log_p, choice, predict)
        )
    *_, log_p, choice, predict = max(candidates, key=lambda candidate: candidate[:2])
    return Fitted(log_p, predict(splits["test"].texts), choice)


def fitted_temperature(log_p: Tensor, labels: Tensor) -> float:
    """The T for which softmax(ln p / T) has the lowest cross-entropy (Guo et al. 2017, section 4.2), 0.1 to 1000.

    Args:
        log_p: ln p(class | text) or logits of held-out texts, (N, K).
        labels: (N,) int64.
    """
    losses = [torch.nn.functional.cross_entropy(log_p.clamp(min=-1e6) / t, labels) for t in TEMPERATURES]
    return float(TEMPERATURES[int(torch.stack(losses).argmin())])
