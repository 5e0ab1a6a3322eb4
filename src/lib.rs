//! qembed-q.
#![forbid(unsafe_code)]
