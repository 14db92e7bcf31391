"""The diagnosis of a run: its verdicts, the worst first, without symptoms of other verdicts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from inspect import getfile
from typing import Any

from pipeline.base.errors import ConfigError, did_you_mean
from pipeline.base.findings import Findings
from pipeline.base.kinds import load_records
from pipeline.base.markup import Block, Command, Section
from pipeline.doctor.evidence import Evidence
from pipeline.doctor.rule import Rule, Verdict
from pipeline.doctor.unusual_settings import UnusualSetting, unusual_settings

HEALTHY = "healthy"
MOST_LINES = 2


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is wrong with a run.

    Args:
        name: Name of the run.
        verdicts: The worst first; empty = nothing was found.
    """

    name: str
    verdicts: Sequence[Verdict]

    @property
    def names(self) -> str:
        """Names of the verdicts, or `healthy`."""
        return ", ".join(verdict.name for verdict in self.verdicts) or HEALTHY

    def lines(self) -> list[str]:
        """Return the verdicts in one or two lines for a terminal."""
        if not self.verdicts:
            return [f"doctor  {HEALTHY}"]
        lines = [f"doctor  {verdict.line}" for verdict in self.verdicts[:MOST_LINES]]
        titles = [verdict.title for verdict in self.verdicts[MOST_LINES:]]
        if titles:
            lines[-1] += f" (also {', '.join(titles)}: see doctor.md)"
        return lines

    def section(self) -> Section:
        """Return the evidence of each verdict and everything that would help."""
        if not self.verdicts:
            return Section("Diagnosis", ["healthy: no problem was found"])
        return Section("Diagnosis", [_verdict_section(verdict) for verdict in self.verdicts])

    def to_dict(self) -> dict[str, Any]:
        """Return the diagnosis as plain values."""
        verdicts = [verdict.to_dict() for verdict in self.verdicts]
        return {"run": self.name, "names": self.names, "verdicts": verdicts}


def _verdict_section(verdict: Verdict) -> Section:
    words, colon, command = verdict.advice.partition(": pipeline ")
    remedies: list[str | Command] = [Command(cure) for cure in verdict.typed]
    if words:
        remedies.append(f"{words}{colon[:1]}")
    blocks: list[Block] = [verdict.evidence, "what would help:", remedies]
    if command:
        blocks.append(Command(f"pipeline {command}"))
    return Section(verdict.title.capitalize(), blocks)


@cache
def load_rules() -> Mapping[str, Rule]:
    """Return all rules by name, the worst verdict first.

    Raises:
        ConfigError: A rule is incomplete, or names a verdict or evidence that does not exist; each
            line names the file and the field.
    """
    rules = load_records("pipeline.doctor.rules", Rule)
    problems: list[str] = []
    for rule in rules.values():
        problems += _unknown_names(rule, rules)
    if problems:
        raise ConfigError(*problems)
    by_rank = sorted(rules.values(), key=lambda rule: rule.rank)
    return {rule.name: rule for rule in by_rank}


def _unknown_names(rule: Rule, rules: Mapping[str, Rule]) -> Iterator[str]:
    choices = {"hides": [*rules], "needs": [field.name for field in fields(Findings)]}
    for field_name, known_names in choices.items():
        for name in getattr(rule, field_name):
            if name not in known_names:
                hint = did_you_mean(name, known_names)
                yield f"{getfile(rule.find)}: `{field_name}` has the unknown name '{name}'.{hint}"


def diagnose(findings: Findings) -> Diagnosis:
    """Return the verdicts on a finished or diverged run; rules without evidence give none."""
    run = Evidence(findings)
    verdicts: dict[Rule, Verdict] = {}
    for rule in load_rules().values():
        if run.is_memorizing and rule.is_on_other_rows:
            continue
        if not all(getattr(findings, name) for name in rule.needs):
            continue
        verdict = rule.find(run)
        if verdict is not None:
            verdicts[rule] = verdict
    causes = _verdicts_on_settings(run, verdicts)
    reported = []
    for rule, verdict in {**causes, **verdicts, **causes}.items():
        if rule not in causes and _is_symptom(rule, verdicts, causes):
            continue
        reported.append(_offered(run, rule, verdict))
    return Diagnosis(findings.name, tuple(reported))


def _verdicts_on_settings(run: Evidence, verdicts: Mapping[Rule, Verdict]) -> dict[Rule, Verdict]:
    """Return the verdicts that unusual settings lead to, which offer the usual values first."""
    rules = load_rules()
    by_rule: dict[Rule, list[UnusualSetting]] = {}
    for setting in unusual_settings(run):
        # A network that fits its training rows too well is not held down.
        is_held_down = rules["overfitting"] not in verdicts
        rule = rules[setting.verdict]
        if run.applicable([setting.cure]) and (is_held_down or not rule.shows_little_learning):
            by_rule.setdefault(rule, []).append(setting)
    causes = {}
    for rule in sorted(by_rule, key=lambda rule: rule.rank):
        settings = by_rule[rule]
        reasons = "; ".join(setting.reason(run) for setting in settings)
        known = verdicts.get(rule, Verdict(evidence=_result(run)))
        cures = (*(setting.cure for setting in settings), *known.cures)
        causes[rule] = replace(known, evidence=f"{known.evidence}; {reasons}", cures=cures)
    return causes


def _result(run: Evidence) -> str:
    error = run.error("train")
    if run.diverged or error is None:
        return "the loss became NaN or infinite"
    return f"{run.named_score(error)} on the training rows"


def _is_symptom(
    rule: Rule, verdicts: Mapping[Rule, Verdict], causes: Mapping[Rule, Verdict]
) -> bool:
    """Return whether another verdict explains this one, or a setting explains what it shows."""
    others = [other for other in {**verdicts, **causes} if other is not rule]
    is_explained = any(rule.is_explained_by(other) for other in others)
    return is_explained or (bool(causes) and rule.shows_little_learning)


def _offered(run: Evidence, rule: Rule, verdict: Verdict) -> Verdict:
    """Return a verdict with its name and the overrides that apply to the run."""
    if rule.is_on_learning and run.setting("data.shuffle_labels") is not None:
        # Nothing holds for other rows.
        return replace(
            verdict,
            name=rule.name,
            evidence=f"{verdict.evidence}; the training labels are shuffled, so only memorization "
            "is possible",
            cures=("data.shuffle_labels=null",),
            advice="",
        )
    return replace(verdict, name=rule.name, cures=run.applicable(verdict.cures))
