---
dlm_id: 01KAZ0GATTERY0000000000007
dlm_version: 15
base_model: qwen2.5-coder-1.5b
system_prompt: You answer with one POSIX shell command and one sentence that explains it.
---

# Shell one-liners

One task, one line. The line runs in a POSIX shell with the usual tools; where GNU and BSD tools differ, the answer says
so. Names with blanks are handled: variables are quoted, `find` hands names over with `-exec … {} +`, and lists of names
are separated by zero bytes where `xargs` is used. A command that deletes or overwrites comes with the harmless form
first, so that one can look before one acts.

Some habits keep one-liners honest. `set -o pipefail` is not in every POSIX shell, so a pipe's status is that of its last
command. `ls` is for people; scripts use globs or `find`. `sort -u` is `sort | uniq`. `uniq` only sees neighbours, so it
follows a `sort`. `2>&1` sends errors where output goes, and its place in the line matters: `cmd >file 2>&1` catches
both, `cmd 2>&1 >file` does not. `$(…)` nests, backticks do not. `printf` is portable, `echo -e` is not.

::instruction::
### Q
Find the ten largest files below this folder.
### A
`find . -type f -exec du -k {} + | sort -rn | head -n 10`

`du -k` prints kilobytes and the name, and the largest come first.

### Q
Count the lines of all Python files.
### A
`find . -name '*.py' -type f -exec cat {} + | wc -l`

`-exec … {} +` hands over many names at once and copes with blanks in them.

### Q
Show the lines that are in a.txt and not in b.txt.
### A
`sort a.txt >a.sorted; sort b.txt | comm -23 a.sorted -`

`comm -23` leaves out what is only in the second and what is in both.

### Q
Replace "colour" by "color" in every text file.
### A
`find . -name '*.txt' -exec sed -i.bak 's/colour/color/g' {} +`

`-i.bak` keeps a copy of each file and works with GNU and BSD sed; look first with `grep -rn colour .`

### Q
Delete all empty folders.
### A
`find . -depth -type d -empty -delete`

`-depth` goes from the inside out, so that a folder that becomes empty is removed too; run it with `-print` instead of `-delete` first.

### Q
Which process listens on port 8080?
### A
`lsof -nP -iTCP:8080 -sTCP:LISTEN`

`-nP` shows numbers instead of names; on Linux `ss -ltnp 'sport = :8080'` does the same.

### Q
Print the second column of a CSV file without quotes in it.
### A
`cut -d, -f2 data.csv`

`-d,` sets the separator; for quoted fields use a CSV tool, since `cut` splits inside of quotes.

### Q
Add up the numbers in the first column.
### A
`awk '{ sum += $1 } END { print sum + 0 }' numbers.txt`

`+ 0` prints 0 for an empty file.

### Q
Show the five most frequent words of a file.
### A
`tr -cs '[:alpha:]' '\n' <text.txt | tr '[:upper:]' '[:lower:]' | sort | uniq -c | sort -rn | head -n 5`

The first `tr` puts each word on its own line, and `uniq -c` counts neighbours after the sort.

### Q
Rename all .jpeg files to .jpg.
### A
`for f in *.jpeg; do mv -- "$f" "${f%.jpeg}.jpg"; done`

`${f%.jpeg}` cuts the ending, the quotes keep blanks together, and `--` protects against names that begin with a dash.

### Q
Run a command again until it succeeds.
### A
`until make test; do sleep 5; done`

`until` repeats while the command's status is not 0.

### Q
Write output to a file and see it at the same time.
### A
`make 2>&1 | tee build.log`

`2>&1` sends errors along; the status is that of `tee`, not of `make`.

### Q
Show lines 20 to 30 of a file.
### A
`sed -n '20,30p;30q' file`

`-n` prints only what `p` asks for, and `30q` stops reading there.

### Q
How much space does each folder here take?
### A
`du -sk -- */ | sort -rn`

`-s` gives one sum per folder, `-k` counts in kilobytes.

### Q
Copy a folder to another machine and show progress.
### A
`rsync -a --info=progress2 src/ user@host:dst/`

The slash after `src` copies what is in the folder and not the folder itself.

### Q
Find files changed within the last day.
### A
`find . -type f -mtime -1`

`-mtime -1` means less than one time twenty-four hours ago.

### Q
Check whether a variable is set, in a script.
### A
`: "${HOME_DIR:?set HOME_DIR first}"`

The script ends with that message when the variable is unset or empty; the colon does nothing else.

### Q
Remove Windows line ends from a file.
### A
`tr -d '\r' <in.txt >out.txt`

`tr` deletes every carriage return; never write to the file that is being read.
