"""
Gradient descent, step by step
==============================

From a loop written by hand to Adam: what each technique does, why they differ, and how to find out which one serves a
problem. Everything here runs in seconds. The figures that the text claims are asserted in the code, so this page
cannot be built with wrong ones.
"""

import dataclasses
import math

import numpy as np
import plotly.graph_objects as go
import torch

import descend

# %%
# One parameter
# -------------
# The loss is J(θ) = (θ − 3)². It is lowest at θ = 3. Its gradient, 2 (θ − 3), says how fast J grows with θ: downhill is
# against it.


def loss(theta):
    return (theta - 3) ** 2


def gradient(theta):
    return 2 * (theta - 3)


# %%
# Gradient descent is four things: initialise, take the gradient, make a step, repeat until it has converged or a number
# of steps is done. The loss before each step is kept, to see what happened.


def gradient_descent(theta, lr, steps, tolerance=0.0):
    losses = []
    for _ in range(steps):
        g = gradient(theta)
        if abs(g) <= tolerance:
            break
        losses.append(loss(theta))
        theta = theta - lr * g
    return theta, losses


theta, losses = gradient_descent(0.0, lr=0.1, steps=100)
print(f"theta {theta!r}, {len(losses)} losses, before {losses[0]}, after {loss(theta):.3g}")
assert theta == 2.9999999993888893
assert len(losses) == 100
assert losses[0] == 9.0

# %%
# The same with descend, to the last digit. A rule says what a step is; `minimize` is the loop.

result = descend.minimize(loss, 0.0, jac=gradient, method=descend.GD(lr=0.1), max_steps=100)
print(result)
assert result.x == theta
assert list(result.history.loss) == losses
assert result.fun == loss(theta)

# %%
# With a tolerance in place of a number of steps, the descent ends when the gradient is small enough, and says so.

stopped = descend.minimize(loss, 0.0, jac=gradient, method=descend.GD(lr=0.1), gtol=1e-6)
print(stopped.message)
assert stopped.success
assert stopped.x == gradient_descent(0.0, lr=0.1, steps=1000, tolerance=1e-6)[0]

# %%
# The learning rate
# -----------------
# A step multiplies the distance to 3 by 1 − 2 · lr. Below lr = 0.5 the distance shrinks from one side; between 0.5 and
# 1 each step overshoots, and still comes closer; above 1 it leads further away than it began.

rates = {
    f"lr {lr}": descend.minimize(loss, 0.0, jac=gradient, method=descend.GD(lr), max_steps=25)
    for lr in (0.01, 0.1, 0.8, 1.05)
}
assert rates["lr 1.05"].x == 0.0, "the best point that was seen is the start"
descend.plots.loss(rates)

# %%
# (In a notebook, the last line of a cell shows the figure; in a script, ``.show()`` opens it.)
#
# Adam on the same function
# -------------------------
# Adam with lr = 0.01 is far from 3 after 100 steps. Nothing is wrong with it: Adam divides the gradient by its own
# running size, so a step is about lr long, however steep the slope. A hundred steps of about 0.01 lead to about 1.

hundredth = descend.Adam(lr=0.01)
adam = descend.minimize(loss, 0.0, jac=gradient, method=hundredth, max_steps=100)
print(f"theta {adam.x!r}, loss before {adam.history.loss[0]}, after {adam.fun:.4f}")
assert adam.x == 0.9375536000235248
assert math.isclose(adam.fun, 4.253, abs_tol=1e-3)

# %%
# A float32 start gives a float32 descent, which agrees in the first six digits.

adam32 = descend.minimize(loss, np.float32(0.0), jac=gradient, method=hundredth, max_steps=100)
print(type(adam32.x).__name__, float(adam32.x))
assert adam32.x.dtype == np.float32
assert abs(float(adam32.x) - 0.9375530481338501) < 2e-7

# %%
# The start may be a PyTorch tensor and the loss a PyTorch function, here ``MSELoss``. Autograd supplies the gradient.

mse = torch.nn.MSELoss()
zero, three = torch.tensor([0.0]), torch.tensor([3.0])
adam_torch = descend.minimize(lambda x: mse(x, three), zero, method=hundredth, max_steps=100)
print(adam_torch.x, adam_torch.x.item())
assert abs(adam_torch.x.item() - 0.9375530481338501) < 2e-7

