"""
Your own PyTorch network
========================

A `TorchProblem` is a problem whose parameters are a network's and whose gradient comes from autograd. It is trained and
compared like any other:

.. code-block:: console

   $ descend compare examples/torch_problem.py --rules momentum,adam --lr 0.001,0.01,0.1

Needs PyTorch: ``pip install 'descend[torch]'``.
"""

import torch

import descend

# %%
# The problem
# -----------
# The network is given as something that *makes* one, not as one that is made: each seed has initial weights of its own,
# and every rule starts from the same. Data may be NumPy arrays or tensors; the first array goes into the network, the
# others go to the loss.

X, y = descend.problems.load_arrays("digits")


def network():
    return torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 8, 8)),
        torch.nn.Conv2d(1, 8, kernel_size=3),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(8 * 3 * 3, 10),
    )


def accuracy(output, target):
    return (output.argmax(dim=1) == target).double().mean()


problem = descend.TorchProblem(
    name="digits by convolution",
    model=network,
    loss=torch.nn.functional.cross_entropy,
    metric=accuracy,
    metric_name="accuracy",
    higher_is_better=True,
    data=(X / 16.0, y),
)

# %%
# Train, and take the network back
# --------------------------------
# `fit` works on parameters of its own; ``problem.module(result)`` is a network that holds what it found.

if __name__ == "__main__":
    result = descend.fit(problem, descend.Adam(lr=0.01), epochs=8, keep_best=True)
    print(result.message)
    for evaluation in result.history.evaluations[::2]:
        print(f"epoch {evaluation.epoch:.0f}: validation accuracy {evaluation.validation_metric:.3f}")

    model = problem.module(result)
    with torch.no_grad():
        right = accuracy(model(problem.test[0]), problem.test[1]).item()
    print(f"test accuracy {right:.3f}")
    assert right == result.test_metric
