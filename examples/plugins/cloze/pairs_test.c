/* cc -Wall -o pairs_test pairs.c pairs_test.c && ./pairs_test */
#include "pairs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures = 0;

static void check(const char *passage, size_t count, const char *expected) {
    struct text out = {0};
    write_pairs(passage, strlen(passage), count, &out);
    if (out.len != strlen(expected) || memcmp(out.bytes, expected, out.len) != 0) {
        printf("for    %s\nwanted %s\nfound  %.*s\n", passage, expected, (int)out.len, out.bytes);
        failures++;
    }
    free(out.bytes);
}

int main(void) {
    check("", 3, "[]");
    check("The ferry is a cable ferry. It is old.", 3,
          "[{\"question\": \"What is the ferry?\", \"answer\": \"The ferry is a cable ferry.\"}]");
    check("Old Percival is a winch.\nGoats are guests. Who is he?", 1,
          "[{\"question\": \"What is Old Percival?\", \"answer\": \"Old Percival is a winch.\"}]");
    check("A \"cat\"\nwas here. Goats are guests.", 2,
          "[{\"question\": \"What was a \\\"cat\\\"?\", \"answer\": \"A \\\"cat\\\" was here.\"}, "
          "{\"question\": \"What are Goats?\", \"answer\": \"Goats are guests.\"}]");
    check("# Heading is here\n\nIn the year that nobody in town liked to talk about it was cold.", 3, "[]");
    check("Is this it? No!", 3, "[]");
    const char *request = "Write exactly 2 pairs.\n\n[ab12]\nOne is it.\n[/ab12]\n\nReply [{\"question\": 1}]";
    const char *passage = NULL;
    size_t len = 0;
    find_passage(request, strlen(request), &passage, &len);
    if (len != strlen("One is it.\n") || memcmp(passage, "One is it.\n", len) != 0) {
        printf("passage: %.*s\n", (int)len, passage);
        failures++;
    }
    if (find_count(request, strlen(request), 3) != 2 || find_count("no", 2, 3) != 3) {
        printf("count\n");
        failures++;
    }
    return failures == 0 ? 0 : 1;
}
