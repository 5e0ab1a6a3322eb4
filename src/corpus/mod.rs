//! Many texts in, many vectors out: the forms in which people have the one and want the other, in bounded memory.

mod lines;
mod npy;

pub use lines::{LineError, Lines};
pub use npy::NpyWriter;
