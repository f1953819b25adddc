/* Questions from a passage: a sentence `X is Y.` answers the question "What is X?".
 *
 * Plain C, no host: pairs_test.c runs it on this machine. */
#ifndef PAIRS_H
#define PAIRS_H

#include <stdbool.h>
#include <stddef.h>

/* A growing text; `failed` once memory ran out. */
struct text {
    char *bytes;
    size_t len;
    size_t room;
    bool failed;
};

/* Writes a JSON list of at most `count` objects with "question" and "answer"; gives how many. */
size_t write_pairs(const char *passage, size_t len, size_t count, struct text *out);

/* The passage inside of a teacher's request: between `[code]` and `[/code]` on lines of their own, else all of it. */
void find_passage(const char *request, size_t len, const char **passage, size_t *passage_len);

/* The first number in a request, or `otherwise`. */
size_t find_count(const char *request, size_t len, size_t otherwise);

#endif
