"""`python -m experiments`; see `experiments.cli`."""

import sys

try:
    from experiments.cli import main

    code = main()
except KeyboardInterrupt:  # while the libraries are still being imported
    code = 130
sys.exit(code)
