"""The registry: how a rule is found, and how a class becomes one."""

import subprocess
import sys

import pytest
from tests.oracles.twins import TABLE

import descend
from descend import rules, schedules
from descend.errors import RuleError
from descend.rules import maths


@TABLE
def test_names_are_found_in_any_spelling(rule):
    """Case, hyphens, underscores and spaces around do not matter, and the class itself is at descend's top."""
    name = rule.__name__
    assert getattr(descend, name) is rule
    for spelling in (name, name.lower(), name.upper(), f" {name} ", f"{name[:2]}-{name[2:]}", f"{name[:2]}_{name[2:]}"):
        assert rules.get(spelling) is rule


def test_unknown_name_is_answered_with_the_nearest():
    """A misspelt rule gets the one that was meant, and all that there are."""
    with pytest.raises(RuleError, match=r"unknown rule 'adamm': did you mean 'adam'\? Known: adabelief, adadelta, ad"):
        rules.get("adamm")


def test_name_like_no_other_is_answered_with_all():
    """A name that resembles none gets the list, and no wild guess."""
    with pytest.raises(RuleError, match=r"unknown rule 'xyzzy': Known: adabelief") as caught:
        rules.get("xyzzy")
    assert "did you mean" not in str(caught.value)


def test_resolve_takes_a_rule_a_class_or_a_name():
    """Wherever a rule is wanted, its class or name stands for its defaults; anything else is refused with advice."""
    rule = descend.Adam(lr=0.5)
    assert rules.resolve(rule) is rule
    assert rules.resolve(descend.Adam) == rules.resolve("ADAM") == descend.Adam()
    for wrong in (3, None, object, [descend.Adam()]):
        with pytest.raises(RuleError, match=r"is not a rule: pass one such as descend\.Adam\(lr=1e-3\)"):
            rules.resolve(wrong)


def test_all_is_alphabetical_and_a_copy():
    """`all` lists rules in order; changing what it returns changes nothing."""
    names = list(rules.all())
    assert names == sorted(names)
    rules.all().clear()
    assert list(rules.all()) == names


def test_ten_lines_make_a_rule():
    """A user's subclass is registered, minimises, has state, weight decay, maximize, schedules and a description."""

    class Signum(descend.Rule):
        """Step by the sign of the momentum."""

        lr: float = 0.01
        beta: float = descend.hyper(default=0.9, doc="share of the velocity kept", at_least=0, below=1)

        @staticmethod
        def update(p, g, velocity, s):
            velocity = s.beta * velocity + (1.0 - s.beta) * g
            return p - s.lr * maths.sign(velocity), velocity

    assert rules.get("signum") is Signum
    assert Signum.state == ("velocity",)
    result = descend.minimize(lambda x: (x - 1.0) ** 2, 0.0, jac=lambda x: 2 * (x - 1.0), method="signum", max_steps=50)
    assert result.x_last == pytest.approx(0.5)
    climbed = descend.engines.run(Signum(lr=0.5, maximize=True), 2.0, [3.0])
    shrunk = descend.engines.run(Signum(lr=0.5, weight_decay=0.1, decoupled_weight_decay=True), 2.0, [3.0])
    scheduled = descend.engines.run(Signum(lr=schedules.StepDecay(0.5, every=1)), 2.0, [3.0, 3.0])
    assert (climbed, shrunk, scheduled) == pytest.approx((2.5, 1.4, 1.45))
    with pytest.raises(RuleError, match=r"Signum\(beta=1\.0\): beta must lie in \[0, 1\); try 0\.9"):
        Signum(beta=1.0)
    with pytest.raises(RuleError, match=r"Signum\(lr=-1\): lr must be a finite number ≥ 0; try 0\.01"):
        Signum(lr=-1)
    assert rules.describe(Signum).summary == "Step by the sign of the momentum."


def test_update_may_be_written_as_a_plain_function():
    """Forgetting `@staticmethod` makes no difference, and a rule without state may return `p` alone."""

    class Plain(descend.Rule):
        def update(p, g, s):  # noqa: N805
            return p - s.lr * g

    assert descend.engines.run(Plain(lr=0.5), 1.0, [1.0]) == 0.5


def test_own_initial_and_conditional_state():
    """A user's rule may start state elsewhere than at zero, and drop it when a hyperparameter is off."""

    class Counting(descend.Rule):
        lr: float = 1.0
        shift: float = 0.0
        state_if = {"total": "shift"}  # noqa: RUF012

        def initial(self, state):
            return {"total": 10.0}[state]

        @staticmethod
        def update(p, g, total, s):
            if total is not None:
                total = total + g
                g = g + s.shift * total
            return p - s.lr * g, total

    assert Counting().kept_state() == ()
    assert Counting(shift=1.0).kept_state() == ("total",)
    assert descend.engines.run(Counting(), 0.0, [1.0]) == -1.0
    assert descend.engines.run(Counting(shift=1.0), 0.0, [1.0]) == -12.0


def test_underscore_in_a_class_name():
    """A rule whose class name has an underscore is found by that name, as in every other spelling."""

    class Sign_Descent(descend.Rule):  # noqa: N801
        @staticmethod
        def update(p, g, s):
            return p - s.lr * maths.sign(g)

    for spelling in ("Sign_Descent", "sign_descent", "signdescent", "sign-descent"):
        assert rules.get(spelling) is Sign_Descent


