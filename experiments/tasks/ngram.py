"""A language model that counts: what a network must beat."""

import collections
import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class NGram:
    """P(symbol | the last order - 1 symbols), by counts: each order is mixed with the one below,
    P_k = (count + kinds * P_(k-1)) / (total + kinds), where `kinds` is how many different symbols
    were seen behind that context, and P_0 is uniform.

    Source: Witten and Bell 1991, "The zero-frequency problem", method C, interpolated.
    """

    order: int
    size: int  # of the alphabet
    counts: tuple[dict[bytes, collections.Counter[int]], ...]  # by the length of the context

    @classmethod
    def of(cls, symbols: np.ndarray, order: int, size: int) -> "NGram":
        """Counts all contexts of a text, [N] bytes."""
        counts: list[dict[bytes, collections.Counter[int]]] = []
        text = symbols.tobytes()
        for length in range(order):
            found: dict[bytes, collections.Counter[int]] = collections.defaultdict(
                collections.Counter
            )
            for k in range(length, len(text)):
                found[text[k - length : k]][text[k]] += 1
            counts.append(dict(found))
        return cls(order, size, tuple(counts))

    def probability(self, context: bytes, symbol: int) -> float:
        """Of one symbol after a context, of which the last `order - 1` are looked at."""
        p = 1 / self.size
        for length, found in enumerate(self.counts[: len(context) + 1]):
            seen = found.get(context[len(context) - length :])
            if seen is None:
                break
            kinds = len(seen)
            p = (seen[symbol] + kinds * p) / (seen.total() + kinds)
        return p

    def nats(self, text: bytes, places: np.ndarray) -> float:
        """The mean of -log P over the symbols at these places of a text."""
        first = self.order - 1
        total = sum(
            np.log(self.probability(text[max(k - first, 0) : k], text[k])) for k in places.tolist()
        )
        return -float(total) / len(places)
