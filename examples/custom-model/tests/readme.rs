//! The code in README is copied from this example, so it compiles.

use std::fs::read_to_string;
use std::path::Path;

#[test]
fn readme_shows_the_lines_of_this_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| read_to_string(root.join(path)).unwrap();
    let (readme, source) = (read("../../README.md"), read("src/quantize.rs"));
    let section = readme
        .split_once("<!-- own-model -->")
        .and_then(|(_, rest)| rest.split_once("<!-- /own-model -->"))
        .expect("README.md has a section between <!-- own-model --> and <!-- /own-model -->")
        .0;
    let mut blocks = 0;
    for block in section.split("```rust\n").skip(1) {
        let (code, _) = block.split_once("```").expect("a block of code that ends");
        assert!(
            source.contains(code.trim()),
            "README.md shows code that is not in src/quantize.rs:\n{code}"
        );
        blocks += 1;
    }
    assert!(blocks > 0, "README.md shows no code of src/quantize.rs");
}
