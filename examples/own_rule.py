"""
Your own rule
=============

A rule is a class: its hyperparameters, and one formula. Here is Signum (Bernstein et al. 2018), which steps by the sign
of a momentum, written from its paper. Nothing in the package changes, and the rule can do what every other rule can.
"""

import descend
from descend.rules import maths

# %%
# The rule
# --------
# Algorithm 2 of the paper averages the gradient, and steps by the average's sign. The names between ``g`` and ``s`` in
# the signature of `update` are the state, here the average; ``s`` holds the hyperparameters. Weight decay, of either
# kind, every rule has.


class Signum(descend.Rule):
    """Signum: every parameter moves by lr, in the direction of the sign of a momentum."""

    lr: float = descend.hyper(default=1e-4, doc="learning rate: the length of a step", at_least=0)
    momentum: float = descend.hyper(default=0.9, doc="share of the average that is kept", at_least=0, below=1)
    paper = "Bernstein et al. 2018, algorithm 2 (arxiv.org/abs/1802.04434)"

    def update(p, g, exp_avg, s):  # noqa: N805
        exp_avg = s.momentum * exp_avg + (1 - s.momentum) * g
        return p - s.lr * maths.sign(exp_avg), exp_avg


# %%
# That is all. The class is checked and registered when it is defined, so its name works wherever a rule is asked for,
# and a hyperparameter out of range is refused.

print(descend.rules.get("signum")(lr=0.1))
try:
    Signum(momentum=1.0)
except descend.errors.RuleError as error:
    print(error)

# %%
# Minimise a function
# -------------------
# The first step, by hand: the average starts at zero, so the direction is the sign of the gradient, −6, and the
# parameter moves by lr towards 3.


def loss(x):
    return (x - 3) ** 2


def slope(x):
    return 2 * (x - 3)


one = descend.minimize(loss, 0.0, jac=slope, method=Signum(lr=0.1), max_steps=1)
assert one.x == 0.1

# %%
# A sign never grows small, so Signum goes to and fro about a minimum unless its learning rate shrinks. Any number of
# any rule may be a schedule:

steady = descend.minimize(loss, 0.0, jac=slope, method=Signum(lr=0.07), max_steps=400)
cooling = descend.schedules.Cosine(0.07, steps=400)
cooled = descend.minimize(loss, 0.0, jac=slope, method=Signum(lr=cooling), max_steps=400)
print(f"lr 0.07: {steady.x_last:.4f}, cooled: {cooled.x_last:.4f}")
assert abs(cooled.x_last - 3) < abs(steady.x_last - 3)

# %%
# Train on data
# -------------

problem = descend.problems.load("breast-cancer")
result = descend.fit(problem, Signum(lr=0.01), epochs=10)
print(f"test accuracy {result.test_metric:.3f}")
assert result.test_metric > 0.9

# %%
# Does it beat the others?
# ------------------------
# Every rule gets the same learning rates, the same seeds and the same number of gradients. This comparison is small so
# that it is quick; a serious one leaves the learning rates, budget and seeds at their defaults.

table = descend.compare(
    problem,
    [Signum, descend.Momentum, descend.Adam],
    learning_rates=[0.001, 0.01, 0.1, 1.0, 10.0],
    budget=5 * problem.size,
    tuning_seeds=2,
    final_seeds=8,
    jobs=1,
)
print(table)
assert {row.label for row in table.rows} == {"Signum", "Momentum", "Adam"}
