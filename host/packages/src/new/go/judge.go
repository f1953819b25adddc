// {{does}}.
package export_dlm_plugin_judge

import (
	"strings"

	judge "{{module}}/bindings/dlm_plugin_judge"
	types "{{module}}/bindings/dlm_plugin_types"
	wit "go.bytecodealliance.org/pkg/wit/types"
)

// Open is called once, before anything else.
func Open(argument string) wit.Result[judge.Info, types.Error] {
	if argument != "" {
		return wit.Err[judge.Info](types.MakeErrorInvalidInput("`{{name}}` takes no argument, found `" + argument + "`"))
	}
	return wit.Ok[judge.Info, types.Error](judge.Info{
		Identity:           types.Identity{Name: "{{name}}"},
		Mode:               judge.ModePointwise,
		SuggestedThreshold: 1,
		Deterministic:      true,
		MaxBatch:           64,
	})
}

// Score gives one verdict per item, one score per candidate; higher is better.
func Score(items []judge.Item) wit.Result[[]judge.Verdict, types.Error] {
	verdicts := make([]judge.Verdict, len(items))
	for i, item := range items {
		for _, text := range item.Candidates {
			verdicts[i].Scores = append(verdicts[i].Scores, -float64(len(strings.Fields(text))))
		}
	}
	return wit.Ok[[]judge.Verdict, types.Error](verdicts)
}
