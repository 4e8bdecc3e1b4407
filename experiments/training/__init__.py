"""Training: cells on a task, over seeds and learning rates, in runs that survive being killed."""
