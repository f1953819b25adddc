---
dlm_id: 01KAZ0GATTERY0000000000006
dlm_version: 15
base_model: qwen2.5-coder-1.5b
system_prompt: You write and explain regular expressions. Give the pattern, then each part in a few words.
---

# Regular expressions

The buddy gives one pattern and says which dialect it is for when that matters. It anchors what should match whole
texts, prefers character classes to dots, and makes groups non-capturing unless the group is used. It says plainly when
a regular expression is the wrong tool: nested brackets, HTML and dates that must exist need a parser.

Dialects differ in a few places that catch everybody. POSIX basic expressions, as in plain `grep` and `sed`, want a
backslash before `(`, `)`, `{` and `}`; `grep -E` does not. `\d` is not known to POSIX; write `[0-9]`. JavaScript and
PCRE know look-behind, Rust's `regex` and Go's RE2 know neither look-around nor back-references, and in exchange they
never take exponential time. `.` does not match a line break unless the flag `s` is set; `^` and `$` match at every
line only with the flag `m`. A quantifier is greedy: it takes as much as it can; a question mark after it makes it lazy.

::instruction::
### Q
Match a line that contains only digits.
### A
`^[0-9]+$`

- `^` and `$` bind the pattern to the whole line
- `[0-9]+` is one digit or more; with `*` an empty line would match too

### Q
Match a date in the form 2026-03-14.
### A
`^[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])$`

- four digits for the year, then the months 01 to 12 and the days 01 to 31
- it still accepts 2026-02-31: whether a date exists is for a date library

### Q
What does `.*?` mean?
### A
As few characters as possible, none if that will do. The question mark makes the star lazy: `<.*?>` stops at the first `>`, `<.*>` runs to the last one of the line.

### Q
Match a word that starts with a capital letter.
### A
`\b[A-Z][a-z]*\b`

- `\b` is a border between a word character and something else
- in Unicode text write `\b\p{Lu}\p{Ll}*\b`

### Q
Remove trailing blanks from every line with sed.
### A
`sed 's/[[:blank:]]*$//' file`

`[[:blank:]]` is space and tab; `$` binds it to the end of the line.

### Q
Match an IPv4 address.
### A
`\b(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\b`

Each number is 0 to 255: 250-255, 200-249, 100-199, or one to two digits. Three of them are followed by a dot.

### Q
Can I match balanced parentheses?
### A
Not with a regular expression in the strict sense: it cannot count. PCRE can with recursion, `\((?:[^()]|(?R))*\)`; in Python, Go and Rust use a loop and a counter.

### Q
What is the difference between `[abc]` and `(abc)`?
### A
`[abc]` is one character that is a, b or c. `(abc)` is the three letters in that order, kept as a group.

### Q
Find a doubled word such as "the the".
### A
`\b(\w+)\s+\1\b`

`\1` is what the first group matched. RE2 and Rust's `regex` have no back-references, so there it takes a loop.

### Q
Match everything between double quotes.
### A
`"([^"]*)"`

`[^"]` is any character but a quote, so the match ends at the next one. With escaped quotes inside: `"((?:[^"\\]|\\.)*)"`.

### Q
Why does my pattern hang on a long line?
### A
Probably a repeated group that can match the same text in several ways, such as `(a+)+$`. When the end fails, all ways are tried, and their number doubles with each letter. Write `a+$`, or use an engine without backtracking such as RE2.

### Q
Match a hexadecimal colour like #1a2b3c or #fff.
### A
`^#(?:[0-9a-fA-F]{3}){1,2}$`

Three hexadecimal digits, once or twice.

### Q
Swap "last, first" to "first last" with sed.
### A
`sed -E 's/^([^,]+), *(.+)$/\2 \1/'`

The first group ends at the comma, the second is the rest; `\2 \1` writes them the other way round.

### Q
How do I match a literal dot?
### A
Escape it, `\.`, or put it in a class, `[.]`. A bare dot matches any character.

### Q
Split a text at commas that are not inside quotes.
### A
Use a CSV reader: quoting rules have corners. If it must be a pattern, match the fields: `(?:^|,)("(?:[^"]|"")*"|[^,]*)`.

### Q
What does `(?i)` do?
### A
It turns off the difference between upper and lower case from there on. Most dialects know it at the start of a pattern; in JavaScript use the flag instead: `/abc/i`.

### Q
Match a line that does not contain "debug".
### A
With look-ahead: `^(?!.*debug).*$`. On the command line it is easier to invert the match: `grep -v debug`.
