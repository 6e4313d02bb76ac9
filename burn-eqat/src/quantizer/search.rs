use super::min_max_start;
use crate::{Scheme, SchemeError};
use burn::tensor::Tensor;
use burn_eqat_kernels::{SCALE_MAX, SCALE_MIN};

/// Parts of the range of a group that the search begins at.
const PARTS: [f64; 5] = [1.0, 0.85, 0.7, 0.55, 0.45];

/// How often codes and step size are fitted to each other from each beginning.
const FITS: usize = 2;

/// What every row counts at least, as a part of the mean of its group.
const LEAST: f64 = 1e-2;

/// Step sizes and zero points that make the squared error of the quantized weights small. Training can start with them instead of
/// those of [`min_max_start`], which span the whole range of a group for the sake of its few largest weights.
///
/// `importance` says how much the error of each row of the weight counts, such as the mean square of that input; `None` for all alike.
/// From several parts of the range and, if the scheme is not symmetric, from three zero points, the codes and the step size are
/// fitted to each other in turn: for codes `q`, the best step size is `sum(h w (q - z)) / sum(h (q - z)^2)`. The best of all is taken,
/// group by group. It is not worse than the min-max start, but as far as step sizes have to be in `[1e-4, 1e4]`.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_eqat::{Scheme, searched_start};
///
/// let scheme: Scheme = "w2g8".parse()?;
/// // All but one of the weights are multiples of 0.1.
/// let weights = [-0.1, 0.0, 0.1, 0.2, 0.1, -0.1, 0.2, 0.6];
/// let weight = Tensor::<1>::from_floats(weights, &Device::flex()).reshape([8, 1]);
/// // The last one does not matter.
/// let importance = Tensor::<1>::from_floats([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0], &Device::flex());
/// let (scales, zero_points) = searched_start(weight, Some(importance), &scheme)?;
/// assert!((scales.into_scalar::<f32>() - 0.1).abs() < 0.01);
/// assert_eq!(zero_points.into_scalar::<f32>(), 1.0);
/// # Ok::<(), burn_eqat::SchemeError>(())
/// ```
///
/// # Shapes
///
/// - `weight`: `[d_input, d_output]`
/// - `importance`: `[d_input]`
/// - output: step sizes and zero points, each `[groups, d_output]`
///
/// # Errors
///
/// When the group size does not divide `d_input`.
///
/// # Panics
///
/// When `importance` has another length than the weight has rows.
pub fn searched_start(
    weight: Tensor<2>,
    importance: Option<Tensor<1>>,
    scheme: &Scheme,
) -> Result<(Tensor<2>, Tensor<2>), SchemeError> {
    let [k, n] = weight.dims();
    let (scales, zero_points) = min_max_start(weight.clone(), scheme)?;
    let [groups, _] = scales.dims();
    let weight: Tensor<3> = weight.detach().reshape([groups, k / groups, n]);
    let importance = match importance {
        Some(rows) => shares(rows.reshape([groups, k / groups, 1])),
        None => Tensor::ones([groups, k / groups, 1], (&weight.device(), weight.dtype())),
    };
    let search = Search {
        weighted: weight.clone() * importance.clone(),
        weight,
        importance,
        largest: f64::from(scheme.bits.max_code()),
    };
    let (scales, zero_points) = (scales.unsqueeze_dim(1), zero_points.unsqueeze_dim(1));
    let mut best = Fit {
        gain: Tensor::zeros_like(&scales),
        scales: scales.clone(),
        zero_points: zero_points.clone(),
    };
    for part in PARTS {
        search.improve(&mut best, scales.clone() * part, zero_points.clone());
    }
    if !scheme.symmetric {
        let from = best.scales.clone();
        for step in [-1.0, 1.0] {
            let moved = (zero_points.clone() + step).clamp(0.0, search.largest);
            search.improve(&mut best, from.clone(), moved);
        }
    }
    let flat = |of: Tensor<3>| of.reshape([groups, n]);
    Ok((flat(best.scales), flat(best.zero_points)))
}

/// Importances as parts of the mean of their group, `[groups, rows, 1]`, none of them next to nothing.
fn shares(importance: Tensor<3>) -> Tensor<3> {
    let mean = importance.clone().mean_dim(1);
    let known = mean.clone().greater_elem(0.0);
    let shares = importance / mean.clone().clamp_min(f64::from(f32::MIN_POSITIVE));
    // Where nothing of a group counts, all of it counts alike.
    let ones = shares.ones_like();
    ones.mask_where(known.expand(shares.dims()), shares.clamp_min(LEAST))
}

/// What is searched in: all groups at the same time.
struct Search {
    /// `[groups, rows, d_output]`.
    weight: Tensor<3>,
    /// `[groups, rows, 1]`.
    importance: Tensor<3>,
    /// Their product.
    weighted: Tensor<3>,
    /// The last code.
    largest: f64,
}

/// The best so far, each `[groups, 1, d_output]`.
struct Fit {
    /// By how much the weighted squared error is less than that of nothing but zeros.
    gain: Tensor<3>,
    scales: Tensor<3>,
    zero_points: Tensor<3>,
}

