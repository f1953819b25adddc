//! Cross-crate tests live in `tests/cli`, `tests/golden` and `tests/guests`.
