//! Tables and sizes as people read them.

use bytesize::ByteSize;
use comfy_table::{CellAlignment, Table, presets};

/// A table without lines save the one under its head; the columns `right` hold numbers.
pub(super) fn grid<const N: usize>(
    head: &[&str; N],
    rows: impl Iterator<Item = [String; N]>,
    right: &[usize],
) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(head);
    for row in rows {
        table.add_row(row);
    }
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
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
