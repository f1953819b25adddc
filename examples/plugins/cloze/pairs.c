#include "pairs.h"

#include <stdlib.h>
#include <string.h>

/* A longer subject is a clause, and the question about it would be clumsy. */
enum { SUBJECT_WORDS_MAX = 6, SUBJECT_BYTES_MAX = 80 };

static void add(struct text *out, const char *bytes, size_t len) {
    if (out->failed) {
        return;
    }
    if (out->room - out->len < len) {
        size_t room = (out->len + len) * 2 + 64;
        char *grown = realloc(out->bytes, room);
        if (grown == NULL) {
            out->failed = true;
            return;
        }
        out->bytes = grown;
        out->room = room;
    }
    memcpy(out->bytes + out->len, bytes, len);
    out->len += len;
}

static void add_text(struct text *out, const char *text) {
    add(out, text, strlen(text));
}

/* Adds a piece of a JSON string; line breaks become blanks, because a sentence is one line. */
static void add_escaped(struct text *out, const char *bytes, size_t len) {
    static const char hex[] = "0123456789abcdef";
    for (size_t at = 0; at < len; at++) {
        unsigned char c = (unsigned char)bytes[at];
        if (c == '\n' || c == '\r' || c == '\t') {
            add(out, " ", 1);
        } else if (c == '"' || c == '\\') {
            char escaped[2] = {'\\', (char)c};
            add(out, escaped, 2);
        } else if (c < 0x20) {
            char escaped[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
            add(out, escaped, 6);
        } else {
            add(out, bytes + at, 1);
        }
    }
}

static bool is_blank(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static bool is_end(char c) {
    return c == '.' || c == '!' || c == '?';
}

static bool starts(const char *bytes, size_t len, const char *word) {
    size_t word_len = strlen(word);
    return len >= word_len && memcmp(bytes, word, word_len) == 0;
}

/* Words that point to something outside of their own sentence. */
static bool is_pointing(const char *subject, size_t len) {
    static const char *const words[] = {"It", "He", "She", "They", "We", "I", "You", "This", "That", "These", "Those",
                                        "There", "Here", "Which", "Who", "What", "Its", "His", "Her", "Their", "Our", "My",
                                        "But", "And", "Or", "So", "If", "When", "Because", "As"};
    for (size_t at = 0; at < sizeof words / sizeof *words; at++) {
        size_t word_len = strlen(words[at]);
        if (starts(subject, len, words[at]) && (len == word_len || is_blank(subject[word_len]))) {
            return true;
        }
    }
    return false;
}

static size_t count_words(const char *bytes, size_t len) {
    size_t words = 0;
    for (size_t at = 0; at < len; at++) {
        words += !is_blank(bytes[at]) && (at == 0 || is_blank(bytes[at - 1]));
    }
    return words;
}

/* Compares with a verb between blanks; a line may be broken at either of them. */
static bool is_verb(const char *bytes, const char *verb, size_t verb_len) {
    for (size_t at = 0; at < verb_len; at++) {
        if (verb[at] == ' ' ? !is_blank(bytes[at]) : bytes[at] != verb[at]) {
            return false;
        }
    }
    return true;
}

/* Writes one pair if the sentence has the form; `verb` is such as " is ". */
static bool pair_of(const char *sentence, size_t len, const char *verb, bool is_first, struct text *out) {
    size_t verb_len = strlen(verb);
    for (size_t at = 1; at + verb_len < len; at++) {
        if (!is_verb(sentence + at, verb, verb_len)) {
            continue;
        }
        bool is_plain = memchr(sentence, ',', at) == NULL && memchr(sentence, '#', at) == NULL;
        if (!is_plain || at > SUBJECT_BYTES_MAX || count_words(sentence, at) > SUBJECT_WORDS_MAX ||
            is_pointing(sentence, at)) {
            return false;
        }
        bool is_article = starts(sentence, at, "The ") || starts(sentence, at, "A ") || starts(sentence, at, "An ");
        char first = is_article ? (char)(sentence[0] + ('a' - 'A')) : sentence[0];
        add_text(out, is_first ? "{\"question\": \"What" : ", {\"question\": \"What");
        add(out, verb, verb_len);
        add_escaped(out, &first, 1);
        add_escaped(out, sentence + 1, at - 1);
        add_text(out, "?\", \"answer\": \"");
        add_escaped(out, sentence, len);
        add_text(out, "\"}");
        return true;
    }
    return false;
}

size_t write_pairs(const char *passage, size_t len, size_t count, struct text *out) {
    static const char *const verbs[] = {" is ", " are ", " was ", " were "};
    size_t found = 0;
    add_text(out, "[");
    for (size_t from = 0; from < len && found < count;) {
        while (from < len && is_blank(passage[from])) {
            from++;
        }
        size_t to = from;
        /* A sentence ends at a mark before a blank, or at an empty line, such as the one below a heading. */
        while (to < len && !(is_end(passage[to]) && (to + 1 == len || is_blank(passage[to + 1]))) &&
               !(passage[to] == '\n' && to + 1 < len && passage[to + 1] == '\n')) {
            to++;
        }
        bool is_whole = to < len && is_end(passage[to]) && passage[to] == '.';
        size_t end = to < len && is_end(passage[to]) ? to + 1 : to;
        for (size_t at = 0; is_whole && at < sizeof verbs / sizeof *verbs; at++) {
            if (pair_of(passage + from, end - from, verbs[at], found == 0, out)) {
                found++;
                break;
            }
        }
        from = end > from ? end : from + 1;
    }
    add_text(out, "]");
    return found;
}

void find_passage(const char *request, size_t len, const char **passage, size_t *passage_len) {
    *passage = request;
    *passage_len = len;
    for (size_t at = 0; at < len; at++) {
        bool is_line = request[at] == '[' && (at == 0 || request[at - 1] == '\n');
        const char *close = is_line ? memchr(request + at, ']', len - at) : NULL;
        size_t close_at = close ? (size_t)(close - request) : 0;
        if (close == NULL || close_at + 1 >= len || request[close_at + 1] != '\n') {
            continue;
        }
        const char *code = request + at + 1;
        size_t code_len = close_at - at - 1;
        size_t from = close_at + 2;
        for (size_t end = from; end + code_len + 3 <= len; end++) {
            if (request[end] == '[' && request[end + 1] == '/' && memcmp(request + end + 2, code, code_len) == 0 &&
                request[end + 2 + code_len] == ']') {
                *passage = request + from;
                *passage_len = end - from;
                return;
            }
        }
    }
}

size_t find_count(const char *request, size_t len, size_t otherwise) {
    for (size_t at = 0; at < len; at++) {
        if (request[at] >= '0' && request[at] <= '9') {
            size_t number = 0;
            while (at < len && request[at] >= '0' && request[at] <= '9' && number < 1000) {
                number = number * 10 + (size_t)(request[at] - '0');
                at++;
            }
            return number;
        }
    }
    return otherwise;
}
