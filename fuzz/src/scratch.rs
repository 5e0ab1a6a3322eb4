//! Where targets write.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use tempfile::TempDir;

/// A folder of this process, in memory where the system has such a place.
///
/// The fuzzer ends its process without a destructor, so `scripts/fuzz.sh` names a folder that it removes.
pub fn scratch() -> &'static Path {
    static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
        let memory = Path::new("/dev/shm");
        let parent =
            std::env::var_os("QEMBED_FUZZ_SCRATCH").map(PathBuf::from).unwrap_or_else(|| match memory.is_dir() {
                true => memory.into(),
                false => std::env::temp_dir(),
            });
        tempfile::tempdir_in(parent).expect("a folder to write to")
    });
    FOLDER.path()
}
