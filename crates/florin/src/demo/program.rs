//! How a reader types this program's commands: as what was started, wherever the shell stands. It starts nothing.

use crate::config;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The program's name.
const NAME: &str = "florin";

/// The beginning of commands for the platform in a folder.
pub(super) fn command(program: &Path, folder: &Path) -> String {
    let config = folder.join(config::FILE_NAME);
    // A folder of which nobody can say where it is can still be named as it was.
    let config = std::path::absolute(&config).unwrap_or(config);
    format!("{} --config {}", word(program, std::env::var_os("PATH").as_deref()), quoted(&config))
}

/// The word that starts a program: its name where a shell finds it by that, and else its path.
fn word(program: &Path, path: Option<&OsStr>) -> String {
    let found =
        path.and_then(|path| std::env::split_paths(path).map(|folder| folder.join(NAME)).find(|at| at.is_file()));
    let same = |at: PathBuf| at.canonicalize().ok().is_some_and(|at| program.canonicalize().ok() == Some(at));
    if found.is_some_and(same) { NAME.to_owned() } else { quoted(program) }
}

/// A path as a shell takes it for one word.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |letter: char| letter.is_alphanumeric() || "/._-+:@,%".contains(letter);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_named_as_a_shell_finds_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let (bin, other) = (folder.path().join("bin"), folder.path().join("other bin"));
        for folder in [&bin, &other] {
            std::fs::create_dir(folder).expect("made");
            std::fs::write(folder.join(NAME), "").expect("written");
        }
        let both = std::env::join_paths([&bin, &other]).expect("paths");
        assert_eq!(word(&bin.join(NAME), Some(&both)), "florin");
        // Another one comes first there.
        assert_eq!(word(&other.join(NAME), Some(&both)), format!("'{}'", other.join(NAME).display()));
        assert_eq!(word(&bin.join(NAME), None), bin.join(NAME).display().to_string());
    }

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        for path in ["/tmp/a b/florin.toml", "/tmp/it's/florin.toml", "/tmp/$HOME;x/florin.toml", "/tmp/a/florin.toml"]
        {
            let line = format!("printf %s {}", quoted(Path::new(path)));
            let done = std::process::Command::new("sh").args(["-c", &line]).output().expect("a shell");
            assert_eq!(String::from_utf8(done.stdout).expect("text"), path);
        }
        assert_eq!(quoted(Path::new("/tmp/a/florin.toml")), "/tmp/a/florin.toml");
    }
}
