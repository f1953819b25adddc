//! Skeleton; being written.
fn main() {}
