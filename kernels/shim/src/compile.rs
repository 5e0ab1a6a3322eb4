//! C++ into machine code, by clang, as it is asked for; what was once compiled is found again by what it was made of.

use std::ffi::CString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, fs};

/// The headers in place of Metal's.
const HEADERS: [(&str, &str); 3] = [
    ("fibers.h", include_str!("../msl/fibers.h")),
    ("metal_stdlib", include_str!("../msl/metal_stdlib")),
    ("metal_simdgroup_matrix", include_str!("../msl/metal_simdgroup_matrix")),
];

/// clang++, of a version that knows `_Float16` on this machine.
const COMPILERS: [&str; 6] = ["clang++-20", "clang++-19", "clang++-18", "clang++-17", "clang++-16", "clang++"];

/// One entry of a compiled kernel.
pub(crate) type Entry = unsafe extern "C" fn(*mut crate::Launch) -> i32;

fn compiler() -> Result<&'static str, String> {
    static FOUND: OnceLock<Option<&str>> = OnceLock::new();
    let runs = |name: &&str| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    FOUND.get_or_init(|| COMPILERS.into_iter().find(runs)).ok_or_else(|| {
        "the Metal kernels are tested as C++, for which there is no clang++ here: apt-get install clang-19, or another from 16 on"
            .to_string()
    })
}

/// Whether kernels are compiled with AddressSanitizer, whose library must then be loaded before all else.
fn sanitized() -> bool {
    env::var_os("SHIM_SANITIZE").is_some()
}

/// Where headers and machine code are kept: a folder of its own for each content.
fn folder() -> PathBuf {
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or(Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    target.join("metal-shim")
}

/// A name for content.
fn name_of(content: &impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Puts a file there as a whole or not at all: several processes may do it at once.
fn put(path: &Path, make: impl FnOnce(&Path) -> Result<(), String>) -> Result<(), String> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    if path.exists() {
        return Ok(());
    }
    let unique = format!("part-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let part = path.with_extension(unique);
    make(&part)?;
    fs::rename(&part, path).map_err(|e| format!("{}: {e}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    put(path, |part| fs::write(part, text).map_err(|e| format!("{}: {e}", part.display())))
}

/// The headers, in a folder, and the source beside them.
fn lay_out(source: &str) -> Result<(PathBuf, PathBuf), String> {
    let headers = folder().join(name_of(&HEADERS));
    fs::create_dir_all(&headers).map_err(|e| format!("{}: {e}", headers.display()))?;
    for (name, text) in HEADERS {
        write(&headers.join(name), text)?;
    }
    let path = headers.join(format!("{}.cpp", name_of(&source)));
    write(&path, source)?;
    Ok((headers, path))
}

fn clang(headers: &Path, source: &Path, flags: &[&str], output: Option<&Path>) -> Result<(), String> {
    let mut command = Command::new(compiler()?);
    // Metal is C++14 with a few things more. Nothing is contracted: values are those of the scalar code, bit for bit.
    command.args([
        "-std=c++17",
        "-ffp-contract=off",
        // Every processor of these years converts halves.
        "-mf16c",
        "-Wall",
        "-Wno-ignored-attributes",
        "-Wno-unused",
        "-Wno-unused-command-line-argument",
        "-Wno-duplicate-decl-specifier",
    ]);
    command.args(["-Werror", "-I"]).arg(headers).args(flags).arg(source);
    if let Some(output) = output {
        command.arg("-o").arg(output);
    }
    let output = command.output().map_err(|e| e.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// Checks that no pointer into one of Metal's memories is taken for one into another.
pub(crate) fn check_address_spaces(source: &str) -> Result<(), String> {
    let (headers, path) = lay_out(source)?;
    put(&path.with_extension("checked"), |part| {
        clang(&headers, &path, &["-fsyntax-only", "-DSHIM_ADDRESS_SPACES"], None)?;
        fs::write(part, "").map_err(|e| format!("{}: {e}", part.display()))
    })
}

/// Machine code in this process, which stays there.
pub(crate) struct Library {
    handle: NonNull<libc::c_void>,
    path: PathBuf,
}

// SAFETY: what a handle of `dlopen` leads to may be asked for by every thread.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Library {
    /// What clang makes of `source`.
    pub(crate) fn load(source: &str) -> Result<Self, String> {
        let (headers, cpp) = lay_out(source)?;
        let path = cpp.with_extension(if sanitized() { "asan.so" } else { "so" });
        put(&path, |part| {
            let sanitizer = if sanitized() { "-fsanitize=address" } else { "-fno-sanitize=all" };
            let object = PathBuf::from(format!("{}.o", part.display()));
            clang(&headers, &cpp, &["-O2", "-g1", "-fPIC", "-c", sanitizer], Some(&object))?;
            // Without the flag: what AddressSanitizer's code calls is in a library that the process has already.
            clang(&headers, &object, &["-shared"], Some(part))?;
            fs::remove_file(&object).map_err(|e| format!("{}: {e}", object.display()))
        })?;
        let name = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|e| e.to_string())?;
        // SAFETY: a library that was just made, and does nothing when it is loaded.
        match NonNull::new(unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) }) {
            Some(handle) => Ok(Self { handle, path }),
            None => {
                // SAFETY: after a failure, which this thread alone has had.
                let words = unsafe { std::ffi::CStr::from_ptr(libc::dlerror()) };
                Err(words.to_string_lossy().into_owned())
            }
        }
    }

    /// The function `shim_NAME`.
    pub(crate) fn entry(&self, kernel: &str) -> Result<Entry, String> {
        let name = CString::new(format!("shim_{kernel}")).map_err(|e| e.to_string())?;
        // SAFETY: a handle that stays open, and a name.
        let entry = unsafe { libc::dlsym(self.handle.as_ptr(), name.as_ptr()) };
        if entry.is_null() {
            return Err(format!("no kernel {kernel} in {}", self.path.display()));
        }
        // SAFETY: the function that `Kernel::entry` writes.
        Ok(unsafe { std::mem::transmute::<*mut libc::c_void, Entry>(entry) })
    }
}
