// {{does}}.

#include <stdlib.h>
#include <string.h>

#include "{{bindings}}.h"

typedef {{bindings}}_string_t text;

static const char DOCUMENT[] =
    "---\ndlm_version: 15\nbase_model: smollm2-135m\n---\n\n# A first document\n\n"
    "::instruction::\n### Q\nWhat is this?\n\n### A\nA template.\n";

// Called once, before anything else; `location` is where the user's settings say that this source lies.
bool exports_dlm_plugin_templates_open(text *location, exports_dlm_plugin_templates_info_t *info, exports_dlm_plugin_templates_error_t *error) {
  {{bindings}}_string_free(location);
  memset(info, 0, sizeof *info);
  {{bindings}}_string_dup(&info->identity.name, "{{name}}");
  return true;
}

static void describe(exports_dlm_plugin_templates_meta_t *meta) {
  memset(meta, 0, sizeof *meta);
  {{bindings}}_string_dup(&meta->name, "first");
  {{bindings}}_string_dup(&meta->title, "A first document");
  {{bindings}}_string_dup(&meta->summary, "One question and its answer");
  {{bindings}}_string_dup(&meta->recommended_base, "smollm2-135m");
  {{bindings}}_string_dup(&meta->revision, "1");
  meta->sample_prompts.len = 1;
  meta->sample_prompts.ptr = malloc(sizeof(text));
  {{bindings}}_string_dup(&meta->sample_prompts.ptr[0], "What is this?");
}

static bool holds(const char *name, text part) {
  size_t length = strlen(name);
  for (size_t i = 0; i + part.len <= length; i++)
    if (memcmp(name + i, part.ptr, part.len) == 0) return true;
  return false;
}

// The templates, or those that fit a query.
bool exports_dlm_plugin_templates_list(text *maybe_query, exports_dlm_plugin_templates_list_meta_t *templates, exports_dlm_plugin_templates_error_t *error) {
  templates->len = !maybe_query || holds("first", *maybe_query);
  templates->ptr = malloc(sizeof *templates->ptr);
  if (templates->len) describe(&templates->ptr[0]);
  if (maybe_query) {{bindings}}_string_free(maybe_query);
  return true;
}

// One template with its files.
bool exports_dlm_plugin_templates_fetch(text *name, exports_dlm_plugin_templates_bundle_t *bundle, exports_dlm_plugin_templates_error_t *error) {
  static const char START[] = "`{{name}}` has no template `";
  if (name->len != 5 || memcmp(name->ptr, "first", 5) != 0) {
    text told = {.ptr = malloc(sizeof START + name->len), .len = sizeof START + name->len};
    memcpy(told.ptr, START, sizeof START - 1);
    memcpy(told.ptr + sizeof START - 1, name->ptr, name->len);
    told.ptr[told.len - 1] = '`';
    {{bindings}}_string_free(name);
    error->tag = DLM_PLUGIN_TYPES_ERROR_NOT_FOUND;
    error->val.not_found = told;
    return false;
  }
  {{bindings}}_string_free(name);
  memset(bundle, 0, sizeof *bundle);
  describe(&bundle->meta);
  {{bindings}}_string_dup(&bundle->document, DOCUMENT);
  return true;
}
