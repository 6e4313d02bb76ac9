use super::MultimodalError;
use burn::tensor::{DType, FloatDType, Int, Tensor};

/// Puts features in the places of the tokens that stand for them, in their order.
///
/// # Shapes
///
/// - `text`: `[batch, seq, width]`, the embeddings of the tokens
/// - `tokens`: `[batch, seq]`; those that are `media_token` are places
/// - `features`: `[media, features, width]`, as many as there are places
/// - output: `[batch, seq, width]`, in the type of `text`
pub(super) fn merge(
    text: Tensor<3>,
    tokens: Tensor<2, Int>,
    features: Tensor<3>,
    media_token: u32,
) -> Result<Tensor<3>, MultimodalError> {
    let [batch, seq, width] = text.dims();
    let [media, each, _] = features.dims();
    let places = tokens.equal_elem(media_token).int();
    let found = places.clone().sum().into_scalar::<i64>() as usize;
    if found != media * each {
        let expected = media * each;
        return Err(MultimodalError::Places { found, expected });
    }
    // The feature of each place, by its number among all places. What stands elsewhere is left out.
    let order = places.clone().reshape([batch * seq]).cumsum(0) - 1;
    let rows = features.reshape([found, width]);
    let rows = rows.select(0, order.clamp_min(0));
    let rows: Tensor<3> = in_type(rows.reshape([batch, seq, width]), text.dtype());
    let is_place = in_type(places.float().unsqueeze_dim::<3>(2), text.dtype());
    Ok(text * (is_place.clone() * -1.0 + 1.0) + rows * is_place)
}

/// A tensor in a float type.
pub(super) fn in_type<const D: usize>(x: Tensor<D>, dtype: DType) -> Tensor<D> {
    if x.dtype() == dtype {
        x
    } else {
        x.cast(FloatDType::from(dtype))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    #[test]
    fn features_come_in_the_places_of_their_tokens() {
        let device = Device::flex();
        let text = Tensor::<3>::from_data([[[1.0], [2.0], [3.0]], [[4.0], [5.0], [6.0]]], &device);
        let tokens = Tensor::<2, Int>::from_data([[9, 9, 0], [0, 9, 9]], &device);
        let features = Tensor::<3>::from_data([[[10.0], [20.0]], [[30.0], [40.0]]], &device);
        let merged = merge(text.clone(), tokens.clone(), features.clone(), 9).unwrap();
        let expected = [[[10.0f32], [20.0], [3.0]], [[4.0], [30.0], [40.0]]];
        merged
            .into_data()
            .assert_eq(&TensorData::from(expected), true);
        let one = features.slice_dim(0, 0..1);
        let error = merge(text, tokens, one, 9).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the tokens have 4 places for features of media, expected 2"
        );
    }
}
