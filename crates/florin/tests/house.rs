//! The house rules, held against the tree itself: file heads and sizes, which crate may use which, what pure crates
//! must not touch, and what the documents promise. It reads files only, and never judges what the code does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a source file; past this it is to be split by topic.
const FILE_LINES_MAX: usize = 800;

/// The crates of the workspace and those of ours that each may use, in `[dependencies]` as in `[dev-dependencies]`.
/// The arrows point one way, so that the money rules can be read and tested with nothing else in sight.
const ARROWS: [(&str, &[&str]); 8] = [
    ("core", &[]),
    ("chain", &["florin-core"]),
    ("store", &["florin-core"]),
    ("engine", &["florin-core", "florin-chain"]),
    ("signer", &["florin-core", "florin-chain"]),
    ("devnet", &["florin-core", "florin-chain"]),
    ("florin", &["florin-core", "florin-chain", "florin-store", "florin-engine", "florin-signer", "florin-devnet"]),
    (
        "sim",
        &["florin-core", "florin-chain", "florin-store", "florin-engine", "florin-signer", "florin-devnet", "florin"],
    ),
];

/// Marks of unfinished work, put together here so that this file does not contain them.
const UNFINISHED: [&str; 5] = [
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
    concat!("#[ig", "nore"),
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
];

/// What makes a run depend on more than its arguments. Matched as whole words, outside comments and test modules.
const IMPURE: [&str; 20] = [
    "SystemTime",
    "Instant",
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
    "std::process",
    "println",
    "eprintln",
    "f32",
    "f64",
    "tokio",
    "async",
    "rand",
    "getrandom",
    "thread_rng",
    "OsRng",
    "RandomState",
    "thread_local",
    "AtomicBool",
];

/// Maps whose iteration order differs from run to run.
const HASHED: [&str; 3] = ["HashMap", "HashSet", "hashbrown"];

/// Files that judge others and may name nothing of them, and the one crate that each may use: what shares code with what it judges agrees
/// with its faults. The simulation's auditor asks a node of the network in process what the chain holds.
const JUDGES: [(&str, Option<&str>); 4] = [
    ("crates/sim/src/auditor.rs", None),
    ("crates/sim/src/auditor/", Some("florin_devnet")),
    ("crates/core/tests/naive/model.rs", None),
    ("crates/core/tests/naive/big.rs", None),
];

/// Files of the pure crates that may use a hashed map all the same, each with the reason why no order can leak from it.
const HASHED_ALLOWED: [(&str, &str); 0] = [];

/// Folders that are not part of the source.
const FOLDERS_SKIPPED: [&str; 4] = ["target", ".git", ".florin", "node_modules"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the crate lies two folders below the root")
}

/// Every file below a folder, sorted by path.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap_or_else(|fault| panic!("cannot list {}: {fault}", next.display())) {
            let path = entry.expect("the folder can be listed").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_symlink() || FOLDERS_SKIPPED.contains(&name) {
                continue;
            }
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

fn with_extension(folder: &Path, extension: &str) -> Vec<PathBuf> {
    files(folder).into_iter().filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|fault| panic!("cannot read {}: {fault}", path.display()))
}

fn sources() -> Vec<(PathBuf, String)> {
    let root = root();
    let paths = with_extension(&root.join("crates"), "rs");
    assert!(paths.len() >= ARROWS.len(), "found only {} source files: is this the right folder?", paths.len());
    paths
        .into_iter()
        .map(|path| (path.strip_prefix(&root).expect("it is below the root").to_path_buf(), read(&path)))
        .collect()
}

#[track_caller]
fn assert_none(rule: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{rule}:\n  {}", faults.join("\n  "));
}

fn is_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

/// Whether a line holds the text with no letter, digit or underscore joined to either end.
fn holds_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// The lines of a source file that run in production, with their numbers: no comments, and no test modules, which
/// rustfmt lets end in the first `}` at the start of a line.
fn production_lines(text: &str) -> Vec<(usize, &str)> {
    let mut lines = Vec::new();
    let mut in_tests = false;
    let mut awaits_module = false;
    for (index, line) in text.lines().enumerate() {
        if in_tests {
            in_tests = line != "}";
            continue;
        }
        let begins_module = line.starts_with("mod ") || line.starts_with("pub(crate) mod ");
        if awaits_module && begins_module && line.ends_with('{') {
            in_tests = true;
        }
        awaits_module = line == "#[cfg(test)]";
        if in_tests {
            continue;
        }
        let code = match line.find("//") {
            // An address in a string: "https://…".
            Some(start) if !line[..start].ends_with(':') => &line[..start],
            Some(_) | None => line,
        };
        lines.push((index + 1, code));
    }
    lines
}

