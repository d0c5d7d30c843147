"""Rules are values: equal, hashable, frozen, picklable; and each describes itself."""

import dataclasses
import pickle
import subprocess
import sys
import textwrap

import pytest
from tests.oracles import naive
from tests.oracles.twins import TABLE

import descend
from descend import rules, schedules
from descend.errors import RuleError

# ---- description -----------------------------------------------------------------------------------------------------


@TABLE
def test_rule_describes_itself(rule):
    """Every rule has a one-line summary, a formula, a paper, and a line and range for each hyperparameter."""
    said = rules.describe(rule)
    assert said.name == rule.name
    assert said.summary.endswith(".")
    assert "\n" not in said.summary
    assert "←" in said.formula
    assert "`" not in said.summary + said.formula + said.notes
    assert not said.formula.startswith((" ", ":"))
    assert any(year in said.paper for year in map(str, range(1800, 2100)))
    assert [h.name for h in said.hyperparameters] == [f.name for f in dataclasses.fields(rule)]
    assert all(h.doc and h.allowed for h in said.hyperparameters)
    assert said.state == rule.state


def test_description_in_parts():
    """What `descend rules adam` prints comes from the class: state, defaults, ranges and notes."""
    said = rules.describe(descend.Adam)
    by_name = {h.name: h for h in said.hyperparameters}
    assert said.state == ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    assert (by_name["betas"].default, by_name["betas"].allowed) == ((0.9, 0.999), "2 numbers, each in [0, 1)")
    assert (by_name["lr"].default, by_name["lr"].allowed) == (0.001, "a finite number ≥ 0")
    assert by_name["amsgrad"].allowed == "True or False"
    assert said.formula.startswith("m ← β₁ · m + (1 − β₁) · g\n")
    assert said.notes.startswith("AMSGrad in Reddi et al.")
    assert said.paper.startswith("Kingma & Ba 2015")


def test_rule_without_docstring_has_no_summary():
    """A rule without a docstring neither takes its parent's nor shows a signature in its place."""

    class Bare(descend.Adam):
        lr: float = 0.5

    assert rules.describe(Bare).summary == ""


# ---- rules are values ------------------------------------------------------------------------------------------------


@TABLE
def test_rules_are_values(rule):
    """Equal hyperparameters make equal rules with equal hashes; a copy through pickle is one of them."""
    cases = [rule(**chosen) for _, chosen in naive.settings(rule)]
    for chosen, one in zip((c for _, c in naive.settings(rule)), cases, strict=True):
        one.row(1)  # whatever it remembers is no part of it
        other = pickle.loads(pickle.dumps(one))
        assert type(other) is rule
        assert one == other == rule(**chosen)
        assert hash(one) == hash(other)
        assert one.row(3) == other.row(3)
    assert len(set(cases)) == len(cases)
    assert rule() != rule(lr=0.25)


@TABLE
def test_rules_are_frozen(rule):
    """A hyperparameter of a rule cannot be changed; `dataclasses.replace` makes another rule, checked again."""
    one = rule()
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.lr = 0.5
    assert dataclasses.replace(one, lr=0.5).lr == 0.5
    with pytest.raises(RuleError, match="lr=-1"):
        dataclasses.replace(one, lr=-1)


def test_rules_of_different_names_differ():
    """Momentum is not equal to the SGD that does the same: its name in a table is another."""
    assert descend.Momentum(lr=0.1) != descend.SGD(lr=0.1, momentum=0.9)


def test_scheduled_rule_pickles_and_compares():
    """descend's schedules are values too, so a rule that follows one pickles, compares and hashes."""
    rule = descend.Adam(
        lr=schedules.Cosine(0.1, steps=9), betas=(schedules.Constant(0.8), 0.9), weight_decay=lambda_free
    )
    other = pickle.loads(pickle.dumps(rule))
    assert rule == other
    assert hash(rule) == hash(other)
    assert rule.row(5) == other.row(5)


def lambda_free(done):
    """A user's own schedule, at module level so that it pickles."""
    return 0.01 * done


def test_rule_of_a_script_travels_by_cloudpickle(tmp_path):
    """A rule defined in ``__main__``, at its top or in a function, arrives whole in another process."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys, cloudpickle, descend

            class Leaky(descend.Rule):
                "A leaky sum."
                lr: float = 0.1
                leak: float = 0.5

                @staticmethod
                def update(p, g, total, s):
                    total = s.leak * total + g
                    return p - s.lr * total, total

            def local():
                class Inner(descend.Rule):
                    @staticmethod
                    def update(p, g, s):
                        return p - s.lr * g
                return Inner

            for made in (Leaky(lr=1.0), local()(lr=0.5), local()(lr=0.25)):
                print(cloudpickle.dumps(made).hex())
            """
        )
    )
    sent = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True).stdout
    received = textwrap.dedent(
        """
        import sys, pickle
        leaky, inner, again = (pickle.loads(bytes.fromhex(line)) for line in sys.stdin.read().split())
        import descend
        print(leaky.state, descend.rules.get("leaky") is type(leaky), descend.rules.describe(type(leaky)).summary)
        print(*(descend.engines.run(rule, 0.0, [1.0, 1.0]) for rule in (leaky, inner, again)))
        """
    )
    printed = subprocess.run(
        [sys.executable, "-c", received], input=sent, capture_output=True, text=True, check=True
    ).stdout
    assert printed.splitlines() == ["('total',) True A leaky sum.", "-2.5 -1.0 -0.5"]
