"""From where on the doctor calls something sick.

Found on the runs of set A of `benchmarks/doctor_cases.py`, which lie far on either side of each,
and judged by those of set B and by the healthy ones. What a number is otherwise known from is said
beside it.
"""

# ── gradients ───────────────────────────────────────────────────────────────────────────────────

VANISHED = 1e-3
"""A layer's gradient norm as a share of the output layer's, in the median epoch.

Healthy ReLU networks on torch's initialisation have 3 to 5 %, eight layers of sigmoid 2e-6."""
VANISHED_AT_FIRST = 1e-2
"""The same at the first step."""
NO_GRADIENT = 1e-4
"""Norm of all gradients at the first step: values that vanish on their way to the output leave
none to any layer. A hundredth of the smallest of healthy runs."""
STILL = 1e-2
"""The same of update / weight: an optimizer that rescales gradients, as Adam, keeps it near 1."""
EXPLODED = 100.0
"""Norm of all gradients: that of a well scaled network is of the order of 1 at its first step."""
SPIKE = 100.0
"""Largest norm of a step as a multiple of the usual one, where nothing was learned after it."""
LEAPING = 0.5
"""Update / weight of the first step that explains a divergence by the learning rate alone: half of
the weight is replaced at once."""
CLIPPED_ALWAYS = 0.95
"""Share of clipped steps in each epoch."""
CLIPPED_TO = 0.1
"""What clipping leaves of the gradients, in the median epoch: the threshold is another learning
rate then. Leaving a third is what a threshold is for."""
CLIPPED_NEVER = 0.1
"""Largest norm of the run as a share of a threshold that was chosen and has no effect."""

# ── activations ─────────────────────────────────────────────────────────────────────────────────

DEAD = 0.5
"""Share of a layer's units that never answer. Healthy wide layers have up to a third."""
SATURATED = 0.5
"""Share of a layer's values within 1 % of a bound. Healthy layers stay below a tenth."""

# ── learning rate ───────────────────────────────────────────────────────────────────────────────

TOO_FAR = 0.2
"""Update / weight of the fastest layer in the fastest epoch, where nothing was learned.

About 1e-3 is usual (Bottou 2015); Adam's first steps reach 0.1 at its usual rates."""
REPLACED = 1.0
"""The same from which on a step leaves nothing of a layer's weights: a lower rate alone helps."""
SLOWEST = 3e-4
"""Share of the present learning rate below which none is offered in its place."""
TOO_SHORT = 2e-4
"""The same from which on a network does not get far in any number of epochs that one waits for."""
ROSE = 1.02
"""Last training loss as a share of that of answering by the classes' shares: steps that leap keep
it above, where those that are too short only leave it there."""
TOO_FAR_AFTER_ALL = 0.05
"""Update / weight that counts as too far where the loss has risen so."""

# ── fit ─────────────────────────────────────────────────────────────────────────────────────────

UNLEARNED = 0.75
"""Error on the training rows as a share of the naive one: less than a quarter is explained.

Noise alone takes half of it in many tables."""
GAP = 0.1
"""Validation error less training error, as shares of rows or of variance."""
HEAVY_TAILED = 5.0
"""Variance of squared errors, as a multiple of their squared mean: 2 for normal errors."""
GAP_SHARE = 0.3
"""The same as a share of the validation error: so much of it comes from not generalising."""
EARLY = 0.25
"""Best epoch as a share of all: what comes after it has made nothing better."""
PATIENCE = 10
"""Validations without a better loss after which `callbacks=early_stopping` ends the training."""
LEARNED = 0.02
"""Fall of the loss, as a share of it, from where on its curve says how learning went."""
BETTER = 0.1
"""The same of the error."""
STILL_LEARNING = 0.08
"""Share of all that was learned that the last quarter of the epochs brought.

A curve that nears its end exponentially is at 0.03 after four of its time constants, at 0.10 after
two, and a straight line is at 0.25."""

# ── answers ─────────────────────────────────────────────────────────────────────────────────────

FEWEST_ROWS = 10
"""Test rows of which something can be told."""
FEWEST_OF_A_CLASS = 5
"""Test rows of a class; that one of fewer is never answered may be chance."""
FOUND = 0.1
"""Rows of a class that are called so, as a share of it: next to none."""
CALLED = 0.5
"""Rows that are called a class, rightly or not, as a share of those that are of it."""
TOLD_BY_ONE = 0.8
"""Share of the importance of all columns that one has."""
TOO_GOOD = 0.02
"""Error that is left on the test, as a share of rows or of variance."""
DEVIATIONS = 1.96
"""Half the width of a 95 % interval, in standard errors."""
WIDE = 0.2
"""Width of the 95 % interval of a share, such as f1: its first digit is unknown."""
UNSEEN = 3.0
"""Rows of which none is wrong say no more than that fewer than 3 of them are, with 95 % certainty
(the rule of three: Hanley and Lippman-Hand 1983)."""
WIDE_ERROR = 0.8
"""The same of an error in units, as a share of the error."""
WIDE_GAIN = 0.3
"""Width of the 95 % interval of the gain over the naive baseline: whether there is one is unknown,
where it holds zero; a narrower one says that there is none."""
RARE = 0.5
"""Share of the training rows that a rare class has, times the number of classes."""
ONE_FOR_ALL = 0.95
"""Share of the test rows that are called the same."""
SURE = 0.99
"""Level of the interval: to be worse than a line is said of every run, and one in a hundred may be
wrong."""
BY_HEART = 0.5
"""Training error as a share of the test error, below which what helps is to learn less by heart."""
WORSE = 1.1
"""Test error as a share of the linear baseline's."""
