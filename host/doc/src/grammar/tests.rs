//! Every error has its text, and every text its error.

use std::collections::BTreeSet;

use super::*;
use crate::error::WarningKind;
use crate::fence::{self, FenceError, Line};
use crate::marker::{self, MarkerError};
use crate::rows::{RowProblem, all_rows};
use crate::{Limits, check, parse};

/// Numbers the variants; the last number is how many there are.
fn fence_number(error: &FenceError) -> usize {
    match error {
        FenceError::UnknownType { .. } => 1,
        FenceError::EmptyAdapter { .. } => 2,
        FenceError::BadAdapter { .. } => 3,
        FenceError::MediaWithoutAttributes { .. } => 4,
        FenceError::UnknownAttributeType { .. } => 5,
        FenceError::TakesNoAttributes { .. } => 6,
        FenceError::RepeatedAttribute { .. } => 7,
        FenceError::UnknownAttribute { .. } => 8,
        FenceError::NonAsciiValue { .. } => 9,
        FenceError::MissingAttributes { .. } => 10,
        FenceError::EmptyAttribute { .. } => 11,
    }
}

fn marker_number(error: &MarkerError) -> usize {
    match error {
        MarkerError::Syntax { .. } => 1,
        MarkerError::Repeated { .. } => 2,
        MarkerError::Unknown { .. } => 3,
        MarkerError::Missing { .. } => 4,
        MarkerError::Value { .. } => 5,
    }
}

fn row_number(problem: &RowProblem) -> usize {
    match problem {
        RowProblem::NoRows { .. } => 1,
        RowProblem::Unexpected { .. } => 2,
        RowProblem::EmptyBody { .. } => 3,
        RowProblem::CutShort { .. } => 4,
    }
}

fn warning_number(kind: WarningKind) -> usize {
    match kind {
        WarningKind::Bom => 1,
        WarningKind::NearMissFence => 2,
        WarningKind::NearMissMarker => 3,
        WarningKind::DroppedKey => 4,
        WarningKind::MediaPath => 5,
        // Needs a section of 200 KB; the page says it in its table of limits.
        WarningKind::LargeSection => 6,
    }
}

fn up_to(last: usize) -> BTreeSet<usize> {
    (1..=last).collect()
}

#[test]
fn every_error_of_a_fence_a_marker_and_a_row_has_its_text() {
    let (mut fences, mut markers, mut found_rows) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for sample in ERRORS {
        for line in sample.text.lines() {
            if let Line::Broken(error) = fence::classify(line) {
                fences.insert(fence_number(&error));
            }
            for kind in SectionKind::ALL {
                if let Some(Err(error)) = marker::read(line, kind) {
                    markers.insert(marker_number(&error));
                }
            }
        }
        for section in parse(&sample.document()).iter().flat_map(|parsed| parsed.sections()) {
            found_rows.extend(
                all_rows(section)
                    .err()
                    .into_iter()
                    .flatten()
                    .map(|e| row_number(&e.problem)),
            );
        }
    }
    assert_eq!(fences, up_to(11), "errors of fences");
    assert_eq!(markers, up_to(5), "errors of markers");
    assert_eq!(found_rows, up_to(4), "errors of rows");
}

#[test]
fn every_text_is_wrong_in_one_way() {
    for sample in ERRORS {
        let report = check(sample.document().as_bytes(), &Limits::default());
        let errors = report.outcome.as_ref().err().map_or(0, |errors| errors.errors.len());
        assert_eq!(errors + report.problems.len(), 1, "{:?}: {report:?}", sample.text);
    }
}

#[test]
fn every_warning_has_its_text() {
    let mut found = BTreeSet::new();
    for sample in WARNINGS {
        let report = check(sample.document().as_bytes(), &Limits::default());
        let parsed = report
            .outcome
            .unwrap_or_else(|errors| panic!("{:?}: {errors}", sample.text));
        assert_eq!(parsed.warnings.len(), 1, "{:?}: {:?}", sample.text, parsed.warnings);
        found.extend(parsed.warnings.iter().map(|warning| warning_number(warning.kind)));
    }
    found.insert(warning_number(WarningKind::LargeSection));
    assert_eq!(found, up_to(6));
}
