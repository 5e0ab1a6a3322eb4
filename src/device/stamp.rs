//! The stamp of a self-test that was passed: a file of three lines in the user's cache folder.

use super::choice::Tested;
use std::path::Path;
use std::{fs, io};

/// What the last self-test that was passed spoke for; nothing where none was, or the file is not one of these.
pub(crate) fn read(place: &Path) -> Option<Tested> {
    let text = fs::read_to_string(place).ok()?;
    let lines: Vec<&str> = text.lines().collect();
    let &[device, system, program] = &lines[..] else { return None };
    Some(Tested { device: device.into(), system: system.into(), program: program.into() })
}

/// Leaves the stamp.
pub(crate) fn write(place: &Path, tested: &Tested) -> io::Result<()> {
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder)?;
    }
    let Tested { device, system, program } = tested;
    fs::write(place, format!("{device}\n{system}\n{program}\n"))
}

/// Takes it away, as a self-test does before it begins: one that is stopped, or ends the program, has not passed.
pub(crate) fn remove(place: &Path) -> io::Result<()> {
    match fs::remove_file(place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("made/on/demand");
        assert_eq!(read(&place), None);
        remove(&place).unwrap();
        let tested = Tested { device: "Apple M2 Max".into(), system: "macOS 26.1".into(), program: "0.1.0".into() };
        write(&place, &tested).unwrap();
        assert_eq!(read(&place), Some(tested));
        remove(&place).unwrap();
        assert_eq!(read(&place), None);
        for text in ["", "Apple M2\n", "a\nb\nc\nd\n", "\u{0}"] {
            fs::write(&place, text).unwrap();
            assert_eq!(read(&place), None, "{text:?}");
        }
    }
}
