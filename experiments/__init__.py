"""Everything that is measured: tasks, training, figures,
and the command line `python -m experiments`.

A file of one's own registers cells, tasks and loggers by `experiments.own`.
"""
