//! Every value that a guest of any kind returns, wrong in every way that the canonical ABI lets it be: too large, outside the
//! guest's memory, no text, no case. The guests and the walk over their types come from the contract itself.

use dlm_packages::Kind;

use crate::guest::{Chosen, KINDS, Leaf, ZEROS, ZEROS_BYTES, argument, honest};
use crate::guest_values::on_host;

/// How a call went.
struct Outcome {
    /// What was chosen wrongly; nothing where the place is of another sort.
    leaf: Option<Leaf>,
    /// Places in the values of all functions.
    places: usize,
    answer: Result<(), (&'static str, String)>,
}

/// Calls the guest of `kind` with honest values, but for the place with this number.
fn call(kind: Kind, is_full: bool, place: usize, wrong: impl Fn(Leaf) -> Option<Chosen>) -> Outcome {
    let (mut places, mut leaf) = (0, None);
    let argument = argument(kind, &written(), &mut |found| {
        let chosen = (places == place).then(|| wrong(found)).flatten();
        leaf = leaf.or(chosen.as_ref().map(|_| found));
        places += 1;
        chosen.unwrap_or_else(|| honest(kind, found, is_full))
    });
    let answer = on_host(|host| host.call(kind, &argument)).map_err(|error| (error.code, error.to_string()));
    Outcome { leaf, places, answer }
}

/// What the honest target writes.
fn written() -> [(Vec<u8>, Vec<u8>); 1] {
    [(b"a".to_vec(), b"x".to_vec())]
}

/// Puts something wrong into each place in turn; each must end in `code`. The places of a target's launch command, which is
/// refused for its ready path, are reached before that.
#[track_caller]
fn everywhere(wrong: impl Fn(Leaf) -> Option<Chosen>, code: &str, part: &str) {
    let mut tried = 0;
    for (kind, is_full) in KINDS.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let usual = call(kind, is_full, usize::MAX, |_| None);
        let is_refused = |message: &str| message.contains("the ready path `a` does not begin");
        for place in 0..usual.places {
            let outcome = call(kind, is_full, place, &wrong);
            let Some(leaf) = outcome.leaf else { continue };
            let Err((found, message)) = outcome.answer else {
                panic!("{kind}, place {place}, {leaf:?}: it was taken");
            };
            if kind == Kind::Target && is_full && is_refused(&message) {
                continue;
            }
            assert_eq!(found, code, "{kind}, place {place}, {leaf:?}: {message}");
            assert!(
                message.contains(part) && message.contains("`hostile` 0.0.1"),
                "{message}"
            );
            tried += 1;
        }
        // The same host goes on.
        match call(kind, is_full, usize::MAX, |_| None).answer {
            Ok(()) => {}
            Err((_, message)) => assert!(
                kind == Kind::Target && is_full && is_refused(&message),
                "{kind}: {message}"
            ),
        }
    }
    assert!(tried >= 20, "{tried} places");
}

#[test]
fn texts_and_lists_that_are_too_large_are_not_taken_over() {
    let zeros = |leaf| match leaf {
        Leaf::Text => Some(Chosen::Raw(ZEROS, ZEROS_BYTES)),
        Leaf::List(size) => Some(Chosen::Raw(ZEROS, ZEROS_BYTES / u32::try_from(size).unwrap())),
        _ => None,
    };
    everywhere(zeros, "plugin::limit", "1 MiB of data in one call");
}

#[test]
fn values_outside_the_guests_memory_are_a_crash_of_the_guest() {
    for (pointer, length) in [
        (ZEROS + ZEROS_BYTES - 8, 16),
        (u32::MAX - 7, 8),
        (ZEROS, u32::MAX),
        (0x7fff_fff8, 1 << 20),
    ] {
        let outside = |leaf| match leaf {
            Leaf::Text | Leaf::List(_) => Some(Chosen::Raw(pointer, length)),
            _ => None,
        };
        everywhere(outside, "plugin::crashed", "crashed in `");
    }
}

#[test]
fn texts_that_are_no_text_are_a_crash_of_the_guest() {
    for wrong in [&b"\xff"[..], b"a\xc0\xaf", b"\xed\xa0\x80"] {
        let broken = |leaf| (leaf == Leaf::Text).then(|| Chosen::Text(wrong.to_vec()));
        everywhere(broken, "plugin::crashed", "crashed in `");
    }
}

#[test]
fn cases_that_are_not_there_are_a_crash_of_the_guest() {
    let unknown = |leaf| matches!(leaf, Leaf::Case(_) | Leaf::Option).then_some(Chosen::Bits(200));
    everywhere(unknown, "plugin::crashed", "crashed in `");
}

#[test]
fn errors_of_every_case_are_cut_and_shown_inert() {
    let harmful = format!("\u{1b}]0;x\u{7}\u{202e}\n{}", "é".repeat(40_000));
    for kind in KINDS {
        for case in 0..12 {
            let mut cases = 0;
            let argument = argument(kind, &[], &mut |leaf| match leaf {
                Leaf::Case(2) if cases == 0 => {
                    cases += 1;
                    Chosen::Bits(1)
                }
                Leaf::Case(12) => Chosen::Bits(case),
                Leaf::Text => Chosen::Text(harmful.clone().into_bytes()),
                other => honest(kind, other, true),
            });
            // What is shown is checked in the call.
            let error = on_host(|host| host.call(kind, &argument)).unwrap_err();
            assert!(
                error.to_string().len() < 40_000,
                "{kind}, {case}: {} bytes",
                error.to_string().len()
            );
        }
    }
}
