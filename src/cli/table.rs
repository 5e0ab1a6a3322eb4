//! Tables and sizes as people read them.

use bytesize::ByteSize;
use comfy_table::{CellAlignment, Table, presets};

/// How a table looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// No lines: columns alone.
    Plain,
    Markdown,
}

/// A table whose columns `right` hold numbers.
pub(super) fn grid<R: IntoIterator<Item = String>>(
    style: Style,
    head: &[impl AsRef<str>],
    rows: impl IntoIterator<Item = R>,
    right: &[usize],
) -> String {
    let mut table = Table::new();
    table.load_preset(if style == Style::Markdown { presets::ASCII_MARKDOWN } else { presets::NOTHING });
    table.set_header(head.iter().map(AsRef::as_ref).collect::<Vec<&str>>());
    for row in rows {
        table.add_row(row.into_iter().collect::<Vec<_>>());
    }
    for (i, column) in table.column_iter_mut().enumerate() {
        if style == Style::Plain {
            column.set_padding((0, 2));
        }
        if right.contains(&i) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// Bytes in binary units.
pub(super) fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}
