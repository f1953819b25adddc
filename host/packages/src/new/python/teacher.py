"""{{does}}."""

import json
import re

from checked import explained
from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import teacher
from wit_world.imports import types


class Teacher(exports.Teacher):
    @explained
    def open(self, argument):
        """Called once for each worker, before anything else."""
        if argument:
            raise Err(types.Error_InvalidInput(f"`{{name}}` takes no argument, found `{argument}`"))
        return teacher.Info(
            identity=types.Identity(name="{{name}}", detail=None),
            supports_seed=False,
            max_concurrency=1,
        )

    @explained
    def complete(self, request):
        """One answer to one prompt: `wit/teacher.wit` says what is asked and what is expected."""
        pairs = [pair(words) for words in sentences(passage(request.user))]
        return teacher.Completion(
            text=json.dumps(pairs[: count(request.user)], ensure_ascii=False),
            truncated=False,
            usage=teacher.Usage(prompt_tokens=0, completion_tokens=0, requests=1),
        )


def passage(asked):
    """What stands between the lines `[CODE]` and `[/CODE]`."""
    found = re.search(r"^\[(.+)\]\n(.*?)\n\[/\1\]", asked, re.DOTALL | re.MULTILINE)
    return found[2] if found else asked


def count(asked):
    """How many pairs are wanted: the first number of the question."""
    found = re.search(r"[0-9]{1,9}", asked)
    return int(found[0]) if found else 1


def sentences(text):
    """The words of each sentence that has a beginning and an end, headings left out."""
    text = re.sub(r"^#.*$", "", text, flags=re.MULTILINE)
    found = (sentence.split() for sentence in re.findall(r"[^.!?]+[.!?]?", text))
    return [words for words in found if len(words) >= 4]


def pair(words):
    start = " ".join(words[: len(words) // 2])
    return {"question": f"Complete the sentence: {start} …", "answer": " ".join(words)}
