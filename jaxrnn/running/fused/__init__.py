"""The fast sequential method: one forward and one backward loop for every cell whose products go
through `dot`.

Forward, a lean loop records what each product gave. Backward, a loop runs the equations of a step
on the recorded products and carries the adjoint of the carry; it has one matmul per product, and
puts out the cotangent of each product. Then every weight gets its gradient from all steps of a
chunk, as one large matmul. `remat` chooses what is saved between the two:

- "none": of every step the carry, activations where they are enough (`activations`), else products,
  with the projected input added where their sum is enough (`reading`);
- "carry": the carries; inputs and products of a chunk are computed again, all at once;
- "sqrt": the carry before each of about sqrt(T) chunks; a chunk runs forward again before it runs
  backward (`running.chunks`).

A product written without `dot` is differentiated as any other operation: exact, but computed again
backward.
"""

from jaxrnn.running.fused.method import Fused

__all__ = ["Fused"]
