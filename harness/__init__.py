"""The reference harness for thinking strategies: one GPT-2, one training loop, matched compute.

Public API: `run`, `make_spec`, `load_runs`. Importing this package imports neither torch nor transformers.
"""

from harness.api import load_runs, make_spec, run

__all__ = ["load_runs", "make_spec", "run"]
__version__ = "0.1.0"