def test_a_name_that_is_shipped_too_means_the_users_rule(caplog):
    """A script's rule keeps its name when a later descend ships another; that one has a name of its own. It is said."""
    shipped = descend.Adam

    class Adam(descend.Rule):
        @staticmethod
        def update(p, g, s):
            return p - s.lr * g

    assert rules.get("adam") is rules.get("ADAM") is rules.all()["adam"] is Adam
    assert rules.get("descend.adam") is rules.get("descend.Adam") is shipped is descend.Adam
    assert [r.getMessage() for r in caplog.records] == [
        f"the name 'adam' means {__name__}.{Adam.__qualname__} from here on; the rule of that name that descend ships "
        "is 'descend.adam'"
    ]
    found = descend.minimize(lambda x: x**2, 1.0, jac=lambda x: 2 * x, method="adam", max_steps=1)
    assert isinstance(found.method, Adam)
    with pytest.raises(RuleError, match=r"unknown rule 'descend\.xyzzy'"):
        rules.get("descend.xyzzy")
    table = descend.compare(
        "booth", ["adam", "descend.adam"], learning_rates=[0.1], budget=20, tuning_seeds=1, final_seeds=6,
        target="none", untuned=False, jobs=1,
    )  # fmt: skip
    assert {row.label: type(table.plan.entries[row.entry].rule) for row in table.rows} == {
        "Adam": Adam,
        "descend.Adam": shipped,
    }
    script = "import descend\nclass Adam(descend.Adam): pass\nprint(descend.optim.Adam.__name__, Adam().lr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "Adam 0.001\n"
    assert done.stderr.startswith("the name 'adam' means __main__.Adam from here on")


def test_a_rule_may_have_the_name_of_a_shipped_method():
    """The user's rule is what the name means, and a method of the user's comes before what is an alias now."""

    class LBFGS(descend.Rule):
        @staticmethod
        def update(p, g, s):
            return p - s.lr * g

    found = descend.minimize(lambda x: x**2, 1.0, jac=lambda x: 2 * x, method="lbfgs", max_steps=1)
    assert isinstance(found.method, LBFGS)
    assert descend.methods.known("lbfgs") is descend.LBFGS


def test_taken_name_in_the_same_module_is_refused():
    """Two classes of one name in different places of a module are two rules: the second is refused."""

    def one():
        class Twin(descend.Rule):
            @staticmethod
            def update(p, g, s):
                return p - s.lr * g

        return Twin

    def other():
        class Twin(descend.Rule):
            @staticmethod
            def update(p, g, s):
                return p + s.lr * g

        return Twin

    first = one()
    with pytest.raises(RuleError, match=r"'twin' exists already \(.*one\.<locals>\.Twin\)"):
        other()
    assert rules.get("twin") is first


def test_register_false_keeps_a_rule_out():
    """``register=False`` makes a rule that works and has no name in the registry."""

    class Adam(descend.Rule, register=False):
        @staticmethod
        def update(p, g, s):
            return p - s.lr * g

    assert rules.get("adam") is descend.Adam
    assert descend.engines.run(Adam(lr=0.5), 1.0, [1.0]) == 0.5


def test_same_class_may_be_defined_again():
    """A notebook cell that is run twice replaces its rule."""

    def cell(factor):
        class Twice(descend.Rule):
            @staticmethod
            def update(p, g, s):
                return p - factor * s.lr * g

        return Twice

    cell(1.0)
    second = cell(2.0)
    assert rules.get("twice") is second
    assert descend.engines.run(rules.get("twice")(lr=0.5), 1.0, [1.0]) == 0.0


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("adma", "adam"), ("amda", "adam"), ("adn", "adan"), ("mom", "momentum"), ("sdg", "sgd"),
        ("nestrov", "nesterov"), ("rmspop", "rmsprop"), ("lino", "lion"), ("RPRPO", "rprop"), ("adagard", "adagrad"),
    ],
)  # fmt: skip
def test_slips_of_the_keyboard_are_understood(wrong, meant):
    """Letters that are swapped, left out, put in or mistaken: the rule that was meant, of several that are close."""
    with pytest.raises(RuleError, match=f"unknown rule '{wrong}': did you mean '{meant}'"):
        rules.get(wrong)


@pytest.mark.parametrize(
    ("update", "shown"),
    [
        pytest.param(lambda g, p, s: p, "update(g, p, s)", id="swapped"),
        pytest.param(lambda p, g: p, "update(p, g)", id="no_scalars"),
        pytest.param(lambda p, g, s, m: p, "update(p, g, s, m)", id="scalars_not_last"),
        pytest.param(lambda self, p, g, s: p, "update(self, p, g, s)", id="self"),
    ],
)
def test_malformed_update_is_refused(update, shown):
    """An `update` with other parameters than p, g, state, s is refused when the class is made, and not registered."""
    before = rules.all()
    with pytest.raises(RuleError) as caught:
        type("Malformed", (descend.Rule,), {"update": staticmethod(update)})
    assert str(caught.value).startswith(f"Malformed.{shown}: the parameters must be p, g, ")
    assert rules.all() == before
    with pytest.raises(RuleError, match="unknown rule"):
        rules.get("malformed")


def test_rule_without_update_is_refused():
    """A rule that has no formula cannot be made; the message gives the signature to write."""

    class Empty(descend.Rule):
        lr: float = 0.1

    with pytest.raises(RuleError, match=r"Empty has no update\(p, g, <state …>, s\): define it as a staticmethod"):
        Empty()


def test_rule_itself_is_no_rule():
    """`Rule` is what rules derive from; it is not registered and cannot be made."""
    assert "rule" not in rules.all()
    with pytest.raises(RuleError, match="Rule has no update"):
        descend.Rule(lr=0.1)


def test_a_common_base_without_a_formula_is_no_rule():
    """A class that only others are made from is not listed."""

    class Base(descend.Rule):
        """What two rules share."""

    class Child(Base):
        """One of them."""

        @staticmethod
        def update(p, g, s):
            return p - s.lr * g

    assert "base" not in descend.rules.all()
    assert descend.rules.get("child") is Child
