// {{does}}.
package export_dlm_plugin_templates

import (
	"strings"

	templates "{{module}}/bindings/dlm_plugin_templates"
	types "{{module}}/bindings/dlm_plugin_types"
	wit "go.bytecodealliance.org/pkg/wit/types"
)

const document = `---
dlm_version: 15
base_model: smollm2-135m
---

# A first document

::instruction::
### Q
What is this?

### A
A template.
`

var first = templates.Meta{
	Name:            "first",
	Title:           "A first document",
	Summary:         "One question and its answer",
	RecommendedBase: "smollm2-135m",
	SamplePrompts:   []string{"What is this?"},
	Revision:        "1",
}

// Open is called once, before anything else; `location` is where the user's settings say that this source lies.
func Open(location string) wit.Result[templates.Info, types.Error] {
	return wit.Ok[templates.Info, types.Error](templates.Info{Identity: types.Identity{Name: "{{name}}"}})
}

// List gives the templates, or those that fit a query.
func List(query wit.Option[string]) wit.Result[[]templates.Meta, types.Error] {
	var found []templates.Meta
	if strings.Contains(first.Name, query.SomeOr("")) {
		found = append(found, first)
	}
	return wit.Ok[[]templates.Meta, types.Error](found)
}

// Fetch gives one template with its files.
func Fetch(name string) wit.Result[templates.Bundle, types.Error] {
	if name != first.Name {
		return wit.Err[templates.Bundle](types.MakeErrorNotFound("`{{name}}` has no template `" + name + "`"))
	}
	return wit.Ok[templates.Bundle, types.Error](templates.Bundle{Meta: first, Document: document})
}
