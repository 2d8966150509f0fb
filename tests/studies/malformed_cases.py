"""Malformed study files as data: what each gets wrong, and what the one line about it must name.

Each case is a whole file. `key` and `says` are fragments of the same line of the error, beside the file's name.
"""

from __future__ import annotations

import json
from typing import NamedTuple


class Case(NamedTuple):
    """A malformed study."""

    name: str
    text: str
    key: str
    says: str


HEAD = 'name = "bad"\nquestion = "What is wrong here?"\nseeds = 2\n'
ARMS = '[arms.single]\nschedule.kind = "single"\n[arms.looped]\nschedule.kind = "looped"\n'
SEARCH = '[search]\nkind = "random"\ntrials = 4\n'


def _study(tables: str = "", *, head: str = HEAD, arms: str = ARMS) -> str:
    return f"{head}{arms}{tables}"


def _head(**changes: str | None) -> str:
    """The first lines with some keys changed (None: left out)."""
    lines = {"name": '"bad"', "question": '"What is wrong here?"', "seeds": "2"} | changes
    return "".join(f"{key} = {value}\n" for key, value in lines.items() if value is not None)


def _halved(halving: str = "", *, space: str = '"train.lr" = [1e-3, 2e-3]') -> str:
    return _study(f"{SEARCH}[search.space]\n{space}\n[search.halving]\n{halving}\n")


def _claim(**changes: str | None) -> str:
    lines = {
        "text": '"it is lower"',
        "metric": '"final_val_loss"',
        "arm": '"looped"',
        "against": '"single"',
        "expect": '"lower"',
    } | changes
    return "[[claims]]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items() if value is not None)


def _listed(stages: str) -> str:
    """A study whose arms share a list of stages."""
    return f"{HEAD}[base]\nschedule.stages = {stages}\n[arms.narrow]\nmodel.width = 8\n[arms.wide]\n"


def _varied(*lists: str) -> str:
    """A study with an axis over lists of stages."""
    return f'{HEAD}[arms.narrow]\nmodel.width = 8\n[arms.wide]\n[axes]\n"schedule.stages" = [{", ".join(lists)}]\n'


def _measured(metric: str, measure: str, *, at: str | None = None) -> str:
    """A study of 40 steps that claims a metric and measures so."""
    small = "[base.train]\nsteps = 40\nevaluate_every = 20\n"
    claim = _claim(metric=json.dumps(metric), at=at)
    return _study(f"{small}[measure]\n{measure}\n{claim}")


TWO = "[{loops = 1, until = 0.3}, {loops = 2}]"

