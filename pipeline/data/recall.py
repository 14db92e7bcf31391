"""A test of memory: which token came first, asked when the last one has been read."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt

from pipeline.data.source import Samples, Source


@dataclass(kw_only=True, eq=False)
class Recall(Source):
    """Sequences of random tokens, one-hot; the answer is the first token, and all others distract.

    A network that reads step by step has to keep the first step for as many as follow, so how long
    a sequence it still answers is the length of its memory.

    Args:
        steps: Tokens in a sequence, the first one included.
        tokens: Kinds of tokens, which are the classes.
        rows: Sequences; each token comes first in as many of them, but for one.
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
