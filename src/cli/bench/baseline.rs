//! The regular check: is the quality still what it was?

use super::super::Failure;
use super::quality::Quality;
use super::{Findings, Row};
use std::path::Path;

/// Reads what an earlier `bench --format json` has written.
pub(super) fn read(path: &Path) -> Result<Findings, Failure> {
    let shown = path.display();
    let text = std::fs::read(path).map_err(|error| Failure::Input(format!("cannot read {shown}: {error}")))?;
    serde_json::from_slice(&text)
        .map_err(|error| Failure::Input(format!("{shown} is not what `bench --format json` writes: {error}")))
}

/// Measures of quality, all the better the higher.
fn measures(quality: &Quality) -> [(&'static str, Option<f64>); 7] {
    [
        ("mean cosine", Some(quality.cosine_mean)),
        ("first percentile of cosines", Some(quality.cosine_p1)),
        ("worst cosine", Some(quality.cosine_worst)),
        ("Spearman", Some(quality.spearman)),
        ("same top 10", Some(quality.overlap)),
        ("nDCG@10", quality.ndcg),
        ("recall@10", quality.recall),
    ]
}

/// Everything that is lower than it was by more than `max_loss`, a line each.
///
/// # Errors
/// Findings of something else, which cannot be compared.
pub(super) fn losses(was: &Findings, is: &Findings, max_loss: f64) -> Result<Vec<String>, String> {
    let counts = |findings: &Findings| (findings.queries, findings.passages);
    if counts(was) != counts(is) {
        let ((queries, passages), (now_queries, now_passages)) = (counts(was), counts(is));
        return Err(format!(
            "the baseline is of {queries} queries and {passages} passages, this of {now_queries} and {now_passages}: \
             compare on the same texts"
        ));
    }
    if was.reference != is.reference {
        return Err(format!("the baseline holds levels against {}, this against {}", was.reference, is.reference));
    }
    let mut found = Vec::new();
    for before in &was.levels {
        let now = is.levels.iter().find(|row: &&Row| row.level == before.level);
        let now = now.ok_or_else(|| format!("the baseline has the level {}, which was not measured", before.level))?;
        for then in &before.quality {
            let now = now.quality.iter().find(|quality| quality.dimensions == then.dimensions).ok_or_else(|| {
                format!("the baseline has {} at {} dimensions, which was not measured", before.level, then.dimensions)
            })?;
            for ((what, then_value), (_, now_value)) in measures(then).into_iter().zip(measures(now)) {
                let Some(then_value) = then_value else { continue };
                let now_value = now_value.ok_or_else(|| format!("the baseline has {what}, which was not measured"))?;
                // What is no number is no quality. A value that was stored, at most 1, may have lost its last bit.
                let lost = then_value - now_value;
                if lost.is_nan() || lost > max_loss + f64::EPSILON {
                    let (level, dimensions) = (&before.level, then.dimensions);
                    found.push(format!("{level} at {dimensions} dimensions: {what} {then_value:.5} -> {now_value:.5}"));
                }
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(cosine: f64, ndcg: Option<f64>) -> Findings {
        let quality = Quality {
            dimensions: 64,
            cosine_mean: cosine,
            cosine_p1: 0.9,
            cosine_worst: 0.8,
            spearman: 0.7,
            overlap: 0.6,
            ndcg,
            recall: ndcg,
        };
        let row = Row {
            level: "Q4_K_M".into(),
            bytes: 1,
            bits_per_weight: 1.0,
            load_ms: 1.0,
            resident: 1,
            anonymous: None,
            speeds: Vec::new(),
            quality: vec![quality],
        };
        Findings {
            model: "m".into(),
            reference: "F16".into(),
            isa: "scalar".into(),
            threads: 1,
            queries: 2,
            passages: 3,
            free: None,
            levels: vec![row],
            recommendation: String::new(),
        }
    }

    #[test]
    fn a_loss_is_one_beyond_what_is_allowed() {
        let was = findings(0.99, Some(0.5));
        assert_eq!(losses(&was, &findings(0.98, Some(0.5)), 0.02), Ok(vec![]));
        assert_eq!(losses(&was, &findings(1.0, Some(0.6)), 0.0), Ok(vec![]), "better is no loss");
        let lost = losses(&was, &findings(0.98, Some(0.5)), 0.005).unwrap();
        assert_eq!(lost, ["Q4_K_M at 64 dimensions: mean cosine 0.99000 -> 0.98000"]);
        let lost = losses(&was, &findings(f64::NAN, Some(0.1)), 0.2).unwrap();
        assert_eq!(lost.len(), 3, "{lost:?}");
    }

    #[test]
    fn other_things_are_not_compared() {
        let was = findings(0.99, Some(0.5));
        let with = |change: fn(&mut Findings)| {
            let mut is = findings(0.99, Some(0.5));
            change(&mut is);
            losses(&was, &is, 0.0).unwrap_err()
        };
        assert!(with(|is| is.passages = 4).contains("2 queries and 3 passages, this of 2 and 4"));
        assert!(with(|is| is.reference = "Q8_0".into()).contains("against F16, this against Q8_0"));
        assert!(with(|is| is.levels[0].level = "Q8_0".into()).contains("the level Q4_K_M, which was not measured"));
        assert!(with(|is| is.levels[0].quality[0].dimensions = 32).contains("at 64 dimensions, which was not"));
        assert!(with(|is| is.levels[0].quality[0].ndcg = None).contains("nDCG@10, which was not measured"));
    }
}
