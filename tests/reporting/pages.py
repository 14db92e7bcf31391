"""A page of HTML, read as a strict reader would, what every page of ours must hold, and its run."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

from helpers.sample_findings import made_findings

from pipeline.base.ends import End
from pipeline.base.findings import Findings, save_findings
from pipeline.reporting.run_pair import RunPair
from pipeline.reporting.subject import Subject
from pipeline.scoring.mcnemar import Flips
from pipeline.tracking.journal import Journal
from pipeline.tracking.journal_events import Header
from pipeline.tracking.ownership import adopt

VOID = {"meta", "img", "br", "hr", "link", "input", "source"}


def subject(findings: Findings) -> Subject:
    return Subject(uri="", findings=findings, status="FINISHED", reason="", tags={})


def against(first: Findings, second: Findings) -> RunPair:
    return RunPair(first=subject(first), second=subject(second))


def flips_of(pair: RunPair) -> Flips:
    """The counts of a pair that was tested on the same rows."""
    assert pair.flips is not None
    return pair.flips


def made_run(
    name: str,
    output: Path = Path("runs"),
    *,
    ended: bool = True,
    seed: int | None = None,
    stem: str = "20260101-120000",
) -> Path:
    """Write the journal of a run and, with a seed, its findings, of which little can be drawn."""
    folder = output / f"{stem}-{name}-0a1b2c"
    (folder / "artifacts").mkdir(parents=True)
    tags = {"pipeline.command": "train", "command": f"pipeline train name={name}"}
    params: dict[str, str | int] = {
        "model._target_": "pipeline.networks.mlp.MLP",
        "trainer.max_epochs": 4,
        "seed": 3,
    }
    params |= {"tags.team": "a", "tags.team.lead": "b"}  # both are keys in a journal
    params |= {"monitor": "val/f1"}  # what the null of the configuration has become
    journal = Journal(adopt(folder))
    journal.begin(Header(name=name, experiment="pipeline", uri="", params=params, tags=tags))
    for epoch in (1, 2, 3):
        journal.epoch(epoch, {"train/loss": 1 / epoch, "val/loss": 1.2 / epoch, "val/f1": 0.3})
    if ended:
        journal.epoch(3, {"best/epoch": 3.0, "test/f1": 0.625, "naive/f1": 0.25})
        journal.end(End.COMPLETE)
    journal.close()
    if seed is not None:
        few: dict[str, Any] = {"vitals": None, "activity": (), "importances": None}
        findings = made_findings(rows=40, epochs=3, seed=seed, name=name, **few)
        save_findings(findings, folder / "artifacts")
    return folder


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    texts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())


class Page(HTMLParser):
    """All elements of a page, in their order; an end that fits no beginning is an error."""

    def __init__(self, content: str) -> None:
        super().__init__(convert_charrefs=True)
        self.content = content
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(content)
        self.close()
        assert self._open == [], [one.tag for one in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        assert len(element.attributes) == len(attrs), (tag, attrs)
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:  # of `<path/>` too
        if tag not in VOID:
            assert self._open, f"</{tag}> ends nothing"
            assert self._open.pop().tag == tag, f"</{tag}> within another"

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.texts.append(data)

    def all(self, *tags: str) -> list[Element]:
        return [one for one in self.elements if one.tag in tags]

    def texts(self, *tags: str) -> list[str]:
        return [one.text for one in self.all(*tags)]

    @property
    def text(self) -> str:
        (body,) = self.texts("body")
        return body


def require_sound(page: Page) -> None:
    """Hold a page to what all of ours promise, whatever they tell."""
    assert page.content.startswith("<!DOCTYPE html>")
    given = [one.attributes for one in page.elements]
    ids = [one["id"] for one in given if "id" in one]
    assert len(ids) == len(set(ids)), "an id is there twice"
    asked = {one["href"].removeprefix("#") for one in given if "href" in one}
    named = {one["aria-labelledby"] for one in given if "aria-labelledby" in one}
    assert asked | named <= set(ids)
    assert all(picture.attributes["alt"] for picture in page.all("img"))
    levels = [int(one.tag[1]) for one in page.all("h1", "h2", "h3", "h4")]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.all("html")[0].attributes["lang"] == "en"
    assert any(one.get("name") == "viewport" for one in given)
    assert page.texts("title")[0]
    # Nothing is fetched: there is no address in any attribute, and one script, which is ours.
    assert len(page.all("script")) == 1
    assert not page.all("link", "iframe", "object", "embed", "base", "form", "foreignobject")
    for key, value in (pair for one in given for pair in one.items()):
        assert not key.startswith("on"), key
        if key in ("src", "href", "srcset", "action"):
            assert value.startswith(("#", "data:image/png;base64,")), value[:80]
        assert key != "style" or "url(" not in value
    (style,) = page.texts("style")
    assert "url(" not in style
    assert "@import" not in style
