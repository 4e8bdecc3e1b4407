"""Speed and memory against other libraries: the same problem, the same process,
ratios within each round.

Every peer gets the same weights, inputs and initial state, is compiled, and is checked against
float64 before it is timed.
"""
