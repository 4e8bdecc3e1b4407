"""What the Flax modules of both APIs share: their call, their arguments, how they print."""
