//! Which level to take, in words.

use super::super::table::size;
use super::{Findings, Row};

/// The least rank correlation and the most loss of nDCG@10 with which a level still does what the reference does.
const FAITHFUL: f64 = 0.99;
const LOSS: f64 = 0.01;

/// In words: the smallest level that is faithful and fits.
pub(super) fn recommend(findings: &Findings) -> String {
    let best = findings.levels.iter().find(|row| row.level == findings.reference).expect("the reference is a level");
    let loss = |row: &Row| match (best.quality[0].ndcg, row.quality[0].ndcg) {
        (Some(best), Some(own)) => best - own,
        _ => 0.0,
    };
    let fits = |row: &&Row| findings.free.is_none_or(|free| row.resident <= free);
    let faithful = |row: &&Row| row.quality[0].spearman >= FAITHFUL && loss(row) <= LOSS;
    let speed =
        |row: &Row| row.speeds.iter().min_by_key(|pace| pace.tokens.abs_diff(512)).map(|pace| pace.tokens_per_second);
    let mut rule = format!("rank correlation {FAITHFUL} or more");
    if findings.queries > 0 {
        rule += &format!(", nDCG@10 at most {LOSS} below the reference");
    }
    let smallest = findings.levels.iter().filter(fits).filter(faithful).min_by_key(|row| row.resident);
    let Some(chosen) = smallest else {
        return match findings
            .levels
            .iter()
            .filter(fits)
            .max_by(|a, b| a.quality[0].spearman.total_cmp(&b.quality[0].spearman))
        {
            Some(nearest) => format!(
                "On this machine: {}. No level that fits into memory does what {} does ({rule}); this one comes nearest, \
                 with a rank correlation of {:.4}.",
                nearest.level, findings.reference, nearest.quality[0].spearman
            ),
            None => {
                "On this machine: none of them; each takes more memory than is free. Take a smaller level or model."
                    .into()
            }
        };
    };
    let mut words = format!(
        "On this machine: {}. It is the one with the least memory ({}) that does what {} does ({rule}): correlation {:.4}, \
         {:.1} % of the ten nearest texts the same",
        chosen.level,
        size(chosen.resident),
        findings.reference,
        chosen.quality[0].spearman,
        100.0 * chosen.quality[0].overlap
    );
    if let (Some(own), Some(other)) = (speed(chosen), speed(best))
        && chosen.level != best.level
    {
        words += &format!(
            ", at {:.2} times its speed and {:.0} % of its size",
            own / other,
            100.0 * chosen.bytes as f64 / best.bytes as f64
        );
    }
    words += ".";
    let fastest = findings
        .levels
        .iter()
        .filter(fits)
        .filter(faithful)
        .max_by(|a, b| speed(a).unwrap_or(0.0).total_cmp(&speed(b).unwrap_or(0.0)));
    if let Some(fastest) = fastest
        && fastest.level != chosen.level
        && speed(fastest) > speed(chosen).map(|speed| 1.1 * speed)
    {
        words += &format!(
            " If speed matters more: {}, {:.2} times as fast.",
            fastest.level,
            speed(fastest).unwrap_or(0.0) / speed(chosen).unwrap_or(1.0)
        );
    }
    if let Some(cut) = best.quality.get(1) {
        let cheaper = if cut.spearman < chosen.quality[0].spearman { "costs more than" } else { "costs less than" };
        words += &format!(
            " Cutting vectors to {} dimensions {cheaper} this level does: correlation {:.4} with the reference's own weights.",
            cut.dimensions, cut.spearman
        );
    }
    words
}