impl Search {
    /// Fits codes and step sizes to each other from a beginning, and keeps where that is better.
    fn improve(&self, best: &mut Fit, mut scales: Tensor<3>, zero_points: Tensor<3>) {
        for _ in 0..FITS {
            let codes = (self.weight.clone() / scales.clone()).round() + zero_points.clone();
            let steps = codes.clamp(0.0, self.largest) - zero_points.clone();
            let product = (self.weighted.clone() * steps.clone()).sum_dim(1);
            let square = (steps.square() * self.importance.clone()).sum_dim(1);
            // With these codes, the error is least at this step size.
            let possible = product.clone().greater_elem(0.0);
            let fitted = product.clone() / square.clone().clamp_min(f64::from(f32::MIN_POSITIVE));
            scales = scales.mask_where(possible, fitted.clamp(SCALE_MIN, SCALE_MAX));
            let gain = (product * 2.0 - scales.clone() * square) * scales.clone();
            let better = gain.clone().greater(best.gain.clone());
            best.gain = best.gain.clone().mask_where(better.clone(), gain);
            let kept = best.scales.clone();
            best.scales = kept.mask_where(better.clone(), scales.clone());
            let kept = best.zero_points.clone();
            best.zero_points = kept.mask_where(better, zero_points.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    fn device() -> Device {
        Device::flex()
    }

    /// The weighted squared error of each group, `[groups, d_output]`.
    fn error(
        weight: &Tensor<2>,
        importance: &Tensor<1>,
        start: (Tensor<2>, Tensor<2>),
        scheme: &Scheme,
    ) -> Vec<f32> {
        let [k, n] = weight.dims();
        let (scales, zeros) = start;
        let [groups, _] = scales.dims();
        let rows = |of: Tensor<2>| {
            let of = of.reshape([groups, 1, n]).expand([groups, k / groups, n]);
            of.reshape([k, n])
        };
        let (scales, zeros) = (rows(scales), rows(zeros));
        let codes = (weight.clone() / scales.clone()).round() + zeros.clone();
        let codes = codes.clamp(0.0, f64::from(scheme.bits.max_code()));
        let error = (weight.clone() - (codes - zeros) * scales).square();
        let error = error * importance.clone().reshape([k, 1]);
        let error = error.reshape([groups, k / groups, n]).sum_dim(1);
        error.into_data().iter::<f32>().collect()
    }

    #[test]
    fn no_group_is_worse_than_min_max_and_two_bits_are_much_better() {
        let device = device();
        // Not of the device, whose numbers other tests take as well.
        let mut random = StdRng::seed_from_u64(7);
        for text in ["w2g16", "w3g16", "w4g16", "w2g-1", "w2g16-sym", "w8g16"] {
            let scheme: Scheme = text.parse().unwrap();
            let mut sums = (0.0, 0.0);
            for (k, n) in [(16, 1), (48, 5), (112, 3)] {
                // Sums of uniform numbers are near enough to a normal distribution.
                let weights = (0..k * n)
                    .map(|_| (0..4).map(|_| random.random_range(-0.3..0.3)).sum::<f32>())
                    .collect();
                let weight = Tensor::<2>::from_data(TensorData::new(weights, [k, n]), &device);
                let rows = (0..k).map(|_| random.random_range(0.05..2.0_f32)).collect();
                let importance = Tensor::<1>::from_data(TensorData::new(rows, [k]), &device);
                let range = min_max_start(weight.clone(), &scheme).unwrap();
                let searched =
                    searched_start(weight.clone(), Some(importance.clone()), &scheme).unwrap();
                let range = error(&weight, &importance, range, &scheme);
                let searched = error(&weight, &importance, searched, &scheme);
                for (searched, range) in searched.iter().zip(&range) {
                    assert!(*searched <= range * 1.0001, "{text}: {searched} {range}");
                }
                sums.0 += searched.iter().sum::<f32>();
                sums.1 += range.iter().sum::<f32>();
            }
            if text == "w2g16" {
                // All groups together: a single one may well begin with what is best.
                let (searched, range) = sums;
                assert!(searched < 0.8 * range, "{searched} {range}");
            }
        }
    }

    #[test]
    fn zeros_one_sign_and_unimportant_groups_are_fine() {
        let device = device();
        let scheme: Scheme = "w2g4".parse().unwrap();
        let weight = Tensor::<1>::from_floats(
            [
                0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 1.0, -1.0, -2.0, -3.0, -3.0,
            ],
            &device,
        );
        let weight = weight.reshape([12, 1]);
        for importance in [None, Some(Tensor::<1>::zeros([12], &device))] {
            let (scales, zeros) = searched_start(weight.clone(), importance, &scheme).unwrap();
            let ones = Tensor::<1>::ones([12], &device);
            assert_eq!(zeros.clone().into_data().iter::<f32>().last(), Some(3.0));
            for error in error(&weight, &ones, (scales, zeros), &scheme) {
                assert!(error.abs() < 1e-6, "{error}");
            }
        }
    }

    #[test]
    fn a_group_that_does_not_divide_is_refused() {
        let weight = Tensor::<2>::zeros([10, 2], &device());
        assert!(searched_start(weight, None, &"w2g4".parse().unwrap()).is_err());
    }
}
