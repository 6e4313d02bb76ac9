//! The book: what it copies from examples is what they have, and its links lead somewhere. (Complete code is compiled by
//! `src/book.rs`.)

use std::collections::{HashMap, HashSet};
use std::fs::read_to_string;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    let path = root().join(path);
    read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The chapters with their texts, in the order of the book, by their names in `docs`.
fn chapters() -> Vec<(String, String)> {
    let summary = read("docs/SUMMARY.md");
    let names = summary.lines().filter_map(|line| {
        let (_, rest) = line.split_once("](")?;
        Some(rest.strip_suffix(')')?.to_string())
    });
    names
        .map(|name| {
            let text = read(&format!("docs/{name}"));
            (name, text)
        })
        .collect()
}

/// The lines of a text that are not in a fence.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return false;
        }
        !fenced
    })
}

/// What a heading is called in a link, as mdBook and GitHub have it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
            _ => None,
        })
        .collect()
}

/// The targets of a text's links, figures among them.
fn links(text: &str) -> Vec<String> {
    let text: Vec<&str> = prose(text).collect();
    let text = text.join("\n");
    let parts = text.split("](").skip(1);
    parts
        .filter_map(|part| Some(part.split_once(')')?.0.replace('\n', "")))
        .collect()
}

#[test]
fn every_chapter_is_in_the_summary() {
    let named: HashSet<String> = chapters().into_iter().map(|(name, _)| name).collect();
    for file in std::fs::read_dir(root().join("docs")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") && name != "SUMMARY.md" {
            assert!(
                named.contains(&name),
                "docs/SUMMARY.md does not name {name}"
            );
        }
    }
}

#[test]
fn links_lead_somewhere() {
    let chapters = chapters();
    let anchors: HashMap<&str, HashSet<String>> = chapters
        .iter()
        .map(|(name, text)| {
            let headings = prose(text).filter(|line| line.starts_with('#'));
            let anchors = headings.map(|line| anchor(line.trim_start_matches('#')));
            (name.as_str(), anchors.collect())
        })
        .collect();
    let has = |chapter: &str, place: &str| anchors.get(chapter).is_some_and(|a| a.contains(place));
    let ours = "https://github.com/burn-eqat/burn-eqat/";
    let mut texts = chapters.clone();
    texts.extend(["README.md", "CONTRIBUTING.md"].map(|name| (name.to_string(), read(name))));
    let mut wrong = Vec::new();
    for (name, text) in &texts {
        for link in links(text) {
            let in_book = name.as_str() != "README.md" && name.as_str() != "CONTRIBUTING.md";
            let found = if let Some(path) = link.strip_prefix(ours) {
                let path = path
                    .strip_prefix("blob/main/")
                    .or(path.strip_prefix("tree/main/"));
                path.is_none_or(|path| root().join(path.split('#').next().unwrap()).exists())
            } else if link.starts_with("https://") {
                true
            } else {
                let (path, place) = link.split_once('#').unwrap_or((&link, ""));
                let chapter = match (in_book, path.is_empty()) {
                    (true, true) => name.as_str(),
                    (true, false) => path,
                    (false, _) => path.strip_prefix("docs/").unwrap_or(path),
                };
                let file = match in_book {
                    true => root().join("docs").join(chapter),
                    false => root().join(path),
                };
                file.exists()
                    && (!in_book || !path.starts_with(".."))
                    && (place.is_empty() || has(chapter, place))
            };
            if !found {
                wrong.push(format!("{name}: {link}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "links that lead nowhere:\n{}",
        wrong.join("\n")
    );
}

/// Code that a chapter shows is compiled: as a whole (`src/book.rs`), or because it is a part of the file that a comment in front of it names.
#[test]
fn code_is_that_of_the_examples() {
    let compiled = read("tests/src/book.rs");
    let mut copied = 0;
    for (name, text) in chapters() {
        if compiled.contains(&format!("docs/{name}\"")) {
            continue;
        }
        let mut parts = text.split("```rust");
        let mut before = parts.next().unwrap();
        for part in parts {
            let (code, after) = part.split_once("```").expect("a block of code that ends");
            let code = code
                .strip_prefix('\n')
                .unwrap_or_else(|| panic!("{name}: a block with attributes: {code}"));
            let path = before
                .trim_end()
                .strip_suffix(" -->")
                .and_then(|before| Some(before.rsplit_once("<!-- ")?.1))
                .unwrap_or_else(|| {
                    panic!("{name}: no comment names the file of this code:\n{code}")
                });
            assert!(
                read(path).contains(code.trim()),
                "{name} shows code that is not in {path}:\n{code}"
            );
            copied += 1;
            before = after;
        }
    }
    assert!(copied > 0, "no chapter shows code of an example");
}
