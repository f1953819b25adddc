"""{{does}}."""

from checked import explained
from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import templates
from wit_world.imports import types

DOCUMENT = """---
dlm_version: 15
base_model: smollm2-135m
---

# A first document

::instruction::
### Q
What is this?

### A
A template.
"""


def first():
    return templates.Meta(
        name="first",
        title="A first document",
        summary="One question and its answer",
        tags=[],
        recommended_base="smollm2-135m",
        expected_steps=None,
        expected_duration=[],
        sample_prompts=["What is this?"],
        revision="1",
        license=None,
    )


class Templates(exports.Templates):
    @explained
    def open(self, location):
        """Called once, before anything else; `location` is where the user's settings say that this source lies."""
        return templates.Info(identity=types.Identity(name="{{name}}", detail=None), cache_seconds=0)

    @explained
    def list(self, query):
        """The templates, or those that fit a query."""
        return [meta for meta in [first()] if query is None or query in meta.name]

    @explained
    def fetch(self, name):
        """One template with its files."""
        if name != "first":
            raise Err(types.Error_NotFound(f"`{{name}}` has no template `{name}`"))
        return templates.Bundle(meta=first(), document=DOCUMENT, files=[])