CASES = [
    # --- TOML itself
    Case("no-toml", "name = ", "", "is not TOML"),
    Case("unclosed-table", "[base.task\n", "", "is not TOML"),
    Case("key-twice", 'name = "a"\nname = "b"\n', "", "is not TOML"),
    Case("table-twice", _study("[axes]\n[axes]\n"), "", "is not TOML"),
    Case("deeply-nested", f"x = {'[' * 5000}{']' * 5000}\n", "", "is not TOML"),
    Case("digits-without-end", f"seeds = {'9' * 5000}\n", "", "is not TOML"),
    Case("beyond-64-bits", _study(head=_head(seeds="0xfffffffffffffffffffff")), "seeds", "must fit in 64 bits"),
    Case("too-long", "#" * (1 << 20) + "\n", "", "must be at most"),
    Case("empty-file", "", "name", "is required"),
    # --- the head
    Case("no-name", _study(head=_head(name=None)), "name", "is required"),
    Case("no-question", _study(head=_head(question=None)), "question", "is required"),
    Case("empty-question", _study(head=_head(question='""')), "question", "must not be empty"),
    Case("name-is-a-number", _study(head=_head(name="3")), "name", "must be a text, got 3"),
    Case("name-is-a-path", _study(head=_head(name='"../escape"')), "name", "must be 1 … 64 letters"),
    Case("name-with-newline", _study(head=_head(name='"a\\nb"')), "name", "must be 1 … 64 letters"),
    Case("name-too-long", _study(head=_head(name=f'"{"a" * 65}"')), "name", "must be 1 … 64 letters"),
    Case("unknown-key", _study(head=HEAD + "sedes = 3\n"), "sedes", "did you mean 'seeds'?"),
    Case("no-seeds", _study(head=_head(seeds="0")), "seeds", "must be 1 …"),
    Case("negative-seed", _study(head=_head(seeds="[1, -1]")), "seeds", "must be integers in 0 …"),
    Case("repeated-seed", _study(head=_head(seeds="[1, 2, 1]")), "seeds", "got 1 twice"),
    Case("empty-seeds", _study(head=_head(seeds="[]")), "seeds", "must list 1 …"),
    Case("fractional-seeds", _study(head=_head(seeds="2.5")), "seeds", "got 2.5"),
    Case("textual-seeds", _study(head=_head(seeds='"five"')), "seeds", "got 'five'"),
    Case("seeds-of-truth", _study(head=_head(seeds="true")), "seeds", "got True"),
    Case("seeds-of-text", _study(head=_head(seeds='[1, "2"]')), "seeds", "got [1, '2']"),
    Case("too-many-seeds", _study(head=_head(seeds="100000000")), "seeds", "must be 1 …"),
    # --- base and arms
    Case("no-arms", HEAD, "arms", "is required"),
    Case("empty-arms", HEAD + "[arms]\n", "arms", "must have at least 1"),
    Case("arm-is-a-number", HEAD + "[arms]\nsingle = 3\n", "arms.single", "must be a table, got 3"),
    Case("arm-name-is-a-path", HEAD + '[arms."../x"]\n', "arms.../x", "must be 1 … 64 letters"),
    Case("unknown-section", _study("[base.modle]\nwidth = 8\n"), "base.modle", "did you mean 'model'?"),
    Case("section-outside-base", _study("[model]\nwidth = 8\n"), "model", "stands in [base.model]"),
    Case("section-is-a-number", _study("[base]\nmodel = 3\n"), "base.model", "must be a table, got 3"),
    Case("measure-in-base", _study("[base.measure]\nevery = 3\n"), "base.measure", "write [measure] at the top level"),
    Case("unknown-term", _study("[base.model]\nwidht = 8\n"), "base.model.widht", "did you mean 'width'?"),
    Case("text-for-integer", _study('[base.model]\nwidth = "8"\n'), "base.model.width", "must be an integer, got '8'"),
    Case("fraction-for-integer", _study("[base.train]\nsteps = 1e3\n"), "base.train.steps", "must be an integer"),
    Case("truth-for-integer", _study("[base.model]\ndepth = true\n"), "base.model.depth", "got True"),
    Case("date-for-number", _study("[base.train]\nlr = 2026-11-23\n"), "base.train.lr", "must be a number"),
    Case("list-for-number", _study("[base.train]\nlr = [1e-3]\n"), "base.train.lr", "must be a number, got [0.001]"),
    Case("not-a-number", _study("[base.train]\nlr = nan\n"), "base.train.lr", "must be a finite number"),
    Case("infinite", _study("[base.train]\nclip = inf\n"), "base.train.clip", "must be a finite number"),
    Case("zero-rate", _study("[base.train]\nlr = 0.0\n"), "base.train.lr", "must be more than 0, got 0.0"),
    Case("negative-steps", _study("[base.train]\nsteps = -5\n"), "base.train.steps", "must be at least 1, got -5"),
    Case(
        "no-such-choice", _study('[base.train]\noptimizer = "adam"\n'), "base.train.optimizer", "did you mean 'adamw'?"
    ),
    Case("no-such-task", _study('[base.task]\nkind = "markow"\n'), "base.task.kind", "did you mean 'markov'?"),
    Case(
        "no-such-task-on-an-axis",
        _study('[axes]\n"task.kind" = ["parity", "cpoy"]\n'),
        "task.kind",
        "did you mean 'copy'?",
    ),
    Case("term-of-another-task", _study("[base.task]\nhops = 3\n"), "base.task.hops", "unknown key"),
    Case(
        "lengths-reversed", _study('[base.task]\nkind = "copy"\ntrain_length = [9, 2]\n'), "train_length", "got [9, 2]"
    ),
    Case(
        "lengths-of-three",
        _study('[base.task]\nkind = "copy"\ntest_length = [1, 2, 3]\n'),
        "base.task.test_length",
        "must be a list of 2, each an integer, got [1, 2, 3]",
    ),
    Case("length-of-zero", _study('[base.task]\nkind = "copy"\ntrain_length = [0, 9]\n'), "train_length", "at least 1"),
    Case(
        "too-many-hops",
        _study('[base.task]\nkind = "p_hop"\nhops = 9\ntest_length = [11, 20]\n'),
        "task.train_length",
        "must begin at hops + 2 = 11 or later",
    ),
    Case(
        "too-few-validation-problems",
        _study('[base.task]\nkind = "copy"\nval_size = 20\n'),
        "task.val_size",
        "at least one problem for each of the 40 test lengths, got 20",
    ),
    Case(
        "too-few-training-problems",
        _study('[base.task]\nkind = "copy"\ntrain_size = 10\n'),
        "task.train_size",
        "at least one problem for each of the 20 training lengths, got 10",
    ),
    Case(
        "too-many-test-lengths",
        _study('[base.task]\nkind = "copy"\ntest_length = [1, 400]\n'),
        "task.test_length",
        "must cover at most 256 lengths, got 400",
    ),
    Case(
        "stratum-of-another-length",
        _study('[base.task]\nkind = "copy"\n' + _claim(metric='"final_val_loss_len_41"')),
        "metric",
        "unknown metric",
    ),
    Case(
        "lengths-are-searched",
        _study(SEARCH + '[search.space]\n"task.train_length" = [[1, 5], [1, 9]]\n'),
        "task.train_length",
        "lists cannot be searched",
    ),
    Case("heads-do-not-divide", _study("[base.model]\nheads = 3\n"), "model.heads", "must divide width = 32"),
    Case("warm-up-too-long", _study("[base.train]\nsteps = 5\nwarmup = 9\n"), "train.warmup", "must be at most steps"),
    Case(
        "unknown-term-of-an-arm",
        _study("[arms.shift]\nschedule.swich = 3\n"),
        "arms.shift.schedule.swich",
        "did you mean 'switch'?",
    ),
    Case("unknown-key-of-an-arm", _study("[arms.x]\nmodell.width = 3\n"), "arms.x.modell", "did you mean 'model'?"),
    Case("quoted-key-in-an-arm", _study('[arms.x]\n"model.width" = 3\n'), "arms.x.model.width", "without the quotes"),
    Case(
        "switch-beyond-the-end",
        _study('[arms.shift]\nschedule.kind = "shift"\nschedule.switch = 9000\n'),
        "arms.shift.schedule.switch",
        "got 9000",
    ),
    Case(
        "matched-to-a-table",
        _study('[arms.x]\nmatch = "flops"\nmatch_to = {}\n'),
        "arms.x.match_to",
        "must be a text, got {}",
    ),
    Case(
        "switch-far-beyond-the-end",
        _study('[arms.shift]\nschedule.kind = "shift"\naxes."schedule.switch" = [0.5, 1e308]\n'),
        "arms.shift.schedule.switch",
        "got 1e+308",
    ),
    # --- stages: one line for each mistake, however many arms share it
    Case("stages-no-list", _listed("3"), "base.schedule.stages:", "must be a list of tables, got 3"),
    Case("stages-one-table", _listed("{loops = 1}"), "base.schedule.stages:", "got one table; write [{…}, {…}]"),
    Case("stages-empty", _listed("[]"), "base.schedule.stages:", "must list at least one table"),
    Case("stages-of-numbers", _listed("[1, {}]"), "base.schedule.stages[1]:", "must be a table of loops, until"),
    Case("stages-unknown-key", _listed("[{lops = 1, until = 5}, {}]"), "stages[1].lops:", "did you mean 'loops'?"),
    Case("stages-text", _listed('[{loops = "1", until = 5}, {}]'), "stages[1].loops:", "must be an integer, got '1'"),
    Case("stages-no-loops", _listed("[{loops = 0, until = 5}, {}]"), "stages[1].loops:", "must be at least 1, got 0"),
    Case("stages-choice", _listed('[{until = 5}, {optimizer = "rest"}]'), "stages[2].optimizer:", "mean 'reset'?"),
    Case("stages-not-finite", _listed("[{until = nan}, {}]"), "stages[1].until:", "must be a finite number"),
    Case("stages-truth", _listed("[{until = true}, {}]"), "stages[1].until:", "got True"),
    Case("stages-64-bits", _listed(f"[{{loops = {2**64}, until = 5}}, {{}}]"), "stages[1].loops:", "fit in 64 bits"),
    Case("stages-no-end", _listed("[{loops = 1}, {loops = 2}]"), "stages[1].until:", "is required"),
    Case("stages-end-of-the-last", _listed("[{until = 0.1}, {until = 0.2}]"), "stages[2].until:", "the last stage"),
    Case("stages-out-of-order", _listed("[{until = 0.5}, {until = 0.4}, {}]"), "base.schedule.stages[2].until", "0.4"),
    Case("stages-beyond-the-end", _listed("[{until = 4000}, {}]"), "base.schedule.stages[1].until", "got 4000"),
    Case(
        "stages-beside-a-kind",
        _study(f'[arms.x.schedule]\nkind = "shift"\nstages = {TWO}\n'),
        "x.schedule.stages",
        "are listed",
    ),
    Case("stages-missing", _study('[arms.x]\nschedule.kind = "stages"\n'), "arms.x.schedule.stages", "is required"),
    Case("stages-kind", _study('[arms.x]\nschedule.kind = "stage"\n'), "arms.x.schedule.kind", "mean 'stages'?"),
    Case("criterion-unknown-key", _listed("[{until = {dleta1 = 0.1}}, {}]"), "[1].until.dleta1:", "mean 'delta1'?"),
    Case("criterion-out-of-range", _listed("[{until = {delta1 = -0.1}}, {}]"), "[1].until.delta1:", "got -0.1"),
    Case("criterion-text", _listed('[{until = {latest = "end"}}, {}]'), "[1].until.latest:", "got 'end'"),
    Case("criterion-choice", _listed('[{until = {criterion = "spc"}}, {}]'), "[1].until.criterion:", "mean 'scp'?"),
    Case("criterion-no-patience", _listed("[{until = {patience = 0}}, {}]"), "[1].until.patience:", "at least 1"),
    Case("criterion-too-late", _listed("[{until = {latest = 4000}}, {}]"), "base.schedule.stages[1].until", "got 4000"),
    Case("criterion-of-the-last", _listed("[{until = {}}]"), "stages[1].until:", "the last stage"),
    Case(
        "criterion-checked-without-end",
        _study(
            "[base.train]\nsteps = 1000000\nevaluate_every = 1000\n"
            '[arms.x.schedule]\nkind = "shift-scp"\ncheck_every = 1\n'
        ),
        "arms.x.schedule.check_every",
        "must give at most 100000 checks",
    ),
    Case("stages-axis-of-tables", _varied("{until = 0.1}", "{}"), 'axes."schedule.stages":', "got one table"),
    Case(
        "stages-axis-key",
        _varied(TWO, "[{until = 0.1, lops = 1}, {}]"),
        '"schedule.stages"[2][1].lops:',
        "mean 'loops'?",
    ),
    Case("stages-axis-criterion", _varied(TWO, "[{until = {delta3 = 1}}, {}]"), "[2][1].until.delta3:", "unknown key"),
    Case("stages-axis-no-end", _varied(TWO, "[{}, {}]"), 'axes."schedule.stages"[2][1].until:', "is required"),
    Case(
        "stages-axis-twice", _varied(TWO, TWO), 'axes."schedule.stages":', '[{"loops":1,"until":0.3},{"loops":2}] twice'
    ),
    Case(
        "stages-axis-beyond-the-end",
        _varied(TWO, "[{until = 4000}, {}]"),
        'axes."schedule.stages": schedule.stages[1].until',
        'got 4000 (with schedule.stages = [{"until":4000},{}])',
    ),
    Case(
        "stages-axis-over-a-kind",
        _study(
            f'[axes]\n"schedule.stages" = [{TWO}, [{{loops = 4}}]]\n', arms='[arms.single]\nschedule.kind = "single"\n'
        ),
        "arms.single.schedule.kind",
        "an axis of this arm over schedule.stages would displace it",
    ),
    Case(
        "kind-axis-over-stages",
        _study('[axes]\n"schedule.kind" = ["grow", "looped"]\n', arms=f"[arms.x]\nschedule.stages = {TWO}\n"),
        "arms.x.schedule.stages",
        "an axis of this arm over schedule.kind would displace it",
    ),
    Case(
        "criterion-axis-idle", _study('[axes]\n"schedule.delta1" = [0.1, 0.2]\n'), "schedule.delta1", "acts on no arm"
    ),
    Case(
        "stages-searched",
        _study(f'{SEARCH}space."schedule.stages" = [{TWO}, [{{loops = 4}}]]\n', arms="[arms.x]\n"),
        'search.space."schedule.stages":',
        "cannot be searched",
    ),
    # --- axes
    Case("axis-is-no-list", _study('[axes]\n"model.loops" = 3\n'), "model.loops", "must be a list of values, got 3"),
    Case("axis-without-quotes", _study("[axes]\nmodel.loops = [2, 3]\n"), "axes", 'in quotes: "model.loops"'),
    Case("empty-axis", _study('[axes]\n"model.loops" = []\n'), "model.loops", "must list 1 …"),
    Case("repeated-value", _study('[axes]\n"model.loops" = [2, 3, 2]\n'), "model.loops", "got 2 twice"),
    Case("repeated-after-conversion", _study('[axes]\n"train.lr" = [1, 1.0]\n'), "train.lr", "got 1.0 twice"),
    Case("unknown-axis", _study('[axes]\n"model.lops" = [2, 3]\n'), "model.lops", "did you mean 'model.loops'?"),
    Case("axis-of-wrong-type", _study('[axes]\n"model.loops" = [2, "3"]\n'), "model.loops", "must be an integer"),
    Case("axis-out-of-range", _study('[axes]\n"train.lr" = [1e-3, -1e-3]\n'), "train.lr", "must be more than 0"),
    Case("axis-not-finite", _study('[axes]\n"train.lr" = [1e-3, inf]\n'), "train.lr", "must be a finite number"),
    Case("axis-of-observation", _study('[axes]\n"train.evaluate_every" = [1, 2]\n'), "evaluate_every", "cannot vary"),
    Case("axis-that-never-acts", _study('[axes]\n"train.momentum" = [0.1, 0.2]\n'), "train.momentum", "acts on no arm"),
    Case(
        "axis-compared-and-tuned",
        _study('[axes]\n"train.lr" = [1e-3, 2e-3]\n[nuisance]\n"train.lr" = [1e-3, 2e-3]\n'),
        "train.lr",
        "stands in [axes] too",
    ),
    Case(
        "axis-in-two-places",
        _study('[axes]\n"model.loops" = [2, 3]\n[arms.x]\naxes."model.loops" = [4, 5]\n'),
        "arms.x.axes",
        "stands in [axes] too",
    ),
    Case(
        "fixed-and-varied",
        _study('[axes]\n"model.loops" = [2, 3]\n[arms.x]\nmodel.loops = 4\n'),
        "arms.x.model.loops",
        "fixed here and varied",
    ),
    Case("axis-breaks-a-rule", _study('[axes]\n"model.heads" = [1, 3]\n'), "model.heads", "must divide width = 32"),
    Case(
        "zip-of-unequal-lists",
        _study('[[axes.zip]]\n"model.loops" = [2, 3]\n"train.lr" = [1e-3]\n'),
        "axes.zip[1]",
        "equally long",
    ),
    Case("zip-is-no-table", _study("[axes]\nzip = [3]\n"), "axes.zip", "write [[axes.zip]]"),
    Case(
        "union-in-union",
        _study('[[axes.union]]\n"model.loops" = [2]\n[[axes.union.union]]\n"model.loops" = [3]\n'),
        "axes.union[1].union",
        "holds no further union",
    ),
    Case(
        "product-and-union",
        _study('[axes]\n"model.loops" = [2]\n[[axes.union]]\n"model.loops" = [3]\n'),
        "axes.union[1]",
        "into the product or into the union",
    ),
    # --- filters
    Case("filter-syntax", _study(head=HEAD + 'where = ["model.loops <"]\n'), "where[1]", "is not an expression"),
    Case("filter-calls", _study(head=HEAD + "where = [\"open('/etc/passwd')\"]\n"), "where[1]", "is not allowed"),
    Case("filter-power", _study(head=HEAD + 'where = ["9 ** 9 ** 9 > 1"]\n'), "where[1]", "is not allowed"),
    Case("filter-dunder", _study(head=HEAD + "where = [\"''.__class__ == 1\"]\n"), "where[1]", "is not a dotted key"),
    Case(
        "filter-unknown-name",
        _study(head=HEAD + 'where = ["model.lops < 3"]\n'),
        "where[1]",
        "did you mean 'model.loops'?",
    ),
    Case("filter-is-a-number", _study(head=HEAD + 'where = ["model.loops"]\n'), "where", "must be true or false"),
    Case("filter-by-zero", _study(head=HEAD + 'where = ["1 / (seed * 0) > 1"]\n'), "where", "cannot be evaluated"),
    Case("filter-of-types", _study(head=HEAD + 'where = ["arm < 3"]\n'), "where", "cannot be evaluated"),
    Case(
        "filter-bomb", _study(head=HEAD + "where = [\"'a' * 999999999 == arm\"]\n"), "where", "arithmetic needs numbers"
    ),
    Case("filter-too-long", _study(head=f'{HEAD}where = ["{"1 + " * 300}1 > 0"]\n'), "where[1]", "must be at most"),
    Case("filter-too-deep", _study(head=f'{HEAD}where = ["{"(1 + " * 90}1{")" * 90} > 0"]\n'), "where[1]", "deep"),
    Case(
        "filter-of-stages", _study(head=HEAD + 'where = ["schedule.stages == 1"]\n'), "where[1]", "cannot be compared"
    ),
    Case("filter-drops-all", _study(head=HEAD + "where = [\"arm != 'single'\"]\n"), "arms.single", "no trial left"),
    Case("filter-is-no-list", _study(head=HEAD + 'where = "model.loops < 3"\n'), "where", "must be a list"),
    # --- nuisance and search
    Case("nuisance-without-axis", _study("[nuisance]\ntune_seeds = 3\n"), "nuisance", "names no axis"),
    Case(
        "nuisance-metric",
        _study('[nuisance]\n"train.lr" = [1e-3, 2e-3]\ntune_metric = "final_val_los"\n'),
        "nuisance.tune_metric",
        "did you mean 'final_val_loss'?",
    ),
    Case(
        "nuisance-seeds",
        _study('[nuisance]\n"train.lr" = [1e-3, 2e-3]\ntune_seeds = 0\n'),
        "nuisance.tune_seeds",
        "must be at least 1, got 0",
    ),
    Case(
        "search-kind",
        _study('[search]\nkind = "hyperband"\ntrials = 4\nspace."train.lr" = [1e-3, 2e-3]\n'),
        "search.kind",
        '"grid", "random", "qmc", "tpe", "gp", "nsga2"',
    ),
    Case(
        "search-without-trials",
        _study('[search]\nkind = "gp"\nspace."train.lr" = [1e-3, 2e-3]\n'),
        "search.trials",
        "is required",
    ),
    Case(
        "search-trials-of-a-grid",
        _study('[search]\nkind = "grid"\ntrials = 4\nspace."train.lr" = [1e-3, 2e-3]\n'),
        "search.trials",
        "has all its points; drop it",
    ),
    Case(
        "search-grid-of-a-range",
        _study('[search]\nkind = "grid"\nspace."train.lr" = {low = 1e-3, high = 1e-2}\n'),
        'search.space."train.lr".points',
        "is required",
    ),
    Case(
        "search-too-many-points",
        _study('[search]\nkind = "grid"\nspace."model.depth" = {low = 1, high = 4, points = 5}\n'),
        'search.space."model.depth".points',
        "at most the 4 whole numbers",
    ),
    Case(
        "search-points-of-no-grid",
        _study(SEARCH + 'space."train.lr" = {low = 1e-3, high = 1e-2, points = 3}\n'),
        'search.space."train.lr".points',
        "drop it",
    ),
    Case(
        "search-generation-of-one",
        _study('[search]\nkind = "nsga2"\ntrials = 4\nbatch = 1\nspace."train.lr" = [1e-3, 2e-3]\n'),
        "search.batch",
        "at least 2 settings",
    ),
    Case(
        "search-metric-and-metrics",
        _study(SEARCH + 'metric = "flops_alone"\nmetrics = ["alone_s"]\nspace."train.lr" = [1e-3, 2e-3]\n'),
        "search.metrics",
        "keep one",
    ),
    Case(
        "search-metric-twice",
        _study(SEARCH + 'metrics = ["alone_s", "alone_s"]\nspace."train.lr" = [1e-3, 2e-3]\n'),
        "search.metrics",
        "drop one",
    ),
    Case(
        "search-metric-without-when",
        _study(SEARCH + 'metrics = ["alone_s", "val_loss"]\nspace."train.lr" = [1e-3, 2e-3]\n'),
        "search.metrics[2]",
        "write final_val_loss or best_val_loss",
    ),
    Case(
        "search-metric-of-chance",
        _study(SEARCH + 'metric = "flops_spent"\nspace."train.lr" = [1e-3, 2e-3]\n'),
        "search.metric",
        "take flops_alone",
    ),
    Case(
        "search-metric-not-measured",
        _study(SEARCH + 'metric = "final_lambda_max"\nspace."train.lr" = [1e-3, 2e-3]\n'),
        "search.metric",
        "add lambda_max to measure.quantities",
    ),
    Case(
        "search-metric-not-at-the-end",
        _study(
            SEARCH
            + 'metric = "final_lambda_max"\nspace."train.lr" = [1e-3, 2e-3]\n'
            + '[measure]\nquantities = ["lambda_max"]\nat = [1]\n'
        ),
        "search.metric",
        "take best_lambda_max",
    ),
    Case(
        "search-metric-of-another-arm",
        _study(
            '[arms.parity]\ntask.kind = "parity"\n'
            + SEARCH
            + 'metric = "final_val_loss_low_ic"\nspace."train.lr" = [1e-3, 2e-3]\n'
        ),
        "search.metric",
        "the tasks of arm parity have no val_loss_low_ic",
    ),
    Case(
        "halving-by-several-metrics",
        _study(
            SEARCH
            + 'metrics = ["final_val_loss", "flops_alone"]\nspace."train.lr" = [1e-3, 2e-3]\n'
            + "[search.halving]\n"
        ),
        "search.halving",
        "ranks settings by one metric",
    ),
    Case(
        "arm-space-without-search",
        _study('[arms.other]\nspace."train.lr" = [1e-3, 2e-3]\n'),
        "arms.other.space",
        "acts only under [search]",
    ),
    Case(
        "arm-space-that-does-not-act",
        _study(
            '[arms.other]\nschedule.kind = "single"\nspace."model.loops" = [2, 3]\n'
            + SEARCH
            + 'space."train.lr" = [1e-3, 2e-3]\n'
        ),
        'arms.other.space."model.loops"',
        "does not act on this arm",
    ),
    Case(
        "arm-space-breaks-a-rule",
        _study('[arms.other]\nspace."model.heads" = [1, 3]\n' + SEARCH + 'space."train.lr" = [1e-3, 2e-3]\n'),
        "arms.other.model.heads",
        "must divide width = 32, got 3",
    ),
    Case("search-without-space", _study(SEARCH), "search.space", "is required"),
    Case("search-empty-space", _study(SEARCH + "space = {}\n"), "search.space", "at least 1"),
    Case(
        "search-range-reversed",
        _study(SEARCH + 'space."train.lr" = {low = 1e-2, high = 1e-3}\n'),
        "train.lr",
        "low must be below high",
    ),
    Case(
        "search-log-of-zero",
        _study(SEARCH + 'space."train.weight_decay" = {low = 0.0, high = 1.0, log = true}\n'),
        "train.weight_decay",
        "begins above 0",
    ),
    Case("search-one-choice", _study(SEARCH + 'space."train.lr" = [1e-3]\n'), "train.lr", "at least 2 choices"),
    Case(
        "search-unknown-key",
        _study(SEARCH + 'space."train.l" = {low = 1e-3, high = 1e-2}\n'),
        "train.l",
        "unknown key",
    ),
    Case(
        "search-breaks-a-rule",
        _study(SEARCH + 'space."model.heads" = {low = 1, high = 4}\n'),
        "model.heads",
        "must divide width = 32, got 3",
    ),
    Case(
        "search-beside-axes",
        _study(SEARCH + 'space."train.lr" = [1e-3, 2e-3]\n[axes]\n"model.loops" = [2, 3]\n'),
        "axes",
        "cannot stand beside [search]",
    ),
    Case("halving-unknown-key", _halved("rung = 3"), "search.halving.rung", "did you mean 'rungs'?"),
    Case("halving-one-rung", _halved("rungs = 1"), "search.halving.rungs", "must be 2 … 20 rungs"),
    Case("halving-rungs-text", _halved('rungs = "3"'), "search.halving.rungs", "must be a number of rungs, or a list"),
    Case("halving-whole-share", _halved("rungs = [0.1, 1.0]"), "search.halving.rungs[2]", "less than 1, or a step"),
    Case("halving-rungs-fall", _halved("rungs = [0.5, 100]"), "search.halving.rungs[1]", "must be before the next one"),
    Case("halving-rung-too-late", _halved("rungs = [3000]"), "search.halving.rungs[1]", "before train.steps = 3,000"),
    Case("halving-factor", _halved("factor = 1"), "search.halving.factor", "must be at least 2, got 1"),
    Case("halving-async-text", _halved('asynchronous = "yes"'), "search.halving.asynchronous", "true or false"),
    Case(
        "halving-cosine",
        _halved(space='"train.lr_schedule" = ["cosine", "wsd"]'),
        "search.halving",
        'take "wsd" or "constant"',
    ),
    Case(
        "halving-steps-searched", _halved(space='"train.steps" = [300, 900]'), 'space."train.steps"', "drop one of them"
    ),
    # --- measure
    Case(
        "unknown-quantity",
        _study('[measure]\nquantities = ["lambda_mox"]\n'),
        "measure.quantities",
        "did you mean 'lambda_max'?",
    ),
    Case("measure-nothing", _study("[measure]\nevery = 10\n"), "measure.quantities", "is required where"),
    Case(
        "measure-never",
        _study('[measure]\nquantities = ["lambda_max"]\nat = [99999]\n'),
        "measure.at",
        "no arm has a step 99999",
    ),
    # --- claims
    Case("claim-unknown-key", _study(_claim(agianst='"x"')), "claims[1].agianst", "did you mean 'against'?"),
    Case("claim-without-text", _study(_claim(text=None)), "claims[1].text", "is required"),
    Case("claim-without-arm", _study(_claim(arm=None)), "claims[1].arm", "is required"),
    Case("claim-unknown-arm", _study(_claim(arm='"loopd"')), "claims[1].arm", "did you mean 'looped'?"),
    Case("claim-unknown-rival", _study(_claim(against='"sngle"')), "claims[1].against", "did you mean 'single'?"),
    Case("claim-against-itself", _study(_claim(against='"looped"')), "claims[1].against", "another arm"),
    Case("claim-against-nothing", _study(_claim(against=None)), "claims[1].against", "got neither"),
    Case("claim-against-both", _study(_claim(value="1.0")), "claims[1].against", "got both"),
    Case(
        "claim-unknown-metric",
        _study(_claim(metric='"final_val_loss_high_id"')),
        "claims[1].metric",
        "did you mean 'val_loss_high_ic'?",
    ),
    Case(
        "claim-on-what-is-spent", _study(_claim(metric='"spent_s"')), "claims[1].metric", "claim flops_alone or alone_s"
    ),
    Case("claim-unknown-functional", _study(_claim(metric='"platau_step(1)"')), "claims[1].metric", "'plateau_step'"),
    Case("claim-functional-arguments", _study(_claim(metric='"force_at()"')), "claims[1].metric", "takes (tau)"),
    Case(
        "test-loops-fall",
        _study('[measure]\nquantities = ["test_loops"]\ntest_loops = [1, 4, 2]\n'),
        "measure.test_loops",
        "must be numbers of loops that ascend, got [1, 4, 2]",
    ),
    Case(
        "test-loops-repeat",
        _study('[measure]\nquantities = ["test_loops"]\ntest_loops = [1, 1]\n'),
        "measure.test_loops",
        "must be numbers of loops that ascend, got [1, 1]",
    ),
    Case(
        "test-loops-none",
        _study('[measure]\nquantities = ["test_loops"]\ntest_loops = []\n'),
        "measure.test_loops",
        "must be numbers of loops that ascend, got []",
    ),
    Case(
        "test-loops-zero",
        _study('[measure]\nquantities = ["test_loops"]\ntest_loops = [0, 1]\n'),
        "measure.test_loops",
        "must be at least 1, got 0",
    ),
    Case(
        "measure-a-column",
        _study('[measure]\nquantities = ["val_loss_loops_8"]\n'),
        "measure.quantities",
        "'val_loss_loops_8' comes with the quantity 'test_loops'; ask for that",
    ),
    Case(
        "claim-loops-not-asked",
        _measured("val_loss_loops_16", 'quantities = ["test_loops"]'),
        "claims[1].metric",
        "val_loss_loops_16 is not measured; add 16 to measure.test_loops",
    ),
    Case(
        "claim-loops-unmeasured",
        _measured("val_loss_loops_8", 'quantities = ["lambda_max"]'),
        "claims[1].metric",
        "val_loss_loops_8 is not measured; add test_loops to measure.quantities",
    ),
    Case(
        "claim-exact-where-every-token-is-predicted",
        _measured("val_exact_loops_8", 'quantities = ["test_loops"]'),
        "claims[1].metric",
        "val_exact_loops_8 is only had of tasks of kind parity, copy,",
    ),
    Case(
        "claim-an-oracle-where-every-token-is-predicted",
        _measured("oracle_loops", 'quantities = ["test_loops"]'),
        "claims[1].metric",
        "oracle_loops is only had of tasks of kind parity, copy,",
    ),
    Case(
        "claim-a-curve",
        _measured("val_accuracy_loops", 'quantities = ["test_loops"]'),
        "claims[1].metric",
        "it is a curve over loops; claim a point of it, as val_accuracy_loops_8",
    ),
    Case("claim-unmeasured", _study(_claim(metric='"lambda_max"')), "claims[1].metric", "to measure.quantities"),
    *(
        Case(
            f"claim-{metric.partition('(')[0]}-without-its-quantity",
            _measured(metric, 'quantities = ["lambda_max"]\nevery = 5'),
            "claims[1].metric",
            f"{metric} needs the quantity {quantity}; add it to measure.quantities",
        )
        for metric, quantity in {
            "force_at(0.01)": "cumulative_force",
            "below_at(0.01)": "eigenvalues_below",
            "kappa_at(0.01)": "kappa_valley",
            "river_share_at(0.01)": "river_share",
            "hopping_at(1)": "valley_hopping",
            "entropy_dip": "entropy",
            "entropy_rise": "entropy",
            "phases_in_order": "entropy",
        }.items()
    ),
    Case(
        "claim-beyond-the-ranks",
        _measured("hopping_at(4)", 'quantities = ["valley_hopping"]\ntop = 3'),
        "claims[1].metric",
        "hopping_at(4) looks beyond measure.top = 3 eigenvectors; raise measure.top to 4",
    ),
    Case(
        "claim-on-one-measurement",
        _measured("entropy_dip", 'quantities = ["entropy"]'),
        "claims[1].metric",
        "entropy_dip needs at least 2 measurements of a trial, got 1 in arm looped, 1 in arm single; "
        "lower measure.every",
    ),
    Case(
        "claim-on-phases-without-room",
        _measured("phases_in_order", 'quantities = ["entropy"]\nevery = 15'),
        "claims[1].metric",
        "phases_in_order needs at least 4 measurements of a trial, got 3",
    ),
    Case(
        "claim-at-the-end-unmeasured",
        _measured("lambda_max", 'quantities = ["lambda_max"]\nevery = 15'),
        "claims[1].metric",
        "no trial of arms looped and single is measured at its last step, 40; the closest is 30: "
        "add 40 to measure.at, or claim at = 30",
    ),
    Case(
        "claim-at-the-end-of-what-is-measured-first",
        _measured("final_lambda_max", 'quantities = ["lambda_max"]\nat = [0]'),
        "claims[1].metric",
        "add 40 to measure.at, or drop `final_` and claim at = 0",
    ),
    Case(
        "claim-at-a-step-unmeasured",
        _measured("lambda_max", 'quantities = ["lambda_max"]\nevery = 15', at="40"),
        "claims[1].at",
        "arm looped is never measured at step 40; the closest is 30",
    ),
    Case(
        "claim-on-an-arm-that-ends-before",
        _study(
            '[measure]\nquantities = ["lambda_max"]\nat = [100]\n' + _claim(metric='"lambda_max"', at='"best"'),
            arms="[arms.single]\ntrain.steps = 40\n[arms.looped]\ntrain.steps = 100\n",
        ),
        "claims[1].metric",
        "lambda_max, and arm single, which ends at step 40, is never measured; add 40 to measure.at",
    ),
    Case("claim-expects-nonsense", _study(_claim(expect='"better"')), "claims[1].expect", "must be one of"),
    Case("claim-without-margin", _study(_claim(expect='"not worse"')), "claims[1].margin", "needs a margin"),
    Case("claim-with-idle-margin", _study(_claim(margin="0.1")), "claims[1].margin", "acts only under"),
    Case(
        "claim-at-no-step", _study(_claim(metric='"val_loss"', at="150")), "claims[1].at", "never evaluated at step 150"
    ),
    Case("claim-at-nonsense", _study(_claim(metric='"val_loss"', at='"end"')), "claims[1].at", "must be a step"),
    Case("claim-at-twice", _study(_claim(at='"best"')), "claims[1].at", "says already when"),
    Case("claim-twice", _study(_claim() * 2), "claims[2].text", "stands already in claims[1]"),
    Case("claim-value-not-finite", _study(_claim(against=None, value="nan")), "claims[1].value", "finite number"),
    Case("claim-of-no-parts", _study(_claim(all="[]")), "claims[1].all", "at least 1"),
    Case(
        "claim-part-unknown-arm",
        _study(_claim(arm=None, all='[{arm = "looped"}, {arm = "twice"}]')),
        "claims[1].all[2].arm",
        "no such arm",
    ),
    Case(
        "claim-each-no-axis",
        _study(_claim(each='"model.loops"')),
        "claims[1].each",
        "must be an axis of looped or single, got 'model.loops'; they have none",
    ),
    Case(
        "claim-along-a-slip",
        _study('[axes]\n"model.loops" = [2, 3]\n' + _claim(along='"model.lops"')),
        "claims[1].along",
        "did you mean 'model.loops'?",
    ),
    Case(
        "claim-along-one-value",
        _study('[axes]\n"model.loops" = [2, 3]\n' + _claim(along='"model.loops"', where='"model.loops > 2"')),
        "claims[1].along",
        "at least two values here, got 'model.loops' with one",
    ),
    Case(
        "claim-along-no-value",
        _study('[axes]\n"model.loops" = [2, 3]\n' + _claim(along='"model.loops"', where='"model.loops > 3"')),
        "claims[1].along",
        "`where` drops all of its values",
    ),
    Case(
        "claim-along-each",
        _study('[axes]\n"model.loops" = [2, 3]\n' + _claim(along='"model.loops"', each='"model.loops"')),
        "claims[1].along",
        "must be another axis than `each`",
    ),
    Case(
        "claim-along-parts",
        _study(
            '[axes]\n"model.loops" = [2, 3]\n'
            + _claim(along='"model.loops"', all='[{metric = "val_loss"}, {metric = "val_accuracy"}]')
        ),
        "claims[1].along",
        "`all` has no place beside it",
    ),
    Case(
        "claim-along-stages",
        _varied("[{until = 10}, {}]", "[{until = 20}, {}]")
        + _claim(arm='"narrow"', against='"wide"', along='"schedule.stages"'),
        "claims[1].along",
        "must be an axis of numbers, texts or booleans",
    ),
    Case(
        "claim-along-nothing-in-common",
        _study(
            _claim(along='"model.loops"'),
            arms='[arms.single]\naxes."model.loops" = [2]\n[arms.looped]\naxes."model.loops" = [3, 4]\n',
        ),
        "claims[1].along",
        "the arms have no value of it in common",
    ),
    Case(
        "claim-each-of-too-many",
        _study(f'[axes]\n"train.clip" = {[1 + i / 1000 for i in range(1001)]}\n' + _claim(each='"train.clip"')),
        "claims[1].each",
        "must be at most 1000 values, got 1001",
    ),
    Case("claim-each-no-text", _study(_claim(each="3")), "claims[1].each", "must be a text, got 3"),
    Case("claims-are-no-list", _study("[claims]\nx = 1\n"), "claims", "must be a list"),
    Case(
        "rows-without-end",
        _study("[base.train]\nsteps = 1000000000\nevaluate_every = 1\n"),
        "train.evaluate_every",
        "must give at most 100000 evaluations",
    ),
    Case(
        "measurements-without-end",
        _study(
            "[base.train]\nsteps = 1000000000\nevaluate_every = 10000000\n"
            '[measure]\nquantities = ["lambda_max"]\nevery = 1\n'
        ),
        "measure.every",
        "must give at most 100000 measurements",
    ),
    Case("terminal-escapes", _study('[base.model]\n"\\u001b[31mwidth" = 3\n'), "\\x1b[31mwidth", "unknown key"),
]
"""At least sixty; names are unique. Those of stages and criteria give one line each."""
