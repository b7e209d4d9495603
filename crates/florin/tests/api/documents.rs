//! The documents that are made from the code: the description of the interface, and the list of stable codes.

use super::support::World;
use expect_test::expect_file;
use florin::api::code::{self, status_of, way_out};
use florin::api::faults::{self, Fault};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

#[test]
fn the_description_is_openapi_3_1_and_every_route_is_there() {
    let (_folder, world) = World::start();
    let document = world.shown("/api/v1/openapi.json");
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{}", document["openapi"]);
    let mut ids = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let summary = operation["summary"].as_str().or(operation["description"].as_str()).unwrap_or("");
            assert!(!summary.is_empty(), "{method} {path} says nothing");
            assert!(
                ids.insert(operation["operationId"].as_str().expect("an id").to_owned()),
                "{method} {path} has another's id"
            );
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let named =
                |name: &str| parameters.iter().any(|parameter| parameter["in"] == "path" && parameter["name"] == name);
            assert_eq!(path.contains("{id}"), named("id"), "{method} {path}");
            headers_and_problems_are_described(method, path, operation);
            // Asked without what it needs, a route that exists answers something else than that it does not.
            let answer = world.send(
                &method.to_uppercase(),
                &path.replace("{id}", "1"),
                &[("Authorization", &super::support::bearer())],
                b"",
            );
            assert!(!["not_found", "method_not_allowed"].contains(&answer.code()), "{method} {path}: {}", answer.text);
        }
    }
    assert!(ids.len() >= 35, "only {} operations", ids.len());
    let text = document.to_string();
    for (start, _) in text.match_indices("\"$ref\":\"#/components/schemas/") {
        let name: String = text[start + 29..].chars().take_while(|letter| *letter != '"').collect();
        assert!(document["components"]["schemas"][&name].is_object(), "{name} is referred to and not there");
    }
    world.stop();
}

/// What every operation says alike: which headers it takes and gives, what its answers are, and how problems come.
fn headers_and_problems_are_described(method: &str, path: &str, operation: &Value) {
    let is_change = method == "post";
    let parameters = operation["parameters"].as_array().expect("parameters");
    let header = |name: &str| parameters.iter().find(|one| one["in"] == "header" && one["name"] == name);
    assert_eq!(header("Idempotency-Key").is_some(), is_change, "{method} {path}");
    assert!(header("Idempotency-Key").is_none_or(|key| key["required"] == true), "{method} {path}");
    assert!(header("Florin-Seq").is_some_and(|row| row["required"] == false), "{method} {path}");
    for (status, response) in operation["responses"].as_object().expect("answers") {
        let said = response["description"].as_str().unwrap_or("");
        assert!(!said.is_empty(), "{method} {path} {status}: an answer has to be described");
        assert!(response["headers"]["Florin-Seq"].is_object(), "{method} {path} {status}");
        assert_eq!(response["headers"]["Idempotency-Key"].is_object(), is_change, "{method} {path} {status}");
        let kinds: Vec<&str> =
            response["content"].as_object().into_iter().flatten().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(status == "default", kinds == ["application/problem+json"], "{method} {path} {status}: {kinds:?}");
    }
}

/// One line of the table.
fn row(code: &str, meaning: &str) -> String {
    let way_out = way_out(code).unwrap_or("");
    format!("| `{code}` | {} | {} | {} |\n", status_of(code), meaning.replace('|', "\\|"), way_out.replace('|', "\\|"))
}

fn errors() -> String {
    let mut text = String::from(
        "# Stable codes\n\n\
         Every refusal and fault has a code that never changes its meaning; programs decide by it. The interface sends it in a\n\
         problem document (RFC 9457) with the status below; the command line prints it as `error[code]`, or as JSON with `--json`.\n\n\
         400: what was sent can never be right. 404: what it names does not exist. 409: it contradicts what is there or was done\n\
         before. 422: it is well said and can't be done now. 503: it can't be done for a reason that is not the caller's; the\n\
         same request, with the same `Idempotency-Key`, may be sent again.\n\n\
         Within each table of refusals the order is that of precedence: of several reasons the first one is told.\n\n\
         This file is made from the code: `UPDATE_EXPECT=1 cargo nextest run -p florin stable_codes`.\n",
    );
    let mut list = "";
    for listed in code::all() {
        if listed.list != list {
            list = listed.list;
            write!(text, "\n## {list}\n\n| code | status | meaning | way out |\n|---|---|---|---|\n").expect("text");
        }
        text.push_str(&row(listed.code, &listed.meaning));
    }
    text.push_str("\n## The signer\n\n| code | meaning |\n|---|---|\n");
    for refusal in florin_signer::refusal::Refusal::ALL {
        writeln!(text, "| `{}` | {refusal} |", refusal.code()).expect("text");
    }
    text.push_str("\n## Failures of the command line\n\n| code | what it says | way out |\n|---|---|---|\n");
    for (code, said) in failures() {
        let join = |texts: BTreeSet<String>| texts.into_iter().collect::<Vec<_>>().join("; ").replace('|', "\\|");
        writeln!(text, "| `{code}` | {} | {} |", join(said.texts), join(said.hints)).expect("text");
    }
    let places = faults();
    let mut group = "";
    for fault in faults::all() {
        if fault.group != group {
            group = fault.group;
            let head = "| code | meaning | way out | said by |\n|---|---|---|---|";
            write!(text, "\n## {group}\n\nWhere nothing else is said: {}.\n\n{head}\n", fault.group_way_out)
                .expect("text");
        }
        let said_by = places.get(fault.code).into_iter().flatten().cloned().collect::<Vec<_>>().join(", ");
        let Fault { code, meaning, own_way_out, .. } = fault;
        writeln!(text, "| `{code}` | {meaning} | {own_way_out} | {said_by} |").expect("text");
    }
    text
}