# %%
# Batch, stochastic, mini-batch
# -----------------------------
# With data, the loss is a mean over examples, and its gradient costs one evaluation for each. Batch gradient descent
# pays for all of them before every step. Stochastic gradient descent (SGD) steps after each example, along a gradient
# that is right only on average. Mini-batches are in between. It is one rule, given three sorts of gradient.
#
# The problem: 1,078 images of handwritten digits to learn from, and a network with one hidden layer.

digits = descend.problems.load("digits")
rule = descend.GD(lr=0.1)
sizes = {
    "SGD": descend.fit(digits, rule, batch_size=1, epochs=5),
    "Mini-batch": descend.fit(digits, rule, batch_size=32, epochs=5),
    "Batch GD": descend.fit(digits, rule, batch_size="full", epochs=5),
}
for name, run in sizes.items():
    looks = run.history.evaluations
    before, after = looks[0].validation_loss, looks[-1].validation_loss
    losses = f"validation loss {before:.2f} → {after:.2f}"
    print(f"{name:10} {run.nit:5} steps, {losses}, test accuracy {run.test_metric:.3f}")
assert [run.nit for run in sizes.values()] == [5390, 170, 5]
assert all(run.examples == 5390 for run in sizes.values())

# %%
# Each has evaluated 5,390 gradients. Batch GD made five good steps of them; SGD made 5,390 rough ones. This is what
# each saw as the loss of its own batch, in the first 170 steps:

figure = descend.plots.loss(sizes)
figure.update_xaxes(range=[0, 170])
figure.update_yaxes(type="linear", range=[0, 5], tickmode="auto")

# %%
# To compare them, look at the same data at the same cost: the loss on validation data, once an epoch.

figure = go.Figure(layout={"template": "simple_white", "height": 420, "margin": {"t": 12}})
figure.update_layout(xaxis_title="Examples seen", yaxis_title="Validation loss")
for i, (name, run) in enumerate(sizes.items()):
    looks, look = run.history.evaluations, descend.plots.style(i)
    figure.add_scatter(
        x=[e.examples for e in looks],
        y=[e.validation_loss for e in looks],
        name=name,
        line={"color": look.colour, "dash": look.dash},
        marker={"symbol": look.marker},
    )
figure

# %%
# At this learning rate. A larger one would help Batch GD most and SGD least, and a fair answer needs one chosen for
# each: see the end of this page.
#
# Momentum, Adagrad, RMSprop, Adam
# --------------------------------
# A narrow valley shows what they are for: f(x, y) = ½ (x² + 50 y²), started at (−4, 1). The steep direction forbids a
# large learning rate; the flat one then takes for ever.


def ravine(angle):
    """The valley, turned by an angle: function, gradient, start."""
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    hessian = turn @ np.diag([1.0, 50.0]) @ turn.T
    return lambda p: 0.5 * p @ hessian @ p, lambda p: hessian @ p, turn @ [-4.0, 1.0]


rules = {
    "GD": descend.GD(lr=0.03),
    "Momentum": descend.Momentum(lr=0.01),
    "Adagrad": descend.Adagrad(lr=1.0),
    "RMSprop": descend.RMSprop(lr=0.1),
    "Adam": descend.Adam(lr=0.3),
}


def walk(angle):
    function, slope, start = ravine(angle)
    return {
        name: descend.minimize(
            function,
            start,
            jac=slope,
            method=rule,
            max_steps=60,
            history="path",
        )
        for name, rule in rules.items()
    }


straight = walk(0.0)
descend.plots.path(ravine(0.0)[0], straight)

# %%
# - *GD* leaps from side to side, and creeps along.
# - *Momentum* keeps 0.9 of its last velocity. The leaps to and fro cancel, the steps along the valley add up. It pays
#   by rolling past the minimum.
# - *Adagrad* divides each parameter's gradient by the root of the sum of its squares so far, so that both directions
#   are walked at the same pace. The sum only grows, and the steps only shrink.
# - *RMSprop* forgets old gradients: a running mean of squares takes the place of the sum. Steps stay about lr long,
#   close to the minimum too, where they are too long.
# - *Adam* has both: momentum, and RMSprop's scale. Both averages start at zero and are corrected for that.
#
# The losses:

