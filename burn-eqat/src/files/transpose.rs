use burn::tensor::TensorData;

/// A matrix with its axes exchanged, of any type whose elements take whole bytes.
pub(super) fn transpose(data: TensorData) -> TensorData {
    let (rows, columns) = (data.shape()[0], data.shape()[1]);
    let dtype = data.dtype();
    let from = data.as_bytes();
    let to = match dtype.size() {
        1 => transposed::<1>(from, rows, columns),
        2 => transposed::<2>(from, rows, columns),
        4 => transposed::<4>(from, rows, columns),
        8 => transposed::<8>(from, rows, columns),
        other => unreachable!("no type of a parameter takes {other} bytes"),
    };
    TensorData::from_bytes_vec(to, vec![columns, rows], dtype)
}

fn transposed<const SIZE: usize>(from: &[u8], rows: usize, columns: usize) -> Vec<u8> {
    let mut to = vec![0; from.len()];
    let (from, _) = from.as_chunks::<SIZE>();
    let (elements, _) = to.as_chunks_mut::<SIZE>();
    // In tiles, so that neither side strides through memory.
    const SIDE: usize = 32;
    for top in (0..rows).step_by(SIDE) {
        for left in (0..columns).step_by(SIDE) {
            for i in top..(top + SIDE).min(rows) {
                for j in left..(left + SIDE).min(columns) {
                    elements[j * rows + i] = from[i * columns + j];
                }
            }
        }
    }
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_exchanged_in_every_width() {
        let values: Vec<i64> = (0..35 * 70).collect();
        let data = TensorData::new(values, [35, 70]);
        for dtype in [
            burn::tensor::DType::F16,
            burn::tensor::DType::F32,
            burn::tensor::DType::I64,
        ] {
            let data = data.clone().convert_dtype(dtype);
            let turned = transpose(data.clone());
            assert_eq!(turned.shape().as_slice(), [70, 35]);
            let of = |data: &TensorData| data.iter::<f32>().collect::<Vec<_>>();
            let (before, after) = (of(&data), of(&turned));
            for (i, j) in [(0, 0), (3, 69), (34, 1), (33, 40)] {
                assert_eq!(after[j * 35 + i], before[i * 70 + j], "{dtype:?} {i} {j}");
            }
            assert_eq!(transpose(turned), data);
        }
    }
}
