"""What a study prints, without what the pace of its workers decides."""

import re

SKELETON = (
    (re.compile(r"^warning: .*\n", re.M), ""),
    (re.compile(r"^trial +\d+ .*\n", re.M), ""),
    (re.compile(r"^(\d+ trials): .*", re.M), r"\1"),
    (re.compile(r"^(stopped): .*;", re.M), r"\1;"),
    (re.compile(r"^(parameter importance|not above chance|parameter +share).*\n", re.M), ""),
    (re.compile(r"^ *[\w.]+( \(\w+\))?( on)? +\d+% +\d+%\n", re.M), ""),
    (re.compile(r"^note +no picture importances: .*\n", re.M), ""),
    (re.compile(r"^((the )?best trial |on the test set |reason: |to see whether ).*\n", re.M), ""),
    (re.compile(r"^(\w+: )?\S+ is best \(.*", re.M), r"\1best"),
    (re.compile(r"^(again +pipeline train) .*", re.M), r"\1"),
    (re.compile(r" \(default\)|(?<=95 % CI)  default"), ""),
    (re.compile(r"\boff\b|[-+][\d.]+ \[.*?\]|\bbest$", re.M), "0"),
    (re.compile(r"[-+]?\d[\d.:,]*(e[+-]?\d+)?( s\b)?"), "N"),
    (re.compile(r"\bN(?: +±? *N)+"), "N"),
    (re.compile(r" {2,}"), " "),
)
"""Patterns with what stands for them, in the order in which they are replaced.

With two workers it is a matter of moments which of two trials ends first, and the sampler learns
from what has ended: trials, the best one, verdict and which parameters stand out differ from one
study to the next.
"""


def skeleton(text: str) -> str:
    """Keep what every study of the same command prints: its headings and the order of its lines."""
    for pattern, word in SKELETON:
        text = pattern.sub(word, text)
    return text
