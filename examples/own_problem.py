"""
Your own problem
================

Which optimizer, and which learning rate, for *your* problem? Write the problem down in a file such as this one, and
ask:

.. code-block:: console

   $ descend compare examples/own_problem.py

The file must define ``problem``. This one predicts how far the diabetes of 442 patients has progressed a year on, from
10 measures, by a line that does not let a few odd patients pull it away: Huber's loss, with a gradient written by hand.
"""

import numpy as np

import descend

# %%
# The data
# --------
# One row an example. A comparison needs three parts: the parameters learn from the first, the learning rate is chosen
# on the second, and the third is read once, for the final figures. What the inputs are scaled by comes from the first
# part alone, as it would in use. (For data that need no such care, ``data=(X, y)`` is split for you.)

X, y = descend.problems.load_arrays("diabetes")
order = np.random.default_rng(0).permutation(len(y))
rows = {"train": order[:266], "validation": order[266:354], "test": order[354:]}
mean, std = X[rows["train"]].mean(axis=0), X[rows["train"]].std(axis=0)
parts = {name: ((X[i] - mean) / std, y[i]) for name, i in rows.items()}

# %%
# The functions
# -------------
# Parameters may be in any container; here it is a dict. `start` draws them from a random generator, so that every seed
# is another start. The loss is the *mean* over the examples it is given, and so is its gradient. Errors beyond `FAR`
# count by their size, smaller ones by their square.

FAR = 50.0


def start(rng):
    return {"w": rng.normal(size=10), "b": np.zeros(())}


def error(params, X, y):
    return X @ params["w"] + params["b"] - y


def loss(params, X, y):
    size = np.abs(error(params, X, y))
    return np.where(size <= FAR, 0.5 * size**2, FAR * (size - 0.5 * FAR)).mean()


def gradient(params, X, y):
    slope = np.clip(error(params, X, y), -FAR, FAR) / len(y)
    return {"w": slope @ X, "b": slope.sum()}


def mean_absolute_error(params, X, y):
    return np.abs(error(params, X, y)).mean()


# %%
# Without a gradient of your own leave `jac` out: finite differences serve for a few dozen parameters; ``jac="jax"`` or
# ``jac="torch"`` differentiate a loss that is written with their functions. The metric is what counts in the end; left
# out, it is the loss.

problem = descend.Problem(
    name="progression",
    summary="progression of diabetes in 442 patients from 10 measures: a line by Huber's loss",
    start=start,
    loss=loss,
    jac=gradient,
    metric=mean_absolute_error,
    metric_name="error",
    **parts,
)

# %%
# Try it
# ------
# A wrong gradient is the most frequent mistake, so check it first. The guard below keeps this part out of
# ``descend compare``, which only wants the definition.

if __name__ == "__main__":
    check = problem.check_gradient()
    print(check)
    assert check.ok

    result = descend.fit(problem, descend.Adam(lr=3.0), epochs=20)
    print(f"mean absolute error on test data: {result.test_metric:.1f}")

    # Small, so that it is quick; the command above uses more learning rates, seeds and gradients.
    table = descend.compare(
        problem,
        learning_rates=[0.01, 0.1, 1.0, 10.0],
        budget=5 * problem.size,
        tuning_seeds=2,
        final_seeds=8,
        jobs=1,
    )
    print(table)