fn words_in(path: &Path, text: &str, words: &[&str]) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, line) in production_lines(text) {
        for word in words.iter().filter(|word| holds_word(line, word)) {
            faults.push(format!("{}:{number}: {word}", path.display()));
        }
    }
    faults
}

/// The keys of a manifest's dependency tables, by the table's name. Cargo has two ways to write one: a line in
/// `[dependencies]`, or a table `[dependencies.name]` of its own.
fn dependencies(manifest: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut table = String::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            table = name.trim().to_owned();
            if let Some((outer, name)) = table.rsplit_once('.')
                && outer.ends_with("dependencies")
            {
                found.push((outer.to_owned(), name.to_owned()));
            }
        } else if table.ends_with("dependencies") && !line.starts_with('#') {
            let key: String = line.chars().take_while(|letter| is_word(*letter) || *letter == '-').collect();
            if !key.is_empty() {
                found.push((table.clone(), key));
            }
        }
    }
    found
}

fn is_ours(name: &str) -> bool {
    name == "florin" || name.starts_with("florin-")
}

fn wrong_arrows(folder: &str, manifest: &str) -> Vec<String> {
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == folder) else {
        return vec![format!("crates/{folder} has no line in the table of this test")];
    };
    dependencies(manifest)
        .into_iter()
        .filter(|(_, name)| is_ours(name) && !allowed.contains(&name.as_str()))
        .map(|(table, name)| format!("crates/{folder} may not use {name} ([{table}])"))
        .collect()
}

/// A document's prose and its code apart: fenced blocks and inline spans are code.
fn prose_and_code(document: &str) -> (String, String) {
    let (mut prose, mut code) = (String::new(), String::new());
    let mut in_fence = false;
    for line in document.lines() {
        if line.trim_start().starts_with("```") {
            in_fence = !in_fence;
        } else if in_fence {
            code.push_str(line);
            code.push('\n');
        } else {
            for (index, part) in line.split('`').enumerate() {
                let side = if index % 2 == 0 { &mut prose } else { &mut code };
                side.push_str(part);
                side.push(if index % 2 == 0 { ' ' } else { '\n' });
            }
            prose.push('\n');
        }
    }
    (prose, code)
}

/// The targets of a document's relative links, without their anchors.
fn relative_links(document: &str) -> Vec<String> {
    let (prose, _) = prose_and_code(document);
    prose
        .match_indices("](")
        .filter_map(|(start, opening)| prose[start + opening.len()..].split(')').next())
        .filter_map(|inside| inside.split_whitespace().next())
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:") && !target.starts_with('#'))
        .map(|target| target.split('#').next().unwrap_or(target).to_owned())
        .collect()
}

/// The targets that a document tells its reader to make.
fn make_commands(document: &str) -> BTreeSet<String> {
    let (_, code) = prose_and_code(document);
    code.lines()
        .filter_map(|line| line.trim().trim_start_matches("$ ").strip_prefix("make "))
        .filter_map(|rest| rest.split_whitespace().next())
        .map(|target| target.trim_end_matches(|letter| !is_word(letter)).to_owned())
        .collect()
}

fn make_targets(makefile: &str) -> BTreeSet<String> {
    makefile
        .lines()
        .filter(|line| line.starts_with(|letter: char| letter.is_ascii_lowercase()))
        .filter_map(|line| line.split_once(':'))
        .filter(|(_, rest)| !rest.starts_with('='))
        .map(|(target, _)| target.trim().to_owned())
        .collect()
}

fn documents() -> Vec<PathBuf> {
    let root = root();
    let mut found: Vec<PathBuf> = fs::read_dir(&root)
        .expect("the root can be listed")
        .map(|entry| entry.expect("the root can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    if root.join("docs").is_dir() {
        found.extend(with_extension(&root.join("docs"), "md"));
    }
    found.sort();
    found
}

/// Absolute paths that hold on one machine only, put together here so that this file does not contain them.
fn private_paths(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for path in [concat!("/ro", "ot/"), concat!("/wo", "rk/")] {
            let stands_alone = |start: usize| {
                !line[..start]
                    .ends_with(|letter: char| is_word(letter) || letter == '.' || letter == '-' || letter == '}')
            };
            if line.match_indices(path).any(|(start, _)| stands_alone(start)) {
                faults.push(format!("line {}: {path}", index + 1));
            }
        }
    }
    faults
}

