"""beam_search: the most probable attempt that keeping a few prefixes finds.

Knows what the endings' scores are; ranking and feeding prefixes is the harness's, everything that is taught is the base's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from harness.growing import Growing
from harness.problem import Answer, Question
from harness.search import Search, split_saying
from harness.search_wants import Beam, Hypothesis, Prefixes
from harness.strategy import setting
from harness.wants import Row, Solver


@dataclass(frozen=True, kw_only=True)
class BeamSearch(Search):
    """Beam search: keeps the ``width`` most probable prefixes; an ending's score is log-probability / tokens ** alpha.

    Tokens are all that was said, end of text included. An end finishes only within the ``width`` best of the 2 * width next
    prefixes; it stops when the best prefix can no longer win. Worked lines are part of what is ranked.
    """

    source = "Graves 1211.3711; Wu 1609.08144, section 7 (length normalisation, here |y| ** alpha)"
    neutral: ClassVar[Mapping[str, Any]] = {"width": 1, "alpha": 0.0, "grammar": False}
    example: ClassVar[Mapping[str, Any]] = {"width": 2}
    variants: ClassVar[Sequence[Mapping[str, Any]]] = ({"width": 2}, {"width": 5, "alpha": 0.7})
    dials: ClassVar[Mapping[str, Sequence[Any]]] = {"width": (1, 2, 4, 8, 16, 32)}

    width: int = setting(4, when="ask", doc="prefixes kept", low=1, high=256)
    alpha: float = setting(0.0, when="ask", doc="how much longer answers are favoured; 0: not at all", low=0.0, high=4.0)

    @property
    def splits(self) -> bool:
        """Prefixes are cut anywhere."""
        return True

    def rows(self) -> int:
        """The prefixes."""
        return self.width

    def searched(self, question: Question, row: Row, tree: Growing) -> Solver[Answer]:
        """One beam."""
        said = split_saying(self.asked, question)
        assert said is not None
        pattern = yield from self.pattern(question)
        found: tuple[list[Hypothesis], Prefixes] = yield Beam(
            row,
            said.cap_tokens,
            self.width,
            alpha=self.alpha,
            mark=said.mark,
            grammar=pattern,
            closes=said.closes,
            cap_ends=said.cap_ends,
        )
        endings, prefixes = found
        grow(tree, prefixes)
        for ending in endings:
            number = ending.node + 1 if ending.node >= 0 else tree.add(0)
            tree.end(number, ending.completion).value = ending.score
        return tree.chosen(endings[0].node + 1 if endings[0].node >= 0 else len(tree.nodes) - 1)


def grow(tree: Growing, prefixes: Prefixes) -> None:
    """A beam's prefixes as nodes behind the root; those that nothing continues are pruned until they turn out to be endings."""
    tree.nodes[0].flops += prefixes.before_flops
    depth = [0]
    columns = zip(prefixes.parent, prefixes.said, prefixes.nats, prefixes.flops, strict=True)
    for parent, said, nats, flops in columns:
        depth.append(depth[parent + 1] + 1)
        tree.add(parent + 1, said, nats=nats, tokens=depth[-1], flops=flops)
    continued = Counter(node.parent for node in tree.nodes)
    for number, node in enumerate(tree.nodes):
        node.visits = min(continued[number], 1)
        node.fate = "open" if node.visits else "pruned"
