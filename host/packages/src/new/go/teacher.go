// {{does}}.
package export_dlm_plugin_teacher

import (
	"encoding/json"
	"strconv"
	"strings"

	teacher "{{module}}/bindings/dlm_plugin_teacher"
	types "{{module}}/bindings/dlm_plugin_types"
	wit "go.bytecodealliance.org/pkg/wit/types"
)

// Open is called once for each worker, before anything else.
func Open(argument string) wit.Result[teacher.Info, types.Error] {
	if argument != "" {
		return wit.Err[teacher.Info](types.MakeErrorInvalidInput("`{{name}}` takes no argument, found `" + argument + "`"))
	}
	return wit.Ok[teacher.Info, types.Error](teacher.Info{
		Identity:       types.Identity{Name: "{{name}}"},
		MaxConcurrency: 1,
	})
}

// Complete gives one answer to one prompt: `wit/teacher.wit` says what is asked and what is expected.
func Complete(request teacher.Request) wit.Result[teacher.Completion, types.Error] {
	found := sentences(passage(request.User))
	found = found[:min(len(found), count(request.User))]
	pairs := make([]string, len(found))
	for i, words := range found {
		pairs[i] = pair(words)
	}
	return wit.Ok[teacher.Completion, types.Error](teacher.Completion{
		Text:  "[" + strings.Join(pairs, ", ") + "]",
		Usage: teacher.Usage{Requests: 1},
	})
}

// What stands between the lines `[CODE]` and `[/CODE]`.
func passage(asked string) string {
	for rest := asked; ; {
		line, after, isLine := strings.Cut(rest, "\n")
		if !isLine {
			return asked
		}
		if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			if text, _, isPassage := strings.Cut(after, "\n[/"+line[1:]); isPassage {
				return text
			}
		}
		rest = after
	}
}

// How many pairs are wanted: the first number of the question.
func count(asked string) int {
	isNoDigit := func(letter rune) bool { return letter < '0' || letter > '9' }
	for _, digits := range strings.FieldsFunc(asked, isNoDigit) {
		if number, err := strconv.Atoi(digits); err == nil {
			return number
		}
	}
	return 1
}

// The words of each sentence that has a beginning and an end.
func sentences(text string) [][]string {
	var found [][]string
	for text != "" {
		end := strings.IndexAny(text, ".!?") + 1
		if end == 0 {
			end = len(text)
		}
		if words := strings.Fields(withoutHeadings(text[:end])); len(words) >= 4 {
			found = append(found, words)
		}
		text = text[end:]
	}
	return found
}

// What follows the lines of headings.
func withoutHeadings(text string) string {
	text = strings.TrimSpace(text)
	for strings.HasPrefix(text, "#") {
		_, rest, _ := strings.Cut(text, "\n")
		text = strings.TrimSpace(rest)
	}
	return text
}

// One pair, as an object in JSON.
func pair(words []string) string {
	question := quoted("Complete the sentence: " + strings.Join(words[:len(words)/2], " ") + " …")
	return `{"question": ` + question + `, "answer": ` + quoted(strings.Join(words, " ")) + `}`
}

// A text in JSON; every text has one.
func quoted(text string) string {
	json, _ := json.Marshal(text)
	return string(json)
}
