//! GGUF, the format of llama.cpp: a model's metadata and tensors.
//!
//! No maintained crate writes the block types used here, and the format is small, so [`file`] writes it.

mod blocks;
mod file;
mod vocabulary;

pub use blocks::Compatibility;

use crate::config::Rescaling;
use crate::error::Error;
use crate::load::LoadedLlama;
use crate::model::DecoderBlock;
use blocks::Rows;
use burn::module::Param;
use burn::nn::RmsNorm;
use burn::tensor::Tensor;
use burn_eqat::QuantLinear;
use file::{File, Kind, Value};
use std::path::Path;

/// A model has no lossless form in GGUF.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GgufError {
    /// No block type can hold a weight's scheme.
    #[error(
        "{tensor}: {scheme} has no lossless type in GGUF, which holds 2, 3 and 4 bits in groups of \
         multiples of 32, and symmetric 8 bits, with scales that fit in f16; --format gptq and \
         --format dense hold all schemes"
    )]
    Scheme {
        /// The tensor's name in GGUF.
        tensor: String,
        /// Its scheme.
        scheme: String,
    },
    /// The tokenizer is not supported.
    #[error("tokenizer.json: {found}, expected {expected}")]
    Tokenizer {
        /// What it has.
        found: String,
        /// What is known of.
        expected: &'static str,
    },
    /// llama.cpp does not compute a part of the model.
    #[error("the model has {0}, which llama.cpp does not compute for its family")]
    Model(&'static str),
}

/// Writes the file.
pub(super) fn write(
    loaded: &LoadedLlama,
    target: &Path,
    compatibility: Compatibility,
) -> Result<Vec<String>, Error> {
    let mut export = Export {
        loaded,
        compatibility,
        file: File::default(),
        notes: Vec::new(),
    };
    export.metadata()?;
    vocabulary::add(loaded, &mut export.file)?;
    export.tensors()?;
    export.file.write(target)?;
    Ok(export.notes)
}

struct Export<'a> {
    loaded: &'a LoadedLlama,
    compatibility: Compatibility,
    file: File,
    notes: Vec<String>,
}