descend.plots.loss(straight)

# %%
# How many steps does each need to come below 0.001, with the best of eight learning rates? And if the valley does not
# lie along an axis?

grid = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0]


def steps_needed(rule, angle):
    function, slope, start = ravine(angle)
    runs = [
        descend.minimize(
            function,
            start,
            jac=slope,
            method=dataclasses.replace(rule, lr=lr),
            target=1e-3,
            max_steps=1000,
        )
        for lr in grid
    ]
    return min((run.nit for run in runs if run.success), default=None)


needed = {
    name: [steps_needed(rule, angle) for angle in (0.0, math.pi / 4)]  # along an axis, turned
    for name, rule in rules.items()
}
print(f"{'':10}{'along an axis':>15}{'turned by 45°':>15}")
for name, (along, turned) in needed.items():
    print(f"{name:10}{along:15}{turned:15}")

for name in ("GD", "Momentum"):
    assert needed[name][0] == needed[name][1], "the same path, turned"
for name in ("Adagrad", "RMSprop", "Adam"):
    assert needed[name][0] < needed[name][1], "a scale for each parameter helps along the axes"

# %%
# GD and Momentum do not notice the turn. Adagrad, RMSprop and Adam scale each parameter by itself, which straightens a
# valley that lies along an axis, and hardly one that does not. None of them is best for everything.

descend.plots.path(ravine(math.pi / 4)[0], walk(math.pi / 4))

# %%
# The same in PyTorch
# -------------------
# These are the rules of ``torch.optim``, with the same names for hyperparameters. Adam on the one parameter, as PyTorch
# spells it:

theta = torch.zeros(1, dtype=torch.float64, requires_grad=True)
optimizer = torch.optim.Adam([theta], lr=0.01)
for _ in range(100):
    optimizer.zero_grad()
    J = mse(theta, three.double())
    J.backward()
    optimizer.step()
print(f"torch.optim {theta.item()!r}, descend {adam.x!r}")
assert abs(theta.item() - adam.x) < 1e-12

# %%
# All five on the turned valley, in float64: both walk the same path, but for rounding.

pairs = {
    "SGD": (descend.SGD(lr=0.03), torch.optim.SGD, {"lr": 0.03}),
    "Momentum": (descend.Momentum(lr=0.01), torch.optim.SGD, {"lr": 0.01, "momentum": 0.9}),
    "Adagrad": (descend.Adagrad(lr=1.0), torch.optim.Adagrad, {"lr": 1.0}),
    "RMSprop": (descend.RMSprop(lr=0.1), torch.optim.RMSprop, {"lr": 0.1}),
    "Adam": (descend.Adam(lr=0.3), torch.optim.Adam, {"lr": 0.3}),
}
function, slope, start = ravine(math.pi / 4)
for name, (rule, optimizer, options) in pairs.items():
    ours = descend.minimize(function, start, jac=slope, method=rule, max_steps=100).x_last

    p = torch.tensor(start, requires_grad=True)
    theirs = optimizer([p], **options)
    for _ in range(100):
        p.grad = torch.from_numpy(slope(p.detach().numpy()))
        theirs.step()

    apart = np.abs(ours - p.detach().numpy()).max()
    print(f"{name:10} {ours}  apart {apart:.1e}")
    assert apart < 1e-12

# %%
# Which one, then?
# ----------------
# That is an experiment, and `compare` makes it: the same learning rates tried for every technique, the same seeds, the
# same number of gradients, the winner of each judged again on fresh seeds. This one is small; left to its defaults it
# has 11 learning rates and takes about two minutes on two cores.

table = descend.compare(
    digits,
    learning_rates=[0.001, 0.01, 0.1, 1.0],
    budget=3 * digits.size,
    tuning_seeds=2,
    final_seeds=10,
    jobs=1,
)
print(table)

# %%
# The sentence on top is the answer, as far as these seeds can tell: techniques "with no clear difference" may be equal,
# and a larger experiment could tell them apart or turn the order round. :doc:`/comparing` says how to read it all.

descend.plots.curves(table)

# %%
# And how much the learning rate matters to each:

descend.plots.sensitivity(table)
