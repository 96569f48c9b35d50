"""Thinking strategies: one file a strategy; files that begin with _ are helpers."""