impl Export<'_> {
    /// The name of the family in llama.cpp. A Mistral is a Llama there.
    fn architecture(&self) -> &'static str {
        match self.loaded.config.model_type.as_str() {
            "qwen2" => "qwen2",
            "qwen3" => "qwen3",
            _ => "llama",
        }
    }

    fn metadata(&mut self) -> Result<(), Error> {
        let config = &self.loaded.config;
        let architecture = self.architecture();
        let directory = self.loaded.checkpoint.dir().file_name();
        let name = directory.map_or("model".into(), |name| name.to_string_lossy().into_owned());
        self.file
            .set("general.architecture", Value::text(architecture));
        self.file.set("general.type", Value::text("model"));
        self.file.set("general.name", Value::Text(name));
        // Windows are not computed, so that nothing is to be longer than one.
        let windows = (0..config.num_hidden_layers).filter_map(|block| config.window(block));
        let context = windows.fold(config.positions(), usize::min);
        let head_dim = config.head_dim();
        let numbers = [
            ("vocab_size", config.vocab_size),
            ("block_count", config.num_hidden_layers),
            ("context_length", context),
            ("embedding_length", config.hidden_size),
            ("feed_forward_length", config.intermediate_size),
            ("attention.head_count", config.num_attention_heads),
            ("attention.head_count_kv", config.kv_heads()),
            ("attention.key_length", head_dim),
            ("attention.value_length", head_dim),
            ("rope.dimension_count", head_dim),
        ];
        for (key, number) in numbers {
            let key = format!("{architecture}.{key}");
            self.file.set(&key, Value::U32(number as u32));
        }
        let epsilon = format!("{architecture}.attention.layer_norm_rms_epsilon");
        self.file
            .set(&epsilon, Value::F32(config.rms_norm_eps as f32));
        let base = format!("{architecture}.rope.freq_base");
        self.file.set(&base, Value::F32(config.rope_theta() as f32));
        if let Rescaling::Linear { factor } = config.rescaling() {
            let key = |name: &str| format!("{architecture}.rope.scaling.{name}");
            self.file.set(&key("type"), Value::text("linear"));
            self.file.set(&key("factor"), Value::F32(factor as f32));
        }
        Ok(())
    }

    fn tensors(&mut self) -> Result<(), Error> {
        let (loaded, config) = (self.loaded, &self.loaded.config);
        let model = &loaded.model;
        let embedding = model.model.embed_tokens.weight.val();
        self.matrix("token_embd.weight", embedding);
        self.norm("output_norm.weight", &model.model.norm);
        if let Some(head) = &model.lm_head {
            self.linear("output", &QuantLinear::from(head.clone()), None)?;
        }
        if let Rescaling::Llama3 { .. } = config.rescaling() {
            // By how much each frequency is divided.
            let factors = (0..config.head_dim() / 2).map(|pair| {
                let frequency = config.frequency(pair);
                frequency / config.rescaling().apply(frequency)
            });
            let factors: Vec<f32> = factors.collect();
            self.vector("rope_freqs.weight", factors);
        }
        for index in 0..config.num_hidden_layers {
            model.with_block(index, |block| self.block(index, block))??;
        }
        Ok(())
    }

    fn block(&mut self, index: usize, block: &DecoderBlock) -> Result<(), Error> {
        let config = &self.loaded.config;
        let name = |part: &str| format!("blk.{index}.{part}");
        // llama.cpp rotates neighbours in a Llama's heads, halves against each other in others'.
        let neighbours = self.architecture() == "llama";
        let heads = |count: usize| neighbours.then_some(count);
        let attention = &block.self_attn;
        self.norm(&name("attn_norm.weight"), &block.input_layernorm);
        self.norm(&name("ffn_norm.weight"), &block.post_attention_layernorm);
        let (q, k) = (heads(config.num_attention_heads), heads(config.kv_heads()));
        self.linear(&name("attn_q"), &attention.q_proj, q)?;
        self.linear(&name("attn_k"), &attention.k_proj, k)?;
        self.linear(&name("attn_v"), &attention.v_proj, None)?;
        self.linear(&name("attn_output"), &attention.o_proj, None)?;
        self.linear(&name("ffn_gate"), &block.mlp.gate_proj, None)?;
        self.linear(&name("ffn_up"), &block.mlp.up_proj, None)?;
        self.linear(&name("ffn_down"), &block.mlp.down_proj, None)?;
        if let (Some(q), Some(k)) = (&attention.q_norm, &attention.k_norm) {
            self.norm(&name("attn_q_norm.weight"), q);
            self.norm(&name("attn_k_norm.weight"), k);
        }
        let biased = attention.o_proj.bias.is_some() || block.mlp.down_proj.bias.is_some();
        if biased && self.architecture() != "llama" {
            let what = "biases behind its attention or in its feed-forward";
            return Err(GgufError::Model(what).into());
        }
        Ok(())
    }

    /// A linear layer. With `heads`, the rows of each head are reordered so that rotated pairs are neighbours.
    fn linear(
        &mut self,
        name: &str,
        layer: &QuantLinear,
        heads: Option<usize>,
    ) -> Result<(), Error> {
        let [_, n] = layer.shape();
        let order = order(n, heads);
        let tensor = format!("{name}.weight");
        let rows = Rows::of(layer, order.clone(), &tensor, self.compatibility)?;
        if let Some(note) = rows.note()
            && !self.notes.contains(&note)
        {
            self.notes.push(note);
        }
        self.file
            .add(&tensor, rows.dims(), rows.kind(), move || rows.bytes());
        if let Some(bias) = &layer.bias {
            let bias: Vec<f32> = values(bias);
            let bias = order.iter().map(|row| bias[*row]).collect();
            self.vector(&format!("{name}.bias"), bias);
        }
        Ok(())
    }

    fn norm(&mut self, name: &str, norm: &RmsNorm) {
        self.vector(name, values(&norm.gamma));
    }

    fn vector(&mut self, name: &str, values: Vec<f32>) {
        let dims = vec![values.len()];
        let bytes = move || values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.file.add(name, dims, Kind::F32, bytes);
    }

    /// A dense matrix `[rows, columns]`, in f16 if that can hold its range.
    fn matrix(&mut self, name: &str, matrix: Tensor<2>) {
        let [rows, columns] = matrix.dims();
        let kind = blocks::float_kind(&matrix);
        let bytes = move || blocks::float_bytes(matrix.clone().into_data().iter::<f32>(), kind);
        self.file.add(name, vec![columns, rows], kind, bytes);
    }
}

fn values<const D: usize>(param: &Param<Tensor<D>>) -> Vec<f32> {
    param.val().into_data().iter::<f32>().collect()
}

/// The order in which rows are written: with the halves of heads interleaved, or unchanged.
fn order(rows: usize, heads: Option<usize>) -> Vec<usize> {
    let Some(heads) = heads else {
        return (0..rows).collect();
    };
    let width = rows / heads;
    let row = |row: usize| {
        let (head, within) = (row / width, row % width);
        head * width + within % 2 * (width / 2) + within / 2
    };
    (0..rows).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_heads_interleave() {
        assert_eq!(order(8, Some(2)), [0, 2, 1, 3, 4, 6, 5, 7]);
        assert_eq!(order(3, None), [0, 1, 2]);
    }
}
