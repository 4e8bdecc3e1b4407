"""`method="persistent"`: one GPU kernel for all steps, in which the recurrent weight stays on chip.
For Hopper GPUs.

The cell's own `step` is traced into the kernel (`unit`, `tiles`, `kernel`); nothing here knows a
cell. Inputs are projected before it, all steps at once, and gradients of weights and inputs are
taken after it, as one matmul each, by the code of `fused`. A cell that the kernel cannot run is
refused with the reason (`legality`).

A float32 run multiplies in TF32 on a GPU (10 bits of mantissa), a 16-bit run in its own dtype; sums
and carries are float32. There are first derivatives only: a kernel has none of its own.
"""

from jaxrnn.hardware.persistent.method import Persistent

__all__ = ["Persistent"]
