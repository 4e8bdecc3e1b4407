"""Everything that is measured: tasks, training, figures,
and the command line `python -m experiments`.
"""
