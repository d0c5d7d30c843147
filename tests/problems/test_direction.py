"""The direction of a metric: as given, by an attribute, by its name; unknown is refused where it matters."""

import functools

import numpy as np
import pytest
from tests.problems.lines import line

import descend
from descend.errors import ProblemError
from descend.problems.direction import direction_of_name

NAMES = {
    True: "accuracy valAccuracy MulticlassAccuracy acc@5 AUC roc_auc_score BinaryAUROC F1 f1_score F1Score r2 R2Score "
    "R² R^2 IoU mIoU mAP dice log_likelihood neg_mean_squared_error -loss explained_variance matthews_corrcoef",
    False: "error error_rate loss MAE mae mean_absolute_error MeanSquaredError RMSE nll negative_log_likelihood "
    "perplexity cross_entropy CrossEntropyLoss dice_loss brier_score_loss accuracy_error 1-accuracy one_minus_AUC",
    None: "metric score gap figure recall_at_fpr negative_class_recall false_negative_rate inaccuracy",
}


@pytest.mark.parametrize(
    ("name", "higher"), [(name, higher) for higher, names in NAMES.items() for name in names.split()]
)
def test_the_words_of_a_name_tell_the_direction(name, higher):
    """As scikit-learn, Keras and TorchMetrics name them; words that say nothing, or both, tell nothing."""
    assert direction_of_name(name) is higher


def figure(w, X, y):
    return float(np.mean(X @ w > y))


def accuracy(w, X, y):
    return figure(w, X, y)


class Metric:
    """As a metric of TorchMetrics: an object that is called, and knows its direction."""

    def __init__(self, higher):
        self.higher_is_better = higher

    def __call__(self, w, X, y):
        return figure(w, X, y)


class MeanAbsoluteError:
    def __call__(self, w, X, y):
        return figure(w, X, y)


@pytest.mark.parametrize(
    ("options", "higher"),
    [
        ({}, False),
        ({"higher_is_better": True}, False),  # the loss itself
        ({"metric": accuracy}, True),
        ({"metric": functools.partial(accuracy)}, True),
        ({"metric": accuracy, "metric_name": "share"}, True),
        ({"metric": accuracy, "metric_name": "error"}, False),
        ({"metric": accuracy, "higher_is_better": False}, False),
        ({"metric": figure, "metric_name": "AUC"}, True),
        ({"metric": figure, "higher_is_better": True}, True),
        ({"metric": Metric(True)}, True),
        ({"metric": Metric(False), "metric_name": "accuracy"}, False),
        ({"metric": MeanAbsoluteError()}, False),
        ({"metric": figure}, None),
        ({"metric": Metric(None)}, None),
        ({"metric": lambda w, X, y: 0.0}, None),
    ],
    ids=range(15),
)
def test_a_problem_knows_the_direction_of_its_metric(options, higher):
    """What is said counts first, then the object's attribute, then the name it is given, then its function's."""
    assert line(**options).higher_is_better is higher


def test_an_unknown_direction_is_refused_where_the_best_is_asked_for():
    """Before anything is run; what asks for no best one goes on."""
    calls = []
    problem = line(metric=lambda *_: calls.append(0) or 0.0)
    says = r"is a higher or a lower metric better\? {} must know.*higher_is_better=True or higher_is_better=False"
    for attempt, who in (
        (lambda: descend.compare(problem, ["gd"]), "a comparison"),
        (lambda: descend.fit(problem, "gd", keep_best=True), "keep_best"),
        (lambda: descend.fit(problem, "gd", patience=3), "patience"),
        (lambda: descend.fit_many(problem, ["gd"], seeds=[0]), "keep_best"),
    ):
        with pytest.raises(ProblemError, match=says.format(who)):
            attempt()
    assert not calls
    result = descend.fit(problem, "gd", epochs=1)
    assert calls
    assert result.best is None
    assert descend.fit(line(metric=lambda *_: 0.0, higher_is_better=False), "gd", epochs=1).best is not None


@pytest.mark.parametrize(("options", "kept"), [({"metric_name": "accuracy"}, 3.0), ({"metric_name": "error"}, 0.0)])
def test_the_best_is_kept_in_the_direction_of_the_name(options, kept):
    """A figure that rises with every evaluation: the last is kept of an accuracy, the first of an error."""
    calls = []

    def metric(w, X, y):
        calls.append(None)
        return float(len(calls) - 1)

    result = descend.fit(line(metric=metric, **options), descend.GD(lr=0.01), epochs=3, keep_best=True)
    assert result.best.epoch == kept
