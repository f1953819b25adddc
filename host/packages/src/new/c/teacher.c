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

// Called once for each worker, before anything else.
bool exports_dlm_plugin_teacher_open(text *argument, exports_dlm_plugin_teacher_info_t *info, exports_dlm_plugin_teacher_error_t *error) {
  if (argument->len > 0) {
    error->tag = DLM_PLUGIN_TYPES_ERROR_INVALID_INPUT;
    error->val.invalid_input = joined("`{{name}}` takes no argument, found `", *argument, "`");
    return false;
  }
  memset(info, 0, sizeof *info);
  {{bindings}}_string_dup(&info->identity.name, "{{name}}");
  info->max_concurrency = 1;
  return true;
}

// A text that grows.
struct growing {
  uint8_t *ptr;
  size_t len, room;
};

static void add(struct growing *out, const uint8_t *bytes, size_t len) {
  if (out->room - out->len < len) {
    out->room = (out->len + len) * 2;
    uint8_t *grown = malloc(out->room);
    memcpy(grown, out->ptr, out->len);
    free(out->ptr);
    out->ptr = grown;
  }
  memcpy(out->ptr + out->len, bytes, len);
  out->len += len;
}

static void say(struct growing *out, const char *words) { add(out, (const uint8_t *)words, strlen(words)); }

static bool is_blank(uint8_t c) { return c <= ' '; }
static bool is_end(uint8_t c) { return c == '.' || c == '!' || c == '?'; }

// Words inside of a JSON string, one blank between them; `most` is how many.
static void add_words(struct growing *out, text sentence, size_t most) {
  bool is_word = false;
  size_t words = 0;
  for (size_t i = 0; i < sentence.len; i++) {
    uint8_t c = sentence.ptr[i];
    if (is_blank(c)) {
      is_word = false;
      continue;
    }
    if (!is_word && words++ == most) return;
    if (!is_word && words > 1) say(out, " ");
    is_word = true;
    if (c == '"' || c == '\\') say(out, "\\");
    add(out, &c, 1);
  }
}

static size_t count_words(text sentence) {
  size_t words = 0;
  for (size_t i = 0; i < sentence.len; i++)
    words += !is_blank(sentence.ptr[i]) && (i == 0 || is_blank(sentence.ptr[i - 1]));
  return words;
}

// What stands between the lines `[CODE]` and `[/CODE]`.
static text passage(text asked) {
  for (size_t i = 0; i < asked.len; i++) {
    if (asked.ptr[i] != '[' || (i > 0 && asked.ptr[i - 1] != '\n')) continue;
    size_t close = i + 1;
    while (close < asked.len && asked.ptr[close] != ']' && asked.ptr[close] != '\n') close++;
    if (close + 1 >= asked.len || asked.ptr[close] != ']' || asked.ptr[close + 1] != '\n') continue;
    size_t code = close - i - 1, from = close + 2;
    for (size_t end = from; end + code + 4 <= asked.len; end++)
      if (memcmp(asked.ptr + end, "\n[/", 3) == 0 && memcmp(asked.ptr + end + 3, asked.ptr + i + 1, code) == 0 &&
          asked.ptr[end + 3 + code] == ']')
        return (text){.ptr = asked.ptr + from, .len = end - from};
    return asked;
  }
  return asked;
}

// How many pairs are wanted: the first number of the question.
static size_t count(text asked) {
  size_t i = 0, number = 0;
  while (i < asked.len && (asked.ptr[i] < '0' || asked.ptr[i] > '9')) i++;
  if (i == asked.len) return 1;
  while (i < asked.len && asked.ptr[i] >= '0' && asked.ptr[i] <= '9' && number < 1000000)
    number = number * 10 + (asked.ptr[i++] - '0');
  return number;
}

// One answer to one prompt: `wit/teacher.wit` says what is asked and what is expected.
bool exports_dlm_plugin_teacher_complete(exports_dlm_plugin_teacher_request_t *request, exports_dlm_plugin_teacher_completion_t *completion, exports_dlm_plugin_teacher_error_t *error) {
  struct growing out = {.ptr = malloc(64), .len = 0, .room = 64};
  text rest = passage(request->user);
  size_t wanted = count(request->user), pairs = 0;
  say(&out, "[");
  while (rest.len > 0 && pairs < wanted) {
    if (is_blank(*rest.ptr) || *rest.ptr == '#') {
      // A heading is passed over to the end of its line.
      bool is_heading = *rest.ptr == '#';
      do {
        rest.ptr++;
        rest.len--;
      } while (is_heading && rest.len > 0 && *rest.ptr != '\n');
      continue;
    }
    text sentence = {.ptr = rest.ptr, .len = 0};
    while (sentence.len < rest.len && !is_end(rest.ptr[sentence.len])) sentence.len++;
    if (sentence.len < rest.len) sentence.len++;
    rest.ptr += sentence.len;
    rest.len -= sentence.len;
    size_t words = count_words(sentence);
    if (words < 4) continue;
    say(&out, pairs++ ? ", {\"question\": \"Complete the sentence: " : "{\"question\": \"Complete the sentence: ");
    add_words(&out, sentence, words / 2);
    say(&out, " …\", \"answer\": \"");
    add_words(&out, sentence, words);
    say(&out, "\"}");
  }
  say(&out, "]");
  memset(completion, 0, sizeof *completion);
  completion->text = (text){.ptr = out.ptr, .len = out.len};
  completion->usage.requests = 1;
  exports_dlm_plugin_teacher_request_free(request);
  return true;
}
