"""Which problems may be under way: about so many rows side by side, and never more keys and values than a bound allows.

A problem's worst case is reserved when it is admitted, so a bound makes problems wait and never stops one halfway. Knows sizes;
knows no row and no problem.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.slots import rounded_keys

WAITING_SHARE = 3  # rows held, over those decoded side by side: in a tree two of three wait for their siblings (measured)


class Admission:
    """rows: about how many rows are decoded side by side; max_kv_bytes: the most that slots may take, None for no bound.

    The rows count as they are, once a problem has held as many as it may; until then as many as that. Where many of them wait,
    so that few are fed, more problems come, up to `WAITING_SHARE` times as many rows.
    """

    def __init__(self, *, rows: int, max_kv_bytes: int | None, bytes_per_cell: int) -> None:
        self._rows, self._max_bytes, self._bytes_per_cell = rows, max_kv_bytes, bytes_per_cell
        self.held = 0  # rows, live or still expected
        self.fed = 0  # rows of the last turn, and those that came since
        self._reserved: dict[int, tuple[int, int]] = {}  # account -> rows, cells in each

    def open(self, rows: int, cells: int) -> bool:
        """Whether one more problem may come. ValueError if it may never: its worst case alone passes the bound."""
        room = self.held < self._rows or (self.fed < self._rows and self.held < WAITING_SHARE * self._rows)
        if self._max_bytes is None:
            return room
        self.check([(rows, cells)])
        return room and self._bytes(*self._with(rows, cells)) <= self._max_bytes

    def check(self, sizes: Iterable[tuple[int, int]]) -> None:
        """ValueError if a problem of one of these sizes may never come."""
        rows, cells = max(sizes, key=lambda size: self._bytes(*size), default=(0, 0))
        if self._max_bytes is not None and self._bytes(rows, cells) > self._max_bytes:
            raise ValueError(
                f"--max-kv-bytes: one problem may need {self._bytes(rows, cells)} bytes ({rows} rows of {rounded_keys(cells)} "
                f"cells), got {self._max_bytes}; give at least that"
            )

    def _bytes(self, rows: int, cells: int) -> int:
        return rows * rounded_keys(cells) * self._bytes_per_cell

    def _with(self, rows: int, cells: int) -> tuple[int, int]:
        """Rows and cells of a slab for all that is reserved and one more."""
        return sum(r for r, _ in self._reserved.values()) + rows, max([cells, *(c for _, c in self._reserved.values())])

    def admit(self, account: int, rows: int, cells: int) -> None:
        """A problem has come."""
        self.held += rows
        self.fed += rows
        if self._max_bytes is not None:
            self._reserved[account] = (rows, cells)

    def close(self, account: int, held: int) -> None:
        """A problem has ended; held: the rows that it counted for."""
        self.held -= held
        self._reserved.pop(account, None)

    def slab(self, rows: int, cells: int, slots_rows: int, slots_cells: int) -> tuple[int, int] | None:
        """The slots' size for what is reserved and one more problem; None: what they have is enough.

        A side that is larger already stays so where the bound allows it.
        """
        if self._max_bytes is None:
            return None
        need_rows, need_cells = self._with(rows, cells)
        if need_rows <= slots_rows and need_cells <= slots_cells:
            return None
        most = (max(need_rows, slots_rows), max(need_cells, slots_cells))
        return most if self._bytes(*most) <= self._max_bytes else (need_rows, need_cells)
