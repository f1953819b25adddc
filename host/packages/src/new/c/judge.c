// {{does}}.

#include <stdlib.h>
#include <string.h>

#include "{{bindings}}.h"

typedef {{bindings}}_string_t text;

// A copy of three texts, which the host frees.
static text joined(const char *start, text rest, const char *end) {
  size_t a = strlen(start), b = strlen(end);
  text made = {.ptr = malloc(a + rest.len + b), .len = a + rest.len + b};
  memcpy(made.ptr, start, a);
  memcpy(made.ptr + a, rest.ptr, rest.len);
  memcpy(made.ptr + a + rest.len, end, b);
  return made;
}

// Called once, before anything else.
bool exports_dlm_plugin_judge_open(text *argument, exports_dlm_plugin_judge_info_t *info, exports_dlm_plugin_judge_error_t *error) {
  if (argument->len > 0) {
    error->tag = DLM_PLUGIN_TYPES_ERROR_INVALID_INPUT;
    error->val.invalid_input = joined("`{{name}}` takes no argument, found `", *argument, "`");
    return false;
  }
  memset(info, 0, sizeof *info);
  {{bindings}}_string_dup(&info->identity.name, "{{name}}");
  info->mode = EXPORTS_DLM_PLUGIN_JUDGE_MODE_POINTWISE;
  info->suggested_threshold = 1.0;
  info->deterministic = true;
  info->max_batch = 64;
  return true;
}

static double words(text answer) {
  size_t count = 0;
  bool inside = false;
  for (size_t i = 0; i < answer.len; i++) {
    bool space = answer.ptr[i] == ' ' || (answer.ptr[i] >= '\t' && answer.ptr[i] <= '\r');
    count += !space && !inside;
    inside = !space;
  }
  return (double)count;
}

// One verdict per item, one score per candidate; higher is better.
bool exports_dlm_plugin_judge_score(exports_dlm_plugin_judge_list_item_t *items, exports_dlm_plugin_judge_list_verdict_t *verdicts, exports_dlm_plugin_judge_error_t *error) {
  verdicts->len = items->len;
  verdicts->ptr = malloc(items->len * sizeof *verdicts->ptr);
  for (size_t i = 0; i < items->len; i++) {
    exports_dlm_plugin_judge_item_t *item = &items->ptr[i];
    exports_dlm_plugin_judge_verdict_t *verdict = &verdicts->ptr[i];
    memset(verdict, 0, sizeof *verdict);
    verdict->scores.len = item->candidates.len;
    verdict->scores.ptr = malloc(item->candidates.len * sizeof *verdict->scores.ptr);
    for (size_t j = 0; j < item->candidates.len; j++) verdict->scores.ptr[j] = -words(item->candidates.ptr[j]);
  }
  exports_dlm_plugin_judge_list_item_free(items);
  return true;
}
