"""Memory test: recall the first token of a sequence after the last one."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt

from pipeline.data.source import Samples, Source


@dataclass(kw_only=True, eq=False)
class Recall(Source):
    """Sequences of random one-hot tokens; the class is the first token, the others distract.

    A network that reads step by step has to remember the first step until the last one. The
    longest sequence that it still classifies measures its memory.

    Args:
        steps: Tokens per sequence, including the first one.
        tokens: Number of different tokens, which are the classes.
        rows: Number of sequences; the counts of the first tokens differ by one at most.
        process_seed: Seed of the sequences.

    Source: Hochreiter and Schmidhuber 1997, experiment 2 (there the first token is one of two).
    """

    steps: Annotated[int, Gt(0)]
    tokens: Annotated[int, Gt(1)]
    rows: Annotated[int, Gt(0)]
    process_seed: Annotated[int, Ge(0)]

    def read(self) -> Samples:
        """Draw the sequences, float32 (rows, steps, tokens)."""
        generator = np.random.default_rng(self.process_seed)
        sequences = generator.integers(self.tokens, size=(self.rows, self.steps))
        sequences[:, 0] = generator.permutation(np.arange(self.rows) % self.tokens)
        names = tuple(str(token) for token in range(self.tokens))
        return Samples(
            inputs=np.eye(self.tokens, dtype=np.float32)[sequences],
            targets=sequences[:, 0],
            task="binary" if self.tokens == 2 else "multiclass",
            classes=names,
            features=names,
        )
