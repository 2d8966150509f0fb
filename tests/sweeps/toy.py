"""A study that trains in a second, for tests of the whole way."""

from __future__ import annotations

TOY = """
name = "toy"
question = "Does the whole way work?"
seeds = 2

[base.task]
kind = "markov"
states = 8
chains = 4
length = 16
train_size = 0
val_size = 32

[base.model]
width = 8

[base.train]
steps = 30
batch = 4
evaluate_every = 10

[arms.single]
schedule.kind = "single"

[arms.shift]
schedule.kind = "shift"
axes."schedule.switch" = [10, 20]

[[claims]]
text = "SHIFT is not worse"
metric = "final_val_loss"
arm = "shift"
against = "single"
expect = "not worse"
margin = 0.1
"""

DIVERGING = TOY.replace('"single"\n\n[arms.shift]', '"single"\ntrain.lr = 1e3\n\n[arms.shift]').replace(
    "[base.train]\n", '[base.train]\noptimizer = "sgd"\n'
)
"""The same, with an arm whose loss does not stay finite."""

_ONE = TOY.split("[arms.shift]", maxsplit=1)[0]

SOLO = _ONE.replace("seeds = 2", "seeds = 1").replace("steps = 30", "steps = 3000")
"""One trial that takes a second."""

SOUGHT = (
    _ONE.replace('"toy"', '"sought"')
    + """
[search]
kind = "tpe"
trials = 2
batch = 1

[search.space]
"train.lr" = {low = 1e-4, high = 1e-1, log = true}
"""
)
"""One arm whose learning rate is searched: two settings, one after the other."""

TUNED = _ONE.replace('"toy"', '"tuned"') + '\n[nuisance]\n"train.lr" = [1e-3, 1e-2]\n'
"""One arm whose learning rate is tuned on three seeds before it runs on two."""
