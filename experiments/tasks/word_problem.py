"""Word problems: the product of all group elements so far, at every step."""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.tasks.scores import CrossEntropy
from experiments.tasks.task import Batch, Levels, Task, choice, entropy, log_shares, one_hot

# two permutations that generate each group, as what comes to each place
CYCLE = np.roll(np.arange(60), -1)
GROUPS: dict[str, tuple[np.ndarray, np.ndarray]] = {
    "z60": (CYCLE, np.roll(CYCLE, -7)),
    "s3": (np.array([1, 0, 2]), np.array([1, 2, 0])),
    "a4_z5": (np.array([1, 2, 0, 3, 5, 6, 7, 8, 4]), np.array([1, 0, 3, 2, 6, 7, 8, 4, 5])),
    "a5": (np.array([1, 2, 3, 4, 0]), np.array([1, 2, 0, 3, 4])),
}


@dataclasses.dataclass(frozen=True)
class WordProblem(Task):
    """Each input is one of two elements that generate a group; the class at every step is the
    product of all so far. The metric counts the last step.

    The groups: z60, the cyclic one of 60 elements; s3, all orders of three things; a4_z5, the even
    orders of four times a cycle of five, and a5, the even orders of five, both of 60 elements. Of
    these s3 and a4_z5 are solvable and not commutative, and a5 is not solvable.

    Baselines: the best constant of step t has the distribution of products of t factors, the loss
    the mean of their entropies.

    Args:
        lag: T, the length of the sequence.
        group: z60, s3, a4_z5 or a5.

    Source: Merrill, Petty & Sabharwal 2024, arXiv:2404.08819, section 6. Differs: there inputs are
    any elements of the group; here short words reach few of them, in z60 t + 1 after t steps.
    """

    lag: int = 16
    group: str = "a5"
    description: ClassVar[str] = "the product of the elements of a group so far, over lag steps"

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self, "group", GROUPS)

    @property
    def score(self) -> CrossEntropy:
        return CrossEntropy(len(products(self.group)), "accuracy at the last step")

    @property
    def shares(self) -> np.ndarray:
        """How often each class comes at each step, [lag, classes]."""
        table = products(self.group)
        moves = (np.eye(len(table))[table[:, 0]] + np.eye(len(table))[table[:, 1]]) / 2
        share = np.eye(len(table))[0]
        found = []
        for _ in range(self.lag):
            share = share @ moves
            found.append(share)
        return np.stack(found)

    @property
    def levels(self) -> Levels:
        return Levels(entropy(self.shares), solved=0.05)

    @property
    def constant(self) -> Array:
        return log_shares(self.shares)

    def sample(self, key: Array, batch_size: int) -> Batch:
        """Draws sequences: one-hot inputs [lag, B, 2], classes [lag, B]."""
        drawn = jax.random.randint(key, (self.lag, batch_size), 0, 2)
        table = jnp.asarray(products(self.group))

        def multiply(product: Array, factor: Array) -> tuple[Array, Array]:
            product = table[product, factor]
            return product, product

        _, classes = jax.lax.scan(multiply, jnp.zeros(batch_size, table.dtype), drawn)
        everywhere = jnp.full(drawn.shape, True)
        last = jnp.zeros_like(everywhere).at[-1].set(True)
        return Batch(one_hot(drawn, 2), classes, scored=everywhere, judged=last)


@functools.cache
def products(group: str) -> np.ndarray:
    """[elements, 2]: the number of the product of each element and each generator; the element 0
    is the neutral one."""
    generators = GROUPS[group]
    elements = [tuple(range(len(generators[0])))]
    numbers = {elements[0]: 0}
    table = []
    for element in elements:  # grows on the way
        row = []
        for generator in generators:
            product = tuple(element[k] for k in generator)
            if product not in numbers:
                numbers[product] = len(elements)
                elements.append(product)
            row.append(numbers[product])
        table.append(row)
    return np.array(table, np.int32)
