//! Hidden state and context of a batch as bytes, in the order of this machine: they never leave it.
//!
//! Each of the two is the number of its parts and the parts: a tag, then a count of 8 bytes, or a tensor: its own type, the type
//! of its numbers here, its rank, its dimensions, its numbers.

use super::CacheDType;
use super::parts::{FlowError, FlowParts, Part};
use burn::tensor::{BoolStore, Bytes, DType, TensorData};

const COUNT: u8 = 0;
const TENSOR: u8 = 1;

/// Types by their codes.
const DTYPES: [DType; 16] = [
    DType::F64,
    DType::F32,
    DType::Flex32,
    DType::F16,
    DType::BF16,
    DType::I64,
    DType::I32,
    DType::I16,
    DType::I8,
    DType::U64,
    DType::U32,
    DType::U16,
    DType::U8,
    DType::Bool(BoolStore::Native),
    DType::Bool(BoolStore::U8),
    DType::Bool(BoolStore::U32),
];

/// Appends parts to a record, with floats in `dtype` where that is smaller; as they are where it is `None`.
pub(super) fn encode(
    parts: FlowParts,
    dtype: Option<CacheDType>,
    record: &mut Vec<u8>,
) -> Result<(), FlowError> {
    let parts = parts.into_inner();
    record.extend((parts.len() as u64).to_ne_bytes());
    for part in parts {
        match part {
            Part::Count(count) => {
                record.push(COUNT);
                record.extend(count.to_ne_bytes());
            }
            Part::Tensor(data) => encode_tensor(data, dtype, record)?,
        }
    }
    Ok(())
}

fn encode_tensor(
    data: TensorData,
    dtype: Option<CacheDType>,
    record: &mut Vec<u8>,
) -> Result<(), FlowError> {
    let own = data.dtype();
    let stored = match dtype.map(CacheDType::dtype) {
        Some(asked) if own.is_float() && asked.size() < own.size() => asked,
        _ => own,
    };
    let shape: Vec<u64> = data.shape().iter().map(|dim| *dim as u64).collect();
    let rank = u8::try_from(shape.len());
    let rank = rank.map_err(|_| FlowError::new(format!("a tensor of rank {}", shape.len())))?;
    record.extend([TENSOR, code(own)?, code(stored)?, rank]);
    for dim in shape {
        record.extend(dim.to_ne_bytes());
    }
    let data = data.try_cast(stored).map_err(FlowError::new)?;
    record.extend_from_slice(data.bytes());
    Ok(())
}

fn code(dtype: DType) -> Result<u8, FlowError> {
    let code = DTYPES.iter().position(|known| *known == dtype);
    let code = code.and_then(|code| u8::try_from(code).ok());
    code.ok_or_else(|| FlowError::new(format!("a tensor in {dtype:?} cannot be kept on disk")))
}

/// Takes parts from the front of a record, with their numbers in their own types again.
pub(super) fn decode(record: &mut &[u8]) -> Result<FlowParts, FlowError> {
    let mut parts = FlowParts::default();
    for _ in 0..take_number(record)? {
        let part = match take::<1>(record)? {
            [COUNT] => Part::Count(take_number(record)?),
            [TENSOR] => Part::Tensor(decode_tensor(record)?),
            [tag] => {
                let message = format!("holds a part of kind {tag}, expected {COUNT} or {TENSOR}");
                return Err(FlowError::new(message));
            }
        };
        parts.push(part);
    }
    Ok(parts)
}

fn decode_tensor(record: &mut &[u8]) -> Result<TensorData, FlowError> {
    let [own, stored, rank] = take::<3>(record)?;
    let (own, stored) = (dtype(own)?, dtype(stored)?);
    let mut shape = Vec::with_capacity(rank.into());
    let mut bytes = stored.size();
    for _ in 0..rank {
        let dim = usize::try_from(take_number(record)?).map_err(FlowError::new)?;
        bytes = bytes.checked_mul(dim).ok_or_else(too_short)?;
        shape.push(dim);
    }
    let bytes = record.split_off(..bytes).ok_or_else(too_short)?;
    let bytes = aligned(bytes, stored.size());
    let data = TensorData::try_from_bytes(bytes, shape, stored).map_err(FlowError::new)?;
    data.try_cast(own).map_err(FlowError::new)
}

fn dtype(code: u8) -> Result<DType, FlowError> {
    let dtype = DTYPES.get(usize::from(code)).copied();
    dtype.ok_or_else(|| {
        let known = DTYPES.len();
        FlowError::new(format!(
            "holds a tensor of type {code}, expected less than {known}"
        ))
    })
}

/// Bytes at an address that fits numbers of a size.
fn aligned(bytes: &[u8], size: usize) -> Bytes {
    match size {
        8 => Bytes::from_elems(words(bytes, u64::from_ne_bytes)),
        4 => Bytes::from_elems(words(bytes, u32::from_ne_bytes)),
        2 => Bytes::from_elems(words(bytes, u16::from_ne_bytes)),
        _ => Bytes::from_elems(bytes.to_vec()),
    }
}

