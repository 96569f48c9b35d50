"""Conformance checks: one function each, whose docstring says what must hold and whose AssertionError says how to mend it."""
