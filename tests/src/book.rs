//! The complete code of the book's chapters, compiled and run. Code that a chapter copies from an example is compared with
//! it by the test `book`.

#[doc = include_str!("../../docs/own-model.md")]
struct OwnModel;

#[doc = include_str!("../../docs/tuning.md")]
struct Tuning;
