use crate::front::{Input, Media};
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_eqat::train::ModelError;

/// A conversation about an image or a sound, in tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// What it is about.
    pub input: Input,
    /// Its tokens, with one in the place of each feature.
    pub tokens: Vec<u32>,
    /// Whether each token is a part of an answer, which the model is to learn.
    pub answer: Vec<bool>,
}

/// A batch for a step: conversations, the shorter ones padded at their ends, and which tokens are to be predicted.
#[derive(Clone, Debug)]
pub struct MediaBatch {
    /// The image or sound of each conversation.
    pub media: Media,
    /// `[batch, seq]`
    pub tokens: Tensor<2, Int>,
    /// 1 where there is a token, 0 where there is padding: `[batch, seq]`.
    pub real: Tensor<2>,
    /// The positions before the tokens of answers, in the batch laid out as `[batch * seq]`: `[answers]`.
    pub positions: Tensor<1, Int>,
    /// The tokens of answers: `[answers]`.
    pub labels: Tensor<1, Int>,
}

impl MediaBatch {
    /// A batch of conversations.
    ///
    /// # Errors
    ///
    /// When there is none, their inputs differ in shape, or none has an answer.
    pub fn new(examples: &[Example], device: &Device) -> Result<Self, ModelError> {
        let inputs: Vec<&Input> = examples.iter().map(|example| &example.input).collect();
        let media = Media::stack(&inputs, device)?;
        let (batch, lengths) = (examples.len(), examples.iter().map(|e| e.tokens.len()));
        let seq = lengths.max().unwrap_or(0);
        // Causal attention never sees padding, which is behind everything: any token will do.
        let mut tokens = vec![0; batch * seq];
        let mut real = vec![0.0f32; batch * seq];
        let (mut positions, mut labels) = (Vec::new(), Vec::new());
        for (row, example) in examples.iter().enumerate() {
            for (at, (token, answer)) in example.tokens.iter().zip(&example.answer).enumerate() {
                tokens[row * seq + at] = *token as i32;
                real[row * seq + at] = 1.0;
                if *answer && at > 0 {
                    positions.push((row * seq + at - 1) as i32);
                    labels.push(*token as i32);
                }
            }
        }
        let answers = labels.len();
        if answers == 0 {
            return Err("a batch has no answers, expected one or more".into());
        }
        let ints = |values, shape: &[usize]| TensorData::new(values, shape.to_vec());
        Ok(Self {
            media,
            tokens: Tensor::from_data(ints(tokens, &[batch, seq]), device),
            real: Tensor::from_data(TensorData::new(real, [batch, seq]), device),
            positions: Tensor::from_data(ints(positions, &[answers]), device),
            labels: Tensor::from_data(ints(labels, &[answers]), device),
        })
    }

    /// The tokens to be predicted.
    pub fn answers(&self) -> usize {
        self.labels.dims()[0]
    }

    /// The same on another device.
    pub fn to_device(self, device: &Device) -> Self {
        Self {
            media: self.media.to_device(device),
            tokens: self.tokens.to_device(device),
            real: self.real.to_device(device),
            positions: self.positions.to_device(device),
            labels: self.labels.to_device(device),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_predicted_and_padding_is_not() {
        let device = Device::flex();
        let example = |tokens: &[u32], answer: &[bool]| Example {
            input: Input::Sound(TensorData::new(vec![0.0f32; 2], [1, 2])),
            tokens: tokens.to_vec(),
            answer: answer.to_vec(),
        };
        let long = example(&[5, 6, 7, 8], &[false, false, true, true]);
        let short = example(&[9, 3], &[false, true]);
        let batch = MediaBatch::new(&[long, short.clone()], &device).unwrap();
        let ints = |data: TensorData| data.iter::<i64>().collect::<Vec<_>>();
        assert_eq!(ints(batch.positions.into_data()), [1, 2, 4]);
        assert_eq!(ints(batch.labels.into_data()), [7, 8, 3]);
        assert_eq!(ints(batch.real.into_data()), [1, 1, 1, 1, 1, 1, 0, 0]);
        let mute = example(&[9, 3], &[false, false]);
        assert!(MediaBatch::new(&[mute], &device).is_err());
        let mut other = short.clone();
        other.input = Input::Sound(TensorData::new(vec![0.0f32; 3], [1, 3]));
        let error = MediaBatch::new(&[short, other], &device).unwrap_err();
        assert!(error.to_string().contains("expected one shape"), "{error}");
    }
}
