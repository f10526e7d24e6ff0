//! Groups tokenized texts so that little of a batch is padding and no batch is large.

/// Most tokens of a batch, padding included: two passages of full length, or some tens of short texts. More gains
/// nothing on one core, costs memory, and lets a search wait longer behind an ingest.
const MAX_BATCH_TOKENS: usize = 512;

/// Some texts that go through the model together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// Indices of the texts.
    pub(super) rows: Vec<usize>,
    /// Tokens of the longest of them, to which the others are padded.
    pub(super) width: usize,
}

impl Batch {
    /// Token ids and mask (1 for a token, 0 for padding), each of shape (rows, width). `tokens` are those of all texts.
    pub(super) fn inputs(&self, tokens: &[Vec<u32>]) -> (Vec<i32>, Vec<i32>) {
        let size = self.rows.len() * self.width;
        let (mut ids, mut mask) = (Vec::with_capacity(size), Vec::with_capacity(size));
        for (index, row) in self.rows.iter().enumerate() {
            ids.extend(tokens[*row].iter().map(|id| *id as i32));
            mask.resize(ids.len(), 1);
            ids.resize((index + 1) * self.width, 0);
            mask.resize(ids.len(), 0);
        }
        (ids, mask)
    }
}

/// Cuts the texts, the longest first, into batches of at most [`MAX_BATCH_TOKENS`]; every text is in one of them.
pub(super) fn plan(tokens: &[Vec<u32>]) -> Vec<Batch> {
    let mut rows: Vec<usize> = (0..tokens.len()).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(tokens[*row].len()));
    let mut batches = Vec::new();
    let mut rest = rows.as_slice();
    while let [longest, ..] = rest {
        let width = tokens[*longest].len();
        let count = (MAX_BATCH_TOKENS / width.max(1)).clamp(1, rest.len());
        let (batch, others) = rest.split_at(count);
        batches.push(Batch { rows: batch.to_vec(), width });
        rest = others;
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(lengths: &[usize]) -> Vec<Vec<u32>> {
        lengths.iter().map(|length| vec![7; *length]).collect()
    }

    #[test]
    fn texts_of_similar_length_go_together() {
        let batches = plan(&lengths(&[3, 256, 4, 200, 3, 250]));
        let rows: Vec<_> = batches.iter().map(|batch| (batch.rows.clone(), batch.width)).collect();
        assert_eq!(rows, [(vec![1, 5], 256), (vec![3, 2], 200), (vec![0, 4], 3)]);
    }

    #[test]
    fn every_text_is_in_one_batch_and_none_is_too_large() {
        let tokens = lengths(&(0..500).map(|index| index * 37 % 256 + 2).collect::<Vec<_>>());
        let batches = plan(&tokens);
        assert!(batches.iter().all(|batch| batch.rows.len() * batch.width <= MAX_BATCH_TOKENS));
        let mut rows: Vec<_> = batches.into_iter().flat_map(|batch| batch.rows).collect();
        rows.sort_unstable();
        assert_eq!(rows, (0..500).collect::<Vec<_>>());
        assert_eq!(plan(&[]), []);
    }

    #[test]
    fn shorter_rows_are_padded_and_masked() {
        let tokens = [vec![101, 5, 6, 102], vec![101, 102]];
        let batch = Batch { rows: vec![0, 1], width: 4 };
        let (ids, mask) = batch.inputs(&tokens);
        assert_eq!(ids, [101, 5, 6, 102, 101, 102, 0, 0]);
        assert_eq!(mask, [1, 1, 1, 1, 1, 1, 0, 0]);
    }
}
