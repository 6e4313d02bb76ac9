//! Conversations in the format of an instruct model.

use crate::error::Error;
use burn_eqat::files::{FileError, read_json};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, context};
use serde::Serialize;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A turn.
    pub fn new(role: &str, content: &str) -> Self {
        Message {
            role: role.to_string(),
            content: content.to_string(),
        }
    }
}

/// A model's template of conversations.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    path: PathBuf,
    source: String,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// A template that is in no file yet, with the tokens that begin and end a text.
    pub fn new(source: &str, bos: &str, eos: &str) -> Self {
        ChatTemplate {
            path: "chat_template.jinja".into(),
            source: source.to_string(),
            bos: bos.to_string(),
            eos: eos.to_string(),
        }
    }

    /// The template of a model's directory.
    ///
    /// # Errors
    ///
    /// When there is no template, or a file cannot be read.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Self::find(dir)?.ok_or_else(|| {
            let message = "has no chat_template: this is not an instruct model";
            Error::input(&dir.join("tokenizer_config.json"), message)
        })
    }

    /// The template of a model's directory, if there is one.
    ///
    /// # Errors
    ///
    /// When a file cannot be read.
    pub fn find(dir: &Path) -> Result<Option<Self>, Error> {
        let Some((path, source)) = template(dir)? else {
            return Ok(None);
        };
        let config = dir.join("tokenizer_config.json");
        let config: Value = if config.exists() {
            read_json(&config)?
        } else {
            Value::Null
        };
        Ok(Some(ChatTemplate {
            bos: token(&config, "bos_token"),
            eos: token(&config, "eos_token"),
            path,
            source,
        }))
    }

    /// The text of a conversation, up to the beginning of the next answer.
    ///
    /// # Errors
    ///
    /// When the template is invalid or rejects the conversation.
    pub fn render(&self, messages: &[Message]) -> Result<String, Error> {
        self.render_with(messages, true)
    }

    /// The text of a conversation that is over.
    ///
    /// # Errors
    ///
    /// As [`render`](Self::render).
    pub fn render_whole(&self, messages: &[Message]) -> Result<String, Error> {
        self.render_with(messages, false)
    }

    /// As [`render`](Self::render), of messages as the template takes them: the content of a multimodal model's is a list
    /// of parts, say.
    ///
    /// # Errors
    ///
    /// As [`render`](Self::render).
    pub fn render_messages(&self, messages: &impl Serialize) -> Result<String, Error> {
        self.render_with(messages, true)
    }

    fn render_with(
        &self,
        messages: &(impl Serialize + ?Sized),
        prompts: bool,
    ) -> Result<String, Error> {
        let failed = |error: minijinja::Error| {
            Error::from(FileError::invalid(
                &self.path,
                format!("chat_template: {error:#}"),
            ))
        };
        let source = without_marks(&self.source);
        let mut environment = Environment::new();
        let mut syntax = SyntaxConfig::builder();
        let syntax = syntax.trim_blocks(true).lstrip_blocks(true);
        environment.set_syntax(syntax.build().map_err(failed)?);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| {
            Err::<String, _>(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_template("chat", &source).map_err(failed)?;
        let template = environment.get_template("chat").map_err(failed)?;
        let rendered = template.render(context! {
            messages => minijinja::Value::from(Serde(messages)),
            add_generation_prompt => prompts,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
        });
        rendered.map_err(failed)
    }
}

/// The template in a directory and the file that it is from, if there is one.
pub(crate) fn template(dir: &Path) -> Result<Option<(PathBuf, String)>, Error> {
    let path = dir.join("chat_template.jinja");
    if path.exists() {
        let text = std::fs::read_to_string(&path).map_err(Error::read(&path))?;
        return Ok(Some((path, text)));
    }
    // Processors of multimodal models have it in a file of its own.
    let files = ["chat_template.json", "tokenizer_config.json"];
    let mut files = files.iter().map(|name| dir.join(name));
    let Some(path) = files.find(|path| path.exists()) else {
        return Ok(None);
    };
    let config: Value = read_json(&path)?;
    let template = match config.get("chat_template") {
        // Several named templates; the others are for tools.
        Some(Value::Array(named)) => named
            .iter()
            .find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"))
            .and_then(|entry| entry.get("template")),
        other => other,
    };
    let template = template.and_then(Value::as_str);
    Ok(template.map(|template| (path, template.to_string())))
}

/// The template without the tags around what the assistant says. They mark it for training, and write nothing.
fn without_marks(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        text.push_str(before);
        let end = tag.find("%}").map_or(tag.len(), |end| end + 2);
        let name = tag[2..end].trim_matches(['-', '+', '%', '}', ' ', '\n']);
        if name != "generation" && name != "endgeneration" {
            text.push_str(&tag[..end]);
        }
        rest = &tag[end..];
    }
    text + rest
}

/// A special token, which is a text or an object with a text.
fn token(config: &Value, name: &str) -> String {
    let value = config.get(name);
    let text = value.and_then(|value| value.get("content").or(Some(value)));
    text.and_then(Value::as_str).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn open(config: Value) -> Result<ChatTemplate, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer_config.json");
        std::fs::write(path, config.to_string()).unwrap();
        ChatTemplate::open(dir.path())
    }

    #[test]
    fn conversations_are_written_out() {
        let source = "{{ bos_token }}{% for message in messages %}\n\
            <|{{ message['role'] }}|>{{ message.content.strip() | trim }}{{ eos_token }}\
            {% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";
        let template = open(json!({
            "chat_template": [
                {"name": "tool_use", "template": "no"},
                {"name": "default", "template": source},
            ],
            "bos_token": {"content": "<s>"},
            "eos_token": "</s>",
        }));
        let messages = [
            Message::new("system", "Be brief."),
            Message::new("user", " Hi "),
        ];
        let template = template.unwrap();
        let text = template.render(&messages).unwrap();
        assert_eq!(
            text,
            "<s><|system|>Be brief.</s><|user|>Hi</s><|assistant|>"
        );
        let text = template.render_whole(&messages).unwrap();
        assert_eq!(text, "<s><|system|>Be brief.</s><|user|>Hi</s>");
    }

    #[test]
    fn contents_may_be_parts_and_marks_write_nothing() {
        let source = "{% for message in messages %}{{ message['role'].upper() + ': ' }}\
            {% for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}\
            {% for part in message['content'] | selectattr('type', 'equalto', 'text') %}\
            {% generation %}{{ part['text'] + ' ' }}{%- endgeneration -%}{% endfor %}{% endfor %}";
        let template = open(json!({"chat_template": source})).unwrap();
        let parts = json!([{"type": "text", "text": "What?"}, {"type": "image"}]);
        let messages = [json!({"role": "user", "content": parts})];
        let text = template.render_messages(&messages).unwrap();
        assert_eq!(text, "USER: <image>\nWhat? ");
    }

    #[test]
    fn a_template_that_refuses_or_is_not_there_is_named() {
        let source = "{{ raise_exception('roles must alternate') }}";
        let template = open(json!({"chat_template": source})).unwrap();
        let error = template.render(&[]).unwrap_err().to_string();
        assert!(
            error.contains("tokenizer_config.json: chat_template"),
            "{error}"
        );
        assert!(error.contains("roles must alternate"), "{error}");
        let error = open(json!({})).unwrap_err().to_string();
        assert!(error.contains("no chat_template"), "{error}");
        let template = open(json!({"chat_template": "{% if %}"})).unwrap();
        assert!(template.render(&[]).is_err());
    }
}
