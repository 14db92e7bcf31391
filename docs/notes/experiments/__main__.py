"""Makes every picture of these notes again and tells of each claim whether it holds.

    python docs/notes/experiments                    all of it, some minutes
    python docs/notes/experiments --small            few epochs, one seed: does it work at all?
    python docs/notes/experiments vanishing memory   these alone

The last line counts. The exit code is 1 where a claim fails.
"""

import argparse
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gradients
import judging
import looking
import matplotlib as mpl
import memorizing
import memory
import predicting
import settings
import sharing
from stage import Claim, Claims, Stage

from pipeline.pictures.gallery import drawing

NOTES = Path(__file__).resolve().parent.parent
RESULTS = "results.txt"
EXPERIMENTS: dict[str, Callable[[Stage], Claims]] = {
    "parameters": settings.parameters,
    "activations": settings.activations,
    "learning_rate": settings.learning_rate,
    "verbose": settings.verbose,
    "overfitting": memorizing.overfitting,
    "by_heart": memorizing.by_heart,
    "vanishing": gradients.vanishing,
    "exploding": gradients.exploding,
    "kernel_gradient": gradients.kernel_gradient,
    "edge": looking.edge,
    "kernel_weights": sharing.kernel_weights,
    "pooling": sharing.pooling,
    "weights": sharing.weights_at_equal_accuracy,
    "permutation": sharing.permutation,
    "grey_pictures": looking.grey_pictures,
    "memory": memory.memory,
    "gates": memory.gates,
    "counts": judging.counts,
    "mean_over_classes": judging.mean_over_classes,
    "dense_of_one": predicting.dense_of_one,
    "chosen_epochs": predicting.chosen_epochs,
    "variables": predicting.variables,
}


def main() -> int:
    """Run the experiments that were named; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[[], *EXPERIMENTS], metavar="NAME")
    parser.add_argument("--small", action="store_true", help="few epochs and one seed")
    parser.add_argument("--output", type=Path, help="folder for pictures and results.txt")
    given = parser.parse_args()
    output = given.output or (Path("notes") if given.small else NOTES)
    claims: list[Claim] = []
    with tempfile.TemporaryDirectory() as runs, drawing():
        stage = Stage(small=given.small, pictures=output / "pictures", runs=Path(runs))
        for name in given.names or EXPERIMENTS:
            with mpl.rc_context():
                for claim in EXPERIMENTS[name](stage):
                    print(claim, flush=True)
                    claims.append(claim)
    if not given.names:
        (output / RESULTS).write_text("\n".join(map(str, claims)) + "\n", encoding="utf-8")
    for page in (*output.rglob("*.md"), *output.glob(RESULTS)):
        put_numbers(page, claims)
    failed = sum(not claim.holds for claim in claims)
    print(f"{len(claims)} claims: {len(claims) - failed} pass, {failed} fail")
    return min(failed, 1)


def put_numbers(page: Path, claims: list[Claim]) -> None:
    """Write what was measured below each claim of a page."""
    before = text = page.read_text(encoding="utf-8")
    for claim in claims:
        stands = re.compile(rf"^(pass|fail)  {re.escape(claim.words)}\n.*$", re.M)
        text = stands.sub(str(claim).replace("\\", r"\\"), text)
    if text != before:
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
