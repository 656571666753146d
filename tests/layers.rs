//! Imports go down the floors only: this test reads every `crate::` path and fails on another arrow.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room with its height. Rooms of one height do not know each other, except on floor 3, where
/// every room has a height of its own, and where a face may start what stands beside it.
const HEIGHTS: &[(&str, u32)] = &[
    ("base", 0),
    ("mail", 1),
    ("smtp", 10),
    ("oauth", 10),
    ("config", 20),
    ("store", 20),
    ("net", 30),
    ("token", 31),
    ("outbound", 32),
    ("queue", 33),
    ("inbound", 34),
    ("platform", 40),
    ("telemetry", 40),
    ("sim", 40),
    ("daemon", 41),
    ("console", 41),
    ("cli", 42),
];

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The first segment of every `crate::…` path outside comments; `crate::{a, b}` gives both.
fn imported_rooms(line: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap_or_default();
    let mut rooms = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(list) => {
                let mut depth = 0;
                for part in list.split(',') {
                    if depth == 0 {
                        let name = part.trim().split([':', '}']).next().unwrap_or_default();
                        rooms.push(name.to_owned());
                    }
                    depth += part.matches('{').count();
                    depth -= part.matches('}').count().min(depth);
                }
            }
            None => {
                let name: String =
                    rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                rooms.push(name);
            }
        }
    }
    rooms.retain(|room| !room.is_empty());
    rooms
}

#[test]
fn imports_go_down_the_floors_only() {
    let heights: BTreeMap<_, _> = HEIGHTS.iter().copied().collect();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    let (mut wrong, mut arrows) = (Vec::new(), 0);
    for file in files {
        let relative = file.strip_prefix(&source).unwrap();
        let first = relative.components().next().unwrap().as_os_str().to_string_lossy();
        let room = first.trim_end_matches(".rs").to_owned();
        if room == "lib" || room == "main" {
            continue;
        }
        let height = heights.get(room.as_str());
        let height = height.unwrap_or_else(|| panic!("{room} is on no floor: add it to HEIGHTS"));
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            for imported in imported_rooms(line) {
                arrows += 1;
                let target = heights.get(imported.as_str());
                let goes_down = imported == room || target.is_some_and(|target| target < height);
                if !goes_down {
                    let place = format!("{}:{}", relative.display(), number + 1);
                    wrong.push(format!("{place}: {room} imports {imported}"));
                }
            }
        }
    }
    assert!(arrows > 50, "the reader of imports found only {arrows} paths");
    assert!(wrong.is_empty(), "imports that do not go down:\n{}", wrong.join("\n"));
}

/// True for `tests.rs`, or a file of a `tests` folder, that its parent's `mod.rs` compiles for tests
/// only.
fn is_in_test_folder(file: &Path) -> bool {
    let is_tests = |path: &&Path| path.ends_with("tests") || path.ends_with("tests.rs");
    file.ancestors().filter(is_tests).any(|path| {
        let parent = path.with_file_name("mod.rs");
        fs::read_to_string(parent).is_ok_and(|text| text.contains("#[cfg(test)]\nmod tests;"))
    })
}

#[test]
fn floor_one_has_no_sockets_clock_log_or_random_numbers() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    for room in ["smtp", "oauth", "mail"] {
        rust_files(&source.join(room), &mut files);
    }
    let forbidden =
        ["tokio::", "std::net::Tcp", "Instant::now", "SystemTime", "tracing::", "getrandom"];
    let mut wrong = Vec::new();
    for file in files.into_iter().filter(|file| !is_in_test_folder(file)) {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            if forbidden.iter().any(|word| line.contains(word)) {
                wrong.push(format!("{}: {}", file.display(), line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "impure lines on floor 1:\n{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_imports_sees_every_form() {
    for (line, expected) in [
        ("use crate::base::Clock;", vec!["base"]),
        ("use crate::{base::{Clock, limits}, mail::Mailbox};", vec!["base", "mail"]),
        ("    crate::store::open(crate::config::x)", vec!["store", "config"]),
        ("// use crate::cli;", vec![]),
    ] {
        assert_eq!(imported_rooms(line), expected, "{line}");
    }
}