#[test]
fn every_source_file_begins_with_what_it_owns() {
    let faults: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert_none("the first line of every source file is `//!`: what the module owns and must never do", &faults);
}

#[test]
fn no_source_file_is_too_long() {
    let faults: Vec<String> = sources()
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert_none(&format!("a source file has at most {FILE_LINES_MAX} lines"), &faults);
}

#[test]
fn no_source_file_holds_unfinished_work() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        for (index, line) in text.lines().enumerate() {
            for mark in UNFINISHED.iter().filter(|mark| line.contains(**mark)) {
                faults.push(format!("{}:{}: {mark}", path.display(), index + 1));
            }
        }
    }
    assert_none("no unfinished work and no test that is left out", &faults);
}

#[test]
fn crates_depend_one_way_only() {
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        faults.extend(wrong_arrows(&name, &read(&folder.join("Cargo.toml"))));
        seen.insert(name);
    }
    assert_eq!(seen, ARROWS.iter().map(|(name, _)| (*name).to_owned()).collect(), "the table names every crate");
    assert_none("crates use only those below them", &faults);
}

#[test]
fn pure_crates_touch_nothing_but_their_arguments() {
    let mut faults = Vec::new();
    let mut scanned = 0;
    for (path, text) in sources() {
        if path.starts_with("crates/core/src") || path.starts_with("crates/chain/src") {
            scanned += 1;
            faults.extend(words_in(&path, &text, &IMPURE));
        }
    }
    assert!(scanned >= 2, "found only {scanned} files of the pure crates");
    assert_none("core and chain have no clock, file, network, thread, randomness or float", &faults);
}

#[test]
fn pure_crates_have_no_hash_ordered_iteration() {
    let allowed: BTreeMap<&str, &str> = HASHED_ALLOWED.into_iter().collect();
    let mut used = BTreeSet::new();
    let mut faults = Vec::new();
    let is_pure = |path: &Path| path.starts_with("crates/core/src") || path.starts_with("crates/chain/src");
    for (path, text) in sources().into_iter().filter(|(path, _)| is_pure(path)) {
        let found = words_in(&path, &text, &HASHED);
        match allowed.get_key_value(path.to_str().unwrap()) {
            Some((name, _)) if !found.is_empty() => {
                used.insert(*name);
            }
            Some(_) | None => faults.extend(found),
        }
    }
    assert_none("core and chain use BTreeMap, BTreeSet or Vec: a hashed map's order differs from run to run", &faults);
    assert_eq!(used, allowed.keys().copied().collect(), "the list of exceptions names only files that need it");
}

/// What a judge names outside of itself: a crate of ours, or a module beside it.
fn named_by_judge(path: &Path, text: &str, allowed: Option<&str>) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, line) in production_lines(text) {
        // A crate's name in a path, and not one in a text such as the domain of a hash.
        let ours = line.match_indices("florin").filter_map(|(start, _)| {
            let (name, _) = line[start..].split_once("::")?;
            name.chars().all(is_word).then_some(name)
        });
        let beside = line.match_indices("crate::").map(|(start, _)| &line[start..]);
        let beside = beside.filter(|rest| !["crate::auditor", "crate::big"].iter().any(|own| rest.starts_with(own)));
        let named = ours.filter(|name| Some(*name) != allowed).chain(beside);
        faults.extend(named.map(|name| format!("{}:{number}: {name}", path.display())));
    }
    faults
}

#[test]
fn judges_import_nothing_that_they_judge() {
    let mut faults = Vec::new();
    let sources = sources();
    for (place, allowed) in JUDGES {
        let judges: Vec<_> = sources.iter().filter(|(path, _)| path.to_string_lossy().starts_with(place)).collect();
        assert!(!judges.is_empty(), "{place} is there");
        faults.extend(judges.into_iter().flat_map(|(path, text)| named_by_judge(path, text, allowed)));
    }
    assert_none("who judges shares no code with what it judges", &faults);
}

