"""Settings that hold for every test: one thread, no network, slow tests on request only."""

from __future__ import annotations

import os
import sys

# Before anything imports torch, and for the processes that tests start: bit-equality is promised at one thread,
# and several threads on a shared machine are many times slower than one.
os.environ.update(
    OMP_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
    HF_HUB_OFFLINE="1",
    MPLBACKEND="Agg",
)

import pytest
from hypothesis import settings

# Shared machines are slow at times, so no deadline; CI draws the same examples every time, so that it fails only for a reason.
for name, examples in (("quick", 30), ("slow", 100)):
    settings.register_profile(name, deadline=None, derandomize=bool(os.environ.get("CI")), max_examples=examples)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the slow tests too (as SLOW=1 in the environment does)")


def is_slow(config: pytest.Config) -> bool:
    """Whether slow tests run too."""
    return bool(config.getoption("--slow")) or os.environ.get("SLOW", "0") not in ("", "0")


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("slow" if is_slow(config) else "quick")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if is_slow(config):
        return
    skip = pytest.mark.skip(reason="slow: needs --slow or SLOW=1")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """One thread for torch in every test, whatever the last one set; torch is never imported for this alone."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