fn words<const N: usize, T>(bytes: &[u8], word: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (words, _) = bytes.as_chunks::<N>();
    words.iter().map(|bytes| word(*bytes)).collect()
}

fn take_number(record: &mut &[u8]) -> Result<u64, FlowError> {
    take(record).map(u64::from_ne_bytes)
}

fn take<const N: usize>(record: &mut &[u8]) -> Result<[u8; N], FlowError> {
    let (first, rest) = record.split_first_chunk::<N>().ok_or_else(too_short)?;
    *record = rest;
    Ok(*first)
}

fn too_short() -> FlowError {
    FlowError::new("ends in the middle of a part")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Flow;
    use burn::tensor::{Bool, Device, Int, Tensor};

    type Mixed = (
        (Tensor<2>, Option<Tensor<1, Int>>),
        Vec<Tensor<2, Bool>>,
        Option<Tensor<3>>,
    );

    fn mixed(device: &Device) -> Mixed {
        let floats = [[0.1_f32, -2.5, 1.0e-30], [f32::MAX, 0.0, -0.0]];
        let ints = [i32::MIN, -1, 0, 16_777_217];
        let bools = |value: bool| Tensor::from_data([[value, !value, true]], device);
        (
            (
                Tensor::from_data(floats, (device, DType::F32)),
                Some(Tensor::from_data(ints, (device, DType::I32))),
            ),
            vec![bools(false), bools(true)],
            None,
        )
    }

    fn parts<T: Flow>(value: T) -> FlowParts {
        let mut parts = FlowParts::default();
        value.take_apart(&mut parts).unwrap();
        parts
    }

    fn encoded<T: Flow>(value: T, dtype: Option<CacheDType>) -> Vec<u8> {
        let mut record = Vec::new();
        encode(parts(value), dtype, &mut record).unwrap();
        record
    }

    fn decoded<T: Flow>(mut record: &[u8], device: &Device) -> Result<T, FlowError> {
        let mut parts = decode(&mut record)?;
        assert!(record.is_empty());
        let value = T::put_together(&mut parts, device)?;
        parts.finish()?;
        Ok(value)
    }

    #[test]
    fn values_come_back_exactly() {
        let device = Device::flex();
        for dtype in [None, Some(CacheDType::F32)] {
            let record = encoded(mixed(&device), dtype);
            let back: Mixed = decoded(&record, &device).unwrap();
            assert_eq!(parts(back), parts(mixed(&device)));
        }
    }

    #[test]
    fn only_floats_are_rounded() {
        let device = Device::flex();
        let record = encoded(mixed(&device), Some(CacheDType::Bf16));
        assert!(record.len() < encoded(mixed(&device), None).len());
        let ((floats, ints), bools, none): Mixed = decoded(&record, &device).unwrap();
        let ((expected, exact_ints), exact_bools, _) = mixed(&device);
        let expected = expected.into_data().try_cast(DType::BF16).unwrap();
        assert_eq!(
            floats.into_data(),
            expected.try_cast(DType::F32).unwrap(),
            "rounded to the nearest"
        );
        assert_eq!(parts(ints), parts(exact_ints));
        assert_eq!(parts(bools), parts(exact_bools));
        assert!(none.is_none());
        // What is rounded already is not rounded again.
        let again: Mixed = decoded(&record, &device).unwrap();
        assert_eq!(encoded(again, Some(CacheDType::Bf16)), record);
    }

    #[test]
    fn a_record_of_something_else_is_an_error() {
        let device = Device::flex();
        let matrix = Tensor::<2>::zeros([2, 3], &device);
        let record = encoded(matrix.clone(), None);
        let error = |record: &[u8]| decoded::<Tensor<3>>(record, &device).unwrap_err();
        assert_eq!(
            error(&record),
            FlowError::new("holds a tensor of rank 2, expected rank 3")
        );
        let ints = encoded(Tensor::<3, Int>::zeros([1, 1, 1], &device), None);
        let found = error(&ints).to_string();
        assert!(found.ends_with("expected floats"), "{found}");
        let list = encoded(vec![matrix.clone()], None);
        assert_eq!(
            error(&list),
            FlowError::new("holds a count of 1, expected a tensor")
        );
        let option = decoded::<Option<Tensor<2>>>(&encoded(vec![matrix.clone(); 2], None), &device);
        let found = option.unwrap_err().to_string();
        assert_eq!(found, "holds 2 values, expected none or one");
        let pair = encoded((matrix.clone(), matrix), None);
        let found = decoded::<Tensor<2>>(&pair, &device).unwrap_err();
        assert_eq!(found, FlowError::new("holds 1 parts more than expected"));
        for length in 0..record.len() {
            assert!(decode(&mut &record[..length]).is_err(), "{length}");
        }
    }
}
