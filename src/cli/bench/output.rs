//! What was found, as tables and for programs.

use super::super::Failure;
use super::super::table::{Style, grid, size};
use super::quality::Quality;
use super::{Findings, Form};
use std::io::{self, Write};

/// What a level takes and how fast it is.
pub(super) fn costs(findings: &Findings) -> (Vec<String>, Vec<Vec<String>>) {
    let mut head: Vec<String> =
        ["level", "file", "bits a weight", "load", "resident", "anonymous"].map(str::to_owned).into();
    head.extend(findings.levels[0].speeds.iter().map(|pace| format!("tokens/s at {}", pace.tokens)));
    let rows = findings.levels.iter().map(|row| {
        let mut cells = vec![
            row.level.clone(),
            size(row.bytes),
            format!("{:.2}", row.bits_per_weight),
            format!("{:.0} ms", row.load_ms),
            size(row.resident),
            row.anonymous.map_or("?".into(), size),
        ];
        cells.extend(row.speeds.iter().map(|pace| format!("{:.0}", pace.tokens_per_second)));
        cells
    });
    (head, rows.collect())
}

/// What a level loses, at each number of dimensions.
pub(super) fn losses(findings: &Findings) -> (Vec<String>, Vec<Vec<String>>) {
    let judged = findings.queries > 0;
    let mut head: Vec<String> =
        ["level", "dimensions", "cosine: mean", "1st percentile", "worst", "Spearman", "same top 10"]
            .map(str::to_owned)
            .into();
    if judged {
        head.extend(["nDCG@10", "recall@10"].map(str::to_owned));
    }
    let rows = findings.levels.iter().flat_map(|row| row.quality.iter().map(move |quality| (row, quality)));
    let rows = rows.map(|(row, quality)| {
        let mut cells = vec![
            row.level.clone(),
            quality.dimensions.to_string(),
            format!("{:.5}", quality.cosine_mean),
            format!("{:.5}", quality.cosine_p1),
            format!("{:.5}", quality.cosine_worst),
            format!("{:.4}", quality.spearman),
            format!("{:.1} %", 100.0 * quality.overlap),
        ];
        if let (Some(ndcg), Some(recall)) = (quality.ndcg, quality.recall) {
            cells.extend([format!("{ndcg:.4}"), format!("{recall:.4}")]);
        }
        cells
    });
    (head, rows.collect())
}

/// What the numbers were taken on.
pub(super) fn context(findings: &Findings) -> String {
    format!(
        "{}: {} on {} threads; quality against {} on {} queries and {} passages",
        findings.model, findings.isa, findings.threads, findings.reference, findings.queries, findings.passages
    )
}

pub(super) fn show(form: Form, findings: &Findings) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match form {
        Form::Table | Form::Md => {
            let style = if form == Form::Md { Style::Markdown } else { Style::Plain };
            writeln!(out, "{}\n", context(findings))?;
            for (head, rows) in [costs(findings), losses(findings)] {
                let right: Vec<usize> = (1..head.len()).collect();
                writeln!(out, "{}\n", grid(style, &head, rows, &right))?;
            }
            writeln!(out, "{}", findings.recommendation)?;
        }
        Form::Json => {
            serde_json::to_writer_pretty(&mut out, findings).map_err(io::Error::from)?;
            writeln!(out)?;
        }
        Form::Jsonl => {
            for row in &findings.levels {
                serde_json::to_writer(&mut out, row).map_err(io::Error::from)?;
                writeln!(out)?;
            }
        }
        Form::Csv => csv(&mut out, findings).map_err(|error| Failure::Output(error.into()))?,
    }
    Ok(())
}

/// A line for each level and number of dimensions.
fn csv(out: &mut dyn Write, findings: &Findings) -> Result<(), csv::Error> {
    let mut csv = csv::Writer::from_writer(out);
    let mut head: Vec<String> =
        ["level", "bytes", "bits_per_weight", "load_ms", "resident", "anonymous"].map(str::to_owned).into();
    head.extend(findings.levels[0].speeds.iter().map(|pace| format!("tokens_per_second_{}", pace.tokens)));
    head.extend(
        ["dimensions", "cosine_mean", "cosine_p1", "cosine_worst", "spearman", "overlap", "ndcg", "recall"]
            .map(str::to_owned),
    );
    csv.write_record(&head)?;
    let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
    for row in &findings.levels {
        for quality in &row.quality {
            let mut cells = vec![
                row.level.clone(),
                row.bytes.to_string(),
                row.bits_per_weight.to_string(),
                row.load_ms.to_string(),
                row.resident.to_string(),
                row.anonymous.map_or(String::new(), |bytes| bytes.to_string()),
            ];
            cells.extend(row.speeds.iter().map(|pace| pace.tokens_per_second.to_string()));
            cells.push(quality.dimensions.to_string());
            let Quality { cosine_mean, cosine_p1, cosine_worst, spearman, overlap, .. } = quality;
            cells.extend([cosine_mean, cosine_p1, cosine_worst, spearman, overlap].map(f64::to_string));
            cells.extend([number(quality.ndcg), number(quality.recall)]);
            csv.write_record(&cells)?;
        }
    }
    csv.flush()?;
    Ok(())
}
