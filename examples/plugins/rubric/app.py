"""A judge in Python: marks an answer by a rubric.

It is pure arithmetic over the words of question and answer; it asks for no capability, so an untrusted copy can do no harm.
"""

import math
import re

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.judge import Info, Item, Mode, Verdict
from wit_world.imports import config
from wit_world.imports.config import Value_Integer
from wit_world.imports.types import Error_InvalidInput, Identity

WORDS_MAX = 80
WORDS_MAX_TERSE = 25
HEDGES = ("as an ai", "i am not sure", "i'm not sure", "i cannot", "i can't", "it depends", "perhaps", "maybe")
STOP_WORDS = frozenset(
    "a an and are as at be by do does for from how i in is it of on or the this to was what when where which who why"
    " with you your".split()
)


class Rubric:
    """How many words an answer may have, and what each fault costs."""

    def __init__(self, words_max: int) -> None:
        self.words_max = words_max

    def mark(self, question: str, answer: str, reference: str | None) -> tuple[float, list[str]]:
        """The mark of one answer, and what took marks off."""
        words = words_of(answer)
        if not words:
            return -1.0, ["blank"]
        score, faults = 0.0, []
        wanted = content_words(reference if reference else question)
        if wanted:
            share = len(wanted & set(words)) / len(wanted)
            score += share
            if share < 0.5:
                faults.append("off the question")
        if len(words) > self.words_max:
            score -= min(0.5, 0.01 * (len(words) - self.words_max))
            faults.append(f"{len(words)} words")
        hedges = [hedge for hedge in HEDGES if hedge in answer.lower()]
        if hedges:
            score -= 0.2 * min(len(hedges), 3)
            faults.append(f'hedges: "{hedges[0]}"')
        sentences = [sentence.strip().lower() for sentence in re.split(r"[.!?]+\s", answer) if sentence.strip()]
        repeated = len(sentences) - len(set(sentences))
        if repeated:
            score -= 0.3 * min(repeated, 3)
            faults.append(f"{repeated} sentences repeated")
        if not answer.rstrip().endswith((".", "!", "?", "`", ")", '"')):
            score -= 0.2
            faults.append("breaks off")
        return score, faults


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def content_words(text: str) -> set[str]:
    return {word for word in words_of(text) if word not in STOP_WORDS}


# What `open` chose. It lives here because every call gets a new object of the class below.
rubric = Rubric(WORDS_MAX)


class Judge(exports.Judge):
    """The export of the world `judge-plugin`."""

    def open(self, arg: str) -> Info:
        if arg not in ("", "terse"):
            raise Err(Error_InvalidInput(f"judge `rubric` takes no argument, or `terse`; found `{arg}`"))
        set_by_user = config.get("max-words")
        words_max = set_by_user.value if isinstance(set_by_user, Value_Integer) else WORDS_MAX
        global rubric
        rubric = Rubric(min(words_max, WORDS_MAX_TERSE) if arg == "terse" else words_max)
        return Info(
            identity=Identity(name=f"rubric:{arg}" if arg else "rubric", detail="marks answers by a rubric"),
            mode=Mode.POINTWISE,
            suggested_threshold=0.1,
            deterministic=True,
            max_batch=64,
        )

    def score(self, items: list[Item]) -> list[Verdict]:
        return [self.verdict(item) for item in items]

    def verdict(self, item: Item) -> Verdict:
        marks = [rubric.mark(item.prompt, candidate, item.reference) for candidate in item.candidates]
        assert all(math.isfinite(score) for score, _ in marks)
        reasons = [
            f"{chr(ord('a') + index)}: {', '.join(faults)}"
            for index, (_, faults) in enumerate(marks[:26])
            if faults
        ]
        return Verdict(scores=[score for score, _ in marks], reasoning=" | ".join(reasons) or None)
