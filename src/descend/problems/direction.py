"""The direction of a metric: whether a higher or a lower figure is better, as its function or its name tells."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from descend.errors import ProblemError

__all__ = ["direction_of", "direction_of_name", "refuse_unknown_direction"]


def _words_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


HIGHER = _words_of(
    "accuracy acc auc auroc auprc roc f1 f2 fbeta r2 precision recall sensitivity specificity tpr tnr iou miou "
    "jaccard dice map ndcg mrr bleu rouge meteor psnr ssim kappa mcc correlation corr corrcoef pearson spearman "
    "kendall likelihood loglikelihood reward correct explained determination similarity concordance"
)
"""Words of names that say: higher is better."""
LOWER = _words_of(
    "error errors err loss losses logloss mse rmse mae mape smape wape mase msle rmsle msd nll deviance perplexity "
    "ppl bpc bpd crossentropy xent ce bce brier residual residuals deviation deviations divergence kl huber hinge "
    "pinball wer cer fid regret cost penalty risk misclassification misclassified miss misses mistake mistakes wrong "
    "fpr fnr eer ece"
)
"""Words of names that say: lower is better."""
HEADS = _words_of("error errors err loss losses cost regret")
"""Words that turn what stands before them into something to be low: "dice loss", "accuracy error"."""
TURNS = _words_of("neg minus negated")
"""Words in front that turn a direction round, as in scikit-learn's "neg_mean_squared_error"."""


def direction_of(metric: Any, name: str) -> bool | None:
    """Whether a higher figure of a metric is better, by what is known of it; None if that tells nothing.

    An attribute ``higher_is_better`` of the function or object is believed first, as metrics of TorchMetrics have it;
    then the `name` that the user gave it, then the name of the function.
    """
    own = getattr(metric, "higher_is_better", None)
    if isinstance(own, bool):
        return own
    for found in map(direction_of_name, (name, *_own_names(metric))):
        if found is not None:
            return found
    return None


def _own_names(metric: Any) -> Iterator[str]:
    """What a function, what a partial one is made of, or the class of an object is called."""
    while isinstance(metric, functools.partial):
        metric = metric.func
    yield str(getattr(metric, "__name__", type(metric).__name__))


def direction_of_name(name: str) -> bool | None:
    """Whether a higher figure of a metric with this name is better; None if its words say nothing, or both.

    >>> [direction_of_name(name) for name in ("top-1 accuracy", "R²", "valMAE", "dice_loss", "1 - AUC", "score")]
    [True, True, False, False, False, None]
    """
    plain = unicodedata.normalize("NFKC", name).replace("−", "-").replace("^", "").strip()
    words = _words(plain)
    turned = plain.startswith("-") or bool(re.match(r"1\s*-", plain)) or words[:2] == ["one", "minus"]
    turned ^= bool(words) and words[0] in TURNS
    for i, word in enumerate(words):
        if word.startswith("negative"):
            if words[i + 1 : i + 2] not in (["log"], ["loglikelihood"]):
                return None  # "negative class recall", or the negated recall?
            turned = not turned
    whole = {*words, *re.split(r"[\W_]+", plain.lower())}  # "mIoU" is one word for all its capitals
    higher, lower = bool(whole & HIGHER), bool(whole & LOWER)
    if higher and lower:
        higher, lower = False, words[-1] in HEADS
    return None if higher == lower else higher ^ turned


def _words(name: str) -> list[str]:
    """The words of a name in lower case: between spaces and signs, and as capitals set them apart."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return re.sub(r"[\W_]+", " ", apart.lower()).replace("cross entropy", "crossentropy").split()


def refuse_unknown_direction(problem: str, metric: str, needed_by: str) -> ProblemError:
    """The error where the best of some figures is asked for, and nobody has said which is better."""
    return ProblemError(
        f"{problem}: is a higher or a lower {metric} better? {needed_by} must know, and the metric's name does not "
        "tell: pass higher_is_better=True or higher_is_better=False"
    )
