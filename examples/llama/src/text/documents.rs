use crate::error::Error;
use serde::Deserialize;
use std::path::Path;

/// The line that separates the documents of a plain text file.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// The documents of a file: of a `.jsonl` file the `text` field of each line, of any other the parts
/// between `<|endoftext|>` lines.
///
/// # Errors
///
/// When the file cannot be read, a line is not such an object, or there is no text in it.
pub fn read_documents(path: &Path) -> Result<Vec<String>, Error> {
    #[derive(Deserialize)]
    struct Line {
        text: String,
    }
    let text = std::fs::read_to_string(path).map_err(Error::read(path))?;
    let documents: Vec<String> = match path.extension().is_some_and(|e| e == "jsonl") {
        true => text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(i, line)| {
                serde_json::from_str::<Line>(line)
                    .map(|line| line.text)
                    .map_err(|error| Error::input(path, format!("line {}: {error}", i + 1)))
            })
            .collect::<Result<_, _>>()?,
        false => text
            .split(END_OF_TEXT)
            .map(|document| document.trim().to_string())
            .collect(),
    };
    let documents: Vec<String> = documents
        .into_iter()
        .filter(|document| !document.trim().is_empty())
        .collect();
    match documents.is_empty() {
        true => Err(Error::input(path, "holds no text")),
        false => Ok(documents),
    }
}
