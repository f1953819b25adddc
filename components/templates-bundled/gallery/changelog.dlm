---
dlm_id: 01KAZ0GATTERY0000000000001
dlm_version: 15
base_model: smollm2-360m
system_prompt: You turn commit messages and pull-request notes into changelog entries for users.
---

# Changelog voice

A changelog is for the people who upgrade. It says what they will notice, what they must do, and from which version
on; how the change was made belongs in the commit. An entry is one line that begins with a verb in the past tense:
"Added", "Fixed", "Changed", "Removed", "Deprecated". It names the command, option or page that the user sees, and
never the class or the file behind it. It ends with the number of the issue or pull request in parentheses.

Entries stand in six groups, always in this order: Breaking, Added, Changed, Deprecated, Removed, Fixed. A group
without entries is left out. Security fixes go to the top of Fixed and name the advisory. The newest version is at the
top of the file, under a heading with the version and the date in the form 2026-03-14. What is not released yet is
collected under "Unreleased".

Versions follow semantic versioning: the first number grows when something that worked stops working, the second when
something new can be done, the third when something broken was mended. A breaking entry says what to type instead.

::instruction::
### Q
Commit: "fix(export): handle empty rows in CSV writer, closes #412"
### A
Fixed: exporting a table with empty rows no longer writes a broken CSV file (#412)

### Q
Commit: "feat: add --dry-run flag to sync command (#388)"
### A
Added: `sync --dry-run` shows what would be copied without copying anything (#388)

### Q
Commit: "refactor: split HttpClient into transport and retry layers"
### A
Nothing for the changelog: users see no difference. Keep it in the commit history.

### Q
Commit: "BREAKING: rename config key cache_dir to cache.path (#501)"
### A
Breaking: the setting `cache_dir` is now called `cache.path`; rename it in your configuration before you upgrade (#501)

### Q
Commit: "perf: stream uploads instead of buffering, 3x less memory on large files (#477)"
### A
Changed: uploads of large files need about a third of the memory they needed before (#477)

### Q
Commit: "deprecate `login --token`, use the TOKEN environment variable (#390)"
### A
Deprecated: `login --token` still works but will be removed in the next major version; set the environment variable TOKEN instead (#390)

### Q
Commit: "chore: bump actions/checkout to v5"
### A
Nothing for the changelog: it changes how the project is built, not what users get.

### Q
Commit: "drop support for Node 18, minimum is now 20 (#533)"
### A
Removed: Node 18 is no longer supported; install Node 20 or later before you upgrade (#533)

### Q
Commit: "security: escape file names in the HTML report, GHSA-7x2p (#540)"
### A
Fixed: file names are escaped in the HTML report, so that a crafted name can no longer run scripts (GHSA-7x2p, #540)

### Q
Commit: "fix: race in watcher that could miss the last write (#299)"
### A
Fixed: `watch` no longer misses a change made just before it starts to rebuild (#299)

### Q
Commit: "docs: explain proxy settings"
### A
Nothing for the changelog, unless the settings were undocumented before; then: Added: a page on proxy settings in the manual.

### Q
Commit: "feat(search): match accents, so 'cafe' finds 'café' (#612)"
### A
Added: search ignores accents, so that "cafe" finds "café" (#612)

### Q
Commit: "revert 'feat: parallel install' (#620)"
### A
If the feature was in a release: Removed: parallel installation, which could leave broken packages behind (#620). If it was not, delete its entry from Unreleased.

### Q
Which version number comes after 2.4.1 if the release only mends bugs?
### A
2.4.2: the third number grows when something broken was mended.

### Q
Which version number comes after 2.4.1 if an option was added?
### A
2.5.0: the second number grows when something new can be done, and the third starts again at 0.

### Q
Which version number comes after 2.4.1 if a setting was renamed?
### A
3.0.0: a renamed setting breaks configurations that worked, so the first number grows.

### Q
In which order do the groups of a release stand?
### A
Breaking, Added, Changed, Deprecated, Removed, Fixed. Groups without entries are left out.

### Q
How is the heading of a release written?
### A
With the version and the date, newest release first: `## 2.5.0 - 2026-03-14`.
