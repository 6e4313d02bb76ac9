use super::LmError;
use crate::files::FileError;
use serde::Deserialize;
use std::fs;
use std::path::Path;

/// The mark between the documents of a plain text file.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// A line of a `.jsonl` file.
#[derive(Deserialize)]
struct Line {
    text: String,
}

/// The documents of a file. In a `.jsonl` file, each line is an object with a field `text`; any other file is
/// split at [`END_OF_TEXT`] marks. Empty documents are left out.
///
/// ```
/// use burn_eqat::lm::read_documents;
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("stories.txt");
/// std::fs::write(&path, "One day.\n<|endoftext|>\nOnce upon a time.\n")?;
/// assert_eq!(read_documents(&path)?, ["One day.", "Once upon a time."]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// When the file cannot be read, a line is not such an object, or the file has no text.
pub fn read_documents(path: &Path) -> Result<Vec<String>, LmError> {
    let mut documents = if is_json_lines(path) {
        read_json_lines(path)?
    } else {
        let text = fs::read_to_string(path).map_err(FileError::io(path))?;
        let parts = text.split(END_OF_TEXT).map(str::trim);
        parts.map(str::to_string).collect()
    };
    documents.retain(|document| !document.trim().is_empty());
    if documents.is_empty() {
        return Err(FileError::invalid(path, "holds no text").into());
    }
    Ok(documents)
}

/// Whether a file is a `.jsonl` file, by its name.
pub fn is_json_lines(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "jsonl")
}

/// The field `text` of each line of a `.jsonl` file, empty texts among them.
///
/// ```
/// use burn_eqat::lm::{is_json_lines, read_json_lines};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("stories.jsonl");
/// std::fs::write(&path, "{\"text\": \"One day.\"}\n{\"text\": \"\"}\n")?;
/// assert!(is_json_lines(&path));
/// assert_eq!(read_json_lines(&path)?, ["One day.", ""]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// When the file cannot be read, or a line is not an object with such a field.
pub fn read_json_lines(path: &Path) -> Result<Vec<String>, LmError> {
    let text = fs::read_to_string(path).map_err(FileError::io(path))?;
    let mut documents = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let line: Line = serde_json::from_str(line)
            .map_err(|error| FileError::invalid(path, format!("line {}: {error}", index + 1)))?;
        documents.push(line.text);
    }
    Ok(documents)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Vec<String>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        read_documents(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn documents_of_both_forms() {
        let parts = "One.\n<|endoftext|>\n\n<|endoftext|>Two\nlines.\n";
        assert_eq!(read("a.txt", parts).unwrap(), ["One.", "Two\nlines."]);
        let lines = "{\"text\": \" One. \", \"id\": 3}\n\n{\"text\": \"\"}\n{\"text\": \"Two\"}\n";
        assert_eq!(read("a.jsonl", lines).unwrap(), [" One. ", "Two"]);
    }

    #[test]
    fn files_without_documents_are_named() {
        let error = read("a.jsonl", "{\"text\": \"a\"}\n\n{\"body\": 1}").unwrap_err();
        assert!(error.contains("a.jsonl: line 3: "), "{error}");
        let error = read("b.txt", " \n<|endoftext|>\n").unwrap_err();
        assert!(error.ends_with("b.txt: holds no text"), "{error}");
        let error = read_documents(Path::new("/no/such.txt")).unwrap_err();
        assert!(error.to_string().starts_with("/no/such.txt: "), "{error}");
    }
}
