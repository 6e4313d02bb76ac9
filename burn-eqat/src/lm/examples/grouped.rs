//! The order of texts in an epoch.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// Batches in a chunk, within which texts are sorted by length.
const CHUNK: usize = 50;

/// The batches of an epoch, of texts with these lengths: at random, but with texts of about one length in each, so that little is
/// padded. The same seed and epoch give the same batches.
///
/// A chunk of texts is drawn and sorted by length, and its batches are cut from that. Then the batches are put in another order, so
/// that an epoch does not go from long texts to short ones.
pub(super) fn shuffled(
    lengths: &[usize],
    batch_size: usize,
    seed: u64,
    epoch: u64,
) -> Vec<Vec<usize>> {
    // Neighbouring numbers of either kind give unlike generators.
    let seed = seed ^ epoch.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut rng = StdRng::seed_from_u64(seed);
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.shuffle(&mut rng);
    // With few texts, smaller chunks: with a single one, the same texts would be together in each epoch.
    let batches = CHUNK.min(lengths.len() / (4 * batch_size)).max(1);
    for chunk in order.chunks_mut(batches * batch_size) {
        chunk.sort_by_key(|index| lengths[*index]);
    }
    let mut batches: Vec<Vec<usize>> = order.chunks(batch_size).map(<[usize]>::to_vec).collect();
    batches.shuffle(&mut rng);
    batches
}

/// The batches of an epoch that has no order of its own: by length.
pub(super) fn by_length(lengths: &[usize], batch_size: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|index| lengths[*index]);
    order.chunks(batch_size).map(<[usize]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn padding(batches: &[Vec<usize>], lengths: &[usize]) -> usize {
        let padding = |batch: &Vec<usize>| {
            let of = || batch.iter().map(|index| lengths[*index]);
            of().max().unwrap_or(0) * batch.len() - of().sum::<usize>()
        };
        batches.iter().map(padding).sum()
    }

    #[test]
    fn every_text_comes_once_an_epoch_beside_texts_of_its_length() {
        let lengths: Vec<usize> = (0..1003).map(|i| 10 + i * 7919 % 500).collect();
        let (first, second) = (shuffled(&lengths, 8, 3, 0), shuffled(&lengths, 8, 3, 1));
        assert_ne!(first, second);
        assert_eq!(first, shuffled(&lengths, 8, 3, 0));
        assert_ne!(first, shuffled(&lengths, 8, 4, 0));
        for batches in [&first, &second, &by_length(&lengths, 8)] {
            assert_eq!(batches.len(), lengths.len().div_ceil(8));
            let mut all = batches.concat();
            all.sort_unstable();
            assert_eq!(all, (0..lengths.len()).collect::<Vec<_>>());
        }
        let order: Vec<usize> = (0..lengths.len()).collect();
        let plain: Vec<Vec<usize>> = order.chunks(8).map(<[usize]>::to_vec).collect();
        let (plain, grouped) = (padding(&plain, &lengths), padding(&first, &lengths));
        assert!(grouped * 5 < plain, "{grouped} of {plain}");
        // Few texts are not always together with the same others.
        let with_first = |epoch| {
            let batches = shuffled(&lengths[..40], 4, 3, epoch);
            batches.into_iter().find(|batch| batch.contains(&0))
        };
        assert_ne!(with_first(0), with_first(1));
    }

    #[test]
    fn a_few_texts_are_a_batch() {
        assert_eq!(shuffled(&[], 4, 0, 0), Vec::<Vec<usize>>::new());
        assert_eq!(shuffled(&[5], 4, 0, 0), [[0]]);
        assert_eq!(by_length(&[5, 2, 3], 2), [vec![1, 2], vec![0]]);
    }
}
