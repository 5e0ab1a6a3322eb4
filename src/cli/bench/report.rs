//! The page of `--report`: one file, nothing fetched, for light and dark.

use super::Findings;
use super::output::{context, costs, losses};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use plotters::coord::Shift;
use plotters::prelude::*;

/// Stand for colours that the page chooses, since a plot knows of no theme.
const INK: RGBColor = RGBColor(1, 2, 3);
const FAINT: RGBColor = RGBColor(4, 5, 6);
/// Of points and lines: told apart on white and on black, also by the colour-blind (after Okabe and Ito, 2008).
const SERIES: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(128, 128, 128),
];

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1a1a1a; --faint: #d0d0d0; --page: #ffffff; --note: #eef4fb; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --faint: #444444; --page: #16181b; --note: #22303f; } }
body { color: var(--ink); background: var(--page); font: 16px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 14px; display: block; overflow-x: auto; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--faint); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 1rem; }
svg { width: 100%; height: auto; }
.note { background: var(--note); padding: .8rem 1rem; border-radius: .4rem; }
";

type Failed = Box<dyn std::error::Error>;

/// The whole page.
pub(super) fn page(findings: &Findings) -> String {
    let spearman = |i: usize| findings.levels[i].quality[0].spearman;
    let count = findings.levels.len();
    let label = |i: usize| findings.levels[i].level.clone();
    let mut plots = vec![
        Plot {
            title: "File size and quality",
            x: "file, MiB",
            y: "Spearman against the reference",
            series: (0..count)
                .map(|i| (label(i), vec![(findings.levels[i].bytes as f64 / f64::from(1 << 20), spearman(i))]))
                .collect(),
        },
        Plot {
            title: "Dimensions and quality",
            x: "dimensions",
            y: "Spearman against the full reference",
            series: (0..count)
                .map(|i| {
                    let quality = &findings.levels[i].quality;
                    (label(i), quality.iter().map(|q| (q.dimensions as f64, q.spearman)).collect())
                })
                .collect(),
        },
    ];
    for (pace, title) in findings.levels[0].speeds.iter().enumerate().zip(["Speed and quality"].iter().cycle()) {
        let (at, tokens) = (pace.0, pace.1.tokens);
        if findings.levels[0].speeds.iter().any(|other| other.tokens.abs_diff(512) < tokens.abs_diff(512)) {
            continue; // the length nearest to 512 speaks for all
        }
        plots.insert(
            1,
            Plot {
                title,
                x: "tokens per second, texts of about 512 tokens",
                y: "Spearman against the reference",
                series: (0..count)
                    .filter_map(|i| {
                        Some((label(i), vec![(findings.levels[i].speeds.get(at)?.tokens_per_second, spearman(i))]))
                    })
                    .collect(),
            },
        );
    }
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Quantization levels of " (findings.model) }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Quantization levels of " (findings.model) }
                p { (context(findings)) "." }
                div.plots {
                    @for plot in &plots {
                        figure style="margin:0" { (plot.svg()) }
                    }
                }
                h2 { "What a level costs" }
                (table(costs(findings)))
                p { "Resident memory has the pages of the mapped file in it, which the system can take back; anonymous memory is the \
                     program's own. Both are peaks over loading and texts of up to 512 tokens." }
                h2 { "What a level loses" }
                (table(losses(findings)))
                p { "Cosine: each text against the reference cut to the same dimensions. Spearman: ranks of the similarities of all pairs \
                     of texts against the reference at its full dimensions. Same top 10: of each text's ten nearest neighbours, the part \
                     that is the same." }
                h2 { "Which level?" }
                p.note { (findings.recommendation) }
            }
        }
    };
    page.into_string()
}

fn table((head, rows): (Vec<String>, Vec<Vec<String>>)) -> Markup {
    html! {
        table {
            thead { tr { @for cell in &head { th { (cell) } } } }
            tbody { @for row in &rows { tr { @for cell in row { td { (cell) } } } } }
        }
    }
}

struct Plot {
    title: &'static str,
    x: &'static str,
    y: &'static str,
    /// Of each level, its points: one is a dot with a name, several are a line.
    series: Vec<(String, Vec<(f64, f64)>)>,
}

impl Plot {
    fn svg(&self) -> Markup {
        let mut svg = String::new();
        if let Err(error) = self.draw(&SVGBackend::with_string(&mut svg, (560, 380)).into_drawing_area()) {
            return html! { p { (self.title) ": cannot be drawn: " (error) } };
        }
        let colour = |RGBColor(r, g, b): RGBColor| format!("#{r:02X}{g:02X}{b:02X}");
        // The size stays as the view box alone, so that the page scales it.
        let svg = svg.replace("width=\"560\" height=\"380\" ", "role=\"img\" ");
        PreEscaped(svg.replace(&colour(INK), "var(--ink)").replace(&colour(FAINT), "var(--faint)"))
    }

    fn draw(&self, area: &DrawingArea<SVGBackend, Shift>) -> Result<(), Failed> {
        let points = || self.series.iter().flat_map(|(_, points)| points);
        let range = |values: &mut dyn Iterator<Item = f64>| {
            let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(x), high.max(x)));
            let room = (high - low).max(high.abs() * 1e-3).max(1e-6) * 0.12;
            low - room..high + room
        };
        let text = |size: i32| TextStyle::from(("sans-serif", size)).color(&INK);
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, text(18))
            .margin(8)
            .x_label_area_size(44)
            .y_label_area_size(66)
            .build_cartesian_2d(range(&mut points().map(|p| p.0)), range(&mut points().map(|p| p.1)))?;
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .axis_desc_style(text(13))
            .label_style(text(12))
            .axis_style(INK)
            .bold_line_style(FAINT)
            .light_line_style(TRANSPARENT)
            .x_labels(6)
            .y_labels(6)
            .y_label_formatter(&|y| format!("{y:.4}"))
            .x_label_formatter(&|x| format!("{x:.0}"))
            .draw()?;
        for ((name, points), colour) in self.series.iter().zip(SERIES.iter().cycle()) {
            let dot = |point: &(f64, f64)| EmptyElement::at(*point) + Circle::new((0, 0), 4, colour.filled());
            if let [point] = points[..] {
                chart.draw_series([dot(&point) + Text::new(name.clone(), (7, -6), text(12))])?;
                continue;
            }
            chart.draw_series(points.iter().map(dot))?;
            chart
                .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
                .label(name)
                .legend(|(x, y)| Circle::new((x + 8, y), 4, colour.filled()));
        }
        if self.series.iter().any(|(_, points)| points.len() > 1) {
            chart.configure_series_labels().position(SeriesLabelPosition::LowerRight).label_font(text(12)).draw()?;
        }
        area.present()?;
        Ok(())
    }
}
