//! Replays the corpus of the fuzz target `teacher_answers`, whole, cut and damaged.

use std::path::Path;

use crate::teacher_answers::check;

/// Places at which each seed is also cut off and damaged.
const DAMAGES: usize = 64;

#[test]
fn answers_of_teachers_stay_in_their_sections() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/teacher_answers");
    let seeds: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(seeds.len() >= 4, "{seeds:?}");
    for seed in seeds {
        let bytes = std::fs::read(seed).unwrap();
        check(&bytes);
        for number in 0..DAMAGES {
            let place = bytes.len() * number / DAMAGES;
            check(&bytes[..place]);
            let mut changed = bytes.clone();
            changed[place] = changed[place].wrapping_add(1);
            check(&changed);
        }
    }
}