#[test]
fn every_relative_link_of_the_documents_leads_to_a_file() {
    let mut faults = Vec::new();
    for document in documents() {
        let folder = document.parent().expect("a file lies in a folder");
        for target in relative_links(&read(&document)) {
            let path = match target.strip_prefix('/') {
                Some(rest) => root().join(rest),
                None => folder.join(&target),
            };
            if !path.exists() {
                faults.push(format!("{}: {target}", document.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert_none("a link leads to a file that exists", &faults);
}

#[test]
fn every_make_command_of_the_readme_exists() {
    let named = make_commands(&read(&root().join("README.md")));
    let targets = make_targets(&read(&root().join("Makefile")));
    for command in ["demo", "test"] {
        assert!(named.contains(command), "README.md tells the reader of `make {command}`");
    }
    let missing: Vec<String> = named.difference(&targets).cloned().collect();
    assert_none("README.md names only targets that the Makefile has", &missing);
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    let root = root();
    let mut faults = Vec::new();
    for path in files(&root) {
        // Test vectors may be binary.
        let Ok(text) = String::from_utf8(fs::read(&path).unwrap()) else { continue };
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        faults.extend(private_paths(&text).into_iter().map(|fault| format!("{name}: {fault}")));
    }
    assert_none("files name no path that exists on one machine only", &faults);
}

/// The rules above pass on a clean tree whether they look or not; these show that each one sees a planted fault.
mod planted {
    use super::*;

    #[test]
    fn impure_word_is_seen_in_code_but_not_in_comment_or_test_module() {
        let text = "use std::time::Instant;\n\
                    // Instant in a comment.\n\
                    let f64_like = \"https://host/rand\"; let instant = Instantly;\n\
                    #[cfg(test)]\n\
                    mod tests {\n    use std::fs;\n}\n\
                    fn late() -> f64 {}\n";
        let faults = words_in(Path::new("a.rs"), text, &IMPURE);
        assert_eq!(faults, ["a.rs:1: Instant", "a.rs:3: rand", "a.rs:8: f64"]);
    }

    #[test]
    fn judge_that_imports_is_seen() {
        let text = "//! Of florin_core.\nuse florin_core::state::State;\nuse crate::auditor::proto;\nuse crate::world::World;\n\
                    fn node(_: &florin_devnet::node::Node) {}\nuse florin::api;\n";
        let faults = named_by_judge(Path::new("a.rs"), text, Some("florin_devnet"));
        assert_eq!(faults, ["a.rs:2: florin_core", "a.rs:4: crate::world::World;", "a.rs:6: florin"]);
        assert_eq!(named_by_judge(Path::new("a.rs"), text, None).len(), 4);
    }

    #[test]
    fn hashed_map_is_seen() {
        assert_eq!(words_in(Path::new("a.rs"), "let a: HashMap<u8, u8>;", &HASHED), ["a.rs:1: HashMap"]);
    }

    #[test]
    fn arrow_upwards_is_seen_in_every_way_to_write_it() {
        for (manifest, table) in [
            ("[dependencies]\nserde = \"1\"\nflorin-engine.workspace = true\n", "dependencies"),
            ("[dev-dependencies]\nflorin-engine = { path = \"../engine\" }\n", "dev-dependencies"),
            ("[dependencies.florin-engine]\npath = \"../engine\"\n", "dependencies"),
            ("[target.'cfg(unix)'.dependencies]\nflorin-engine = \"1\"\n", "target.'cfg(unix)'.dependencies"),
        ] {
            assert_eq!(
                wrong_arrows("store", manifest),
                [format!("crates/store may not use florin-engine ([{table}])")]
            );
        }
        assert!(
            wrong_arrows("store", "[dependencies]\nflorin-core.workspace = true\n# florin-engine = 1\n").is_empty()
        );
        assert_eq!(wrong_arrows("novel", ""), ["crates/novel has no line in the table of this test"]);
    }

    #[test]
    fn links_and_commands_are_found_where_they_count() {
        let document = "See [a](docs/a.md#part), [b](https://host/b), [c](#here), `[d](d.md)` and `make demo`.\n\
                        Do not make trouble.\n```sh\n$ make test, then\n[e](e.md)\n```\n![f](f.png \"title\")\n";
        assert_eq!(relative_links(document), ["docs/a.md", "f.png"]);
        assert_eq!(make_commands(document), ["demo", "test"].map(str::to_owned).into());
        assert_eq!(
            make_targets("SEEDS ?= 1\nx := 2\ndemo: ## a\n\ttest: b\n.PHONY: all\n"),
            ["demo".to_owned()].into()
        );
    }

    #[test]
    fn path_of_one_machine_is_seen() {
        let text = concat!("a /ro", "ot/.cache\nb $HOME/wo", "rk/x\nc \"/wo", "rk/y\"\nd ../ro", "ot/z\n");
        assert_eq!(private_paths(text).len(), 2, "{:?}", private_paths(text));
    }
}