/// Every source file below a folder, with its path from there.
fn sources(source: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![source.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(source).expect("below").with_extension("").display().to_string();
                found.push((name, std::fs::read_to_string(&path).expect("text")));
            }
        }
    }
    found.sort();
    found
}

/// The first string in a piece of source, its placeholders as an ellipsis.
fn literal(text: &str) -> Option<String> {
    let inside = text.split('"').nth(1)?;
    let mut shown = String::new();
    let mut depth = 0;
    for letter in inside.chars() {
        match letter {
            '{' => {
                depth += 1;
                shown.push('…');
            }
            '}' => depth -= 1,
            letter if depth == 0 => shown.push(letter),
            _ => {}
        }
    }
    Some(shown)
}

/// What failures with one code say.
#[derive(Debug, Default)]
struct Said {
    texts: BTreeSet<String>,
    hints: BTreeSet<String>,
}

/// The codes of failures that the binary's sources name, with what they say.
fn failures() -> BTreeMap<String, Said> {
    let mut found: BTreeMap<String, Said> = BTreeMap::new();
    for (_, text) in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let text = text.split("#[cfg(test)]").next().expect("a first part").replace("\\\"", "'");
        for part in text.split("Failure::new(").skip(1) {
            let Some(rest) = part.trim_start().strip_prefix('"') else { continue };
            let Some((code, rest)) = rest.split_once('"') else { continue };
            let said = found.entry(code.to_owned()).or_default();
            // The sentence is the next argument; where it is put together elsewhere, nothing is shown.
            let argument = rest.trim_start_matches([',', ' ', '\n']);
            if argument.starts_with('"') || argument.starts_with("format!(") {
                said.texts.extend(literal(argument));
            }
            let end = rest.find(";\n").unwrap_or(rest.len());
            if let Some((_, hint)) = rest[..end].split_once(".hint(") {
                said.hints.extend(literal(hint));
            }
        }
    }
    found
}

/// The codes of alarms that a source names: the second thing that is said, or the field of an alarm that is made.
fn alarms(text: &str) -> Vec<&str> {
    let text = text.split("\n#[cfg(test)]").next().expect("a first part");
    let said = text.split(".say(").skip(1).filter_map(|part| part.split(',').nth(1));
    let made = text.split("Alarm {").skip(1).filter_map(|part| part.trim_start().strip_prefix("code:"));
    // Of nodes there is one alarm for each condition, and the code is chosen before it is said.
    let chosen = text.split("fn say_alarms(").skip(1).flat_map(|part| part.split("(\"").skip(1));
    let quoted = said.chain(made).filter_map(|part| part.trim_start().strip_prefix('"'));
    quoted.chain(chosen).filter_map(|part| part.split('"').next()).filter(|text| is_code(text)).collect()
}

fn is_code(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    text.contains('_') && text.bytes().all(is_letter)
}

/// The codes of faults that the other crates name in their `code` functions, and those of alarms, with the modules that do.
fn faults() -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut listed: BTreeSet<&str> = code::all().into_iter().map(|listed| listed.code).collect();
    listed.extend(florin_signer::refusal::Refusal::ALL.iter().map(|refusal| refusal.code()));
    for name in ["core", "chain", "store", "engine", "signer", "florin"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src");
        for (module, text) in sources(&folder) {
            for code in alarms(&text).into_iter().filter(|code| !listed.contains(code)) {
                found.entry(code.to_owned()).or_default().insert(format!("`{name}/{module}`"));
            }
            for body in text.split("fn code(").skip(1) {
                let body = body.split("\n    }\n").next().expect("a first part");
                for code in body.split('"').skip(1).step_by(2) {
                    if is_code(code) && !listed.contains(code) {
                        found.entry(code.to_owned()).or_default().insert(format!("`{name}/{module}`"));
                    }
                }
            }
        }
    }
    found
}

#[test]
fn stable_codes_of_faults_and_alarms_all_have_a_text() {
    let (said, told) = (faults(), faults::all().map(|fault| fault.code.to_owned()).collect::<BTreeSet<_>>());
    let silent: Vec<_> = said.iter().filter(|(code, _)| !told.contains(*code)).collect();
    assert!(silent.is_empty(), "without meaning and way out in crates/florin/src/api/faults.txt: {silent:?}");
    let stale: Vec<_> = told.iter().filter(|code| !said.contains_key(*code)).collect();
    assert!(stale.is_empty(), "nobody says what crates/florin/src/api/faults.txt explains: {stale:?}");
    assert!(["clock_jumped", "node_lags", "worker_panicked", "store_full"].iter().all(|code| said.contains_key(*code)));
}

#[test]
fn the_list_of_stable_codes_is_the_codes() {
    expect_file!["../../../../docs/errors.md"].assert_eq(&errors());
}

#[test]
fn codes_are_words_and_each_has_one_status() {
    let mut statuses: BTreeMap<&str, u16> = BTreeMap::new();
    for listed in code::all() {
        let is_word =
            listed.code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        assert!(is_word && !listed.meaning.is_empty(), "{listed:?}");
        assert!((400..600).contains(statuses.entry(listed.code).or_insert_with(|| status_of(listed.code))));
    }
    assert!(statuses.len() > 100, "only {} codes", statuses.len());
    assert!(failures().len() > 20 && faults().len() > 40);
}
