"""Sequences around a run: their lengths, rows of many, resets, and functions of the outputs."""

from jaxrnn.sequences.lengths import check_lengths, lengths_to_mask
from jaxrnn.sequences.outputs import (
    activation_regularization,
    last_output,
    temporal_activation_regularization,
)
from jaxrnn.sequences.packing import (
    Packed,
    bucket_size,
    bucket_sizes,
    pack,
    pad,
    resets_from_dones,
    resets_from_segment_ids,
    unpack,
    unpad,
)

__all__ = [
    "Packed",
    "activation_regularization",
    "bucket_size",
    "bucket_sizes",
    "check_lengths",
    "last_output",
    "lengths_to_mask",
    "pack",
    "pad",
    "resets_from_dones",
    "resets_from_segment_ids",
    "temporal_activation_regularization",
    "unpack",
    "unpad",
]
