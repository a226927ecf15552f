//! What a model says of tokens: log-probabilities, made on the device. A row of logits is half a megabyte where a vocabulary has 131,072
//! tokens; what is asked of it are a few numbers.

use crate::error::Result;
use crate::gpu::{Device, DeviceTensor, Plan, Reading, Recording, Submission};
use crate::kernels::{LogProbOutputs, log_probs};
use crate::tensor::DType;

/// A token and its log-probability, nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogProb {
    /// The token.
    pub id: u32,
    /// `ln p`, 0 or less; NaN where the model's logits are no numbers.
    pub value: f64,
}

/// A token, and the likeliest ones in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct LogProbs {
    /// The token itself.
    pub token: LogProb,
    /// The likeliest first, of equal ones the lowest id.
    pub top: Vec<LogProb>,
}

impl LogProbs {
    /// Is the token the likeliest, of equal ones that of the lowest id? Of no numbers none is.
    #[must_use]
    pub fn is_greedy(&self) -> bool {
        self.top.first().is_some_and(|top| top.id == self.token.id && !top.value.is_nan())
    }

    /// Are the logits numbers?
    #[must_use]
    pub fn is_sound(&self) -> bool {
        !self.token.value.is_nan()
    }
}

/// Of `most` in a vocabulary of `vocab`, as many as there are, and at least the likeliest, by which it shows whether logits are numbers.
pub(super) fn told(most: usize, vocab: usize) -> usize {
    most.clamp(1, vocab.max(1))
}

/// Makes scores of up to so many rows of logits.
pub(super) struct Scorer {
    /// Of the likeliest, at least one.
    pub(super) most: usize,
    /// Tokens that are asked about, `[rows]`.
    targets: DeviceTensor,
    values: DeviceTensor,
    ids: DeviceTensor,
    /// All that is told of them, so that it is one read: targets, values and ids, a word a row.
    all: DeviceTensor,
}

impl Scorer {
    pub(super) fn new(device: &Device, rows: usize, most: usize) -> Result<Self> {
        let of_each = |dtype, words: usize| device.alloc(dtype, [rows, words]);
        Ok(Self {
            most,
            targets: device.alloc(DType::U32, [rows])?,
            values: of_each(DType::F32, 1 + most)?,
            ids: of_each(DType::U32, most)?,
            all: device.alloc(DType::U32, [rows * (2 + 2 * most), 1])?,
        })
    }

    /// Adds scores of `targets`, `[rows]`, by `logits`, `[rows, vocab]`; gives what is to be read then.
    pub(super) fn add(&self, plan: &mut Plan, logits: &DeviceTensor, targets: &DeviceTensor) -> Result<DeviceTensor> {
        let (rows, most) = (targets.shape.elements(), self.most);
        let values = self.values.view(DType::F32, [rows, 1 + most])?;
        let ids = self.ids.view(DType::U32, [rows, most])?;
        log_probs(plan, logits, targets, &LogProbOutputs { values: &values, ids: &ids })?;
        let mut first = 0;
        for part in [targets, &values, &ids] {
            plan.copy(part, &self.all.rows(first, part.words())?)?;
            first += part.words();
        }
        self.all.rows(0, first)
    }

    /// Begins to read what [`Scorer::add`] left of so many rows, of which `most` of the likeliest are wanted.
    pub(super) fn read(&self, device: &Device, rows: usize, most: usize) -> Result<Scoring> {
        let all = self.all.rows(0, rows * (2 + 2 * self.most))?;
        Ok(Scoring { reading: device.begin_read(&all)?, held: self.most, asked: most })
    }

    /// The first `rows` of the targets.
    pub(super) fn targets(&self, rows: usize) -> Result<DeviceTensor> {
        self.targets.view(DType::U32, [rows])
    }
}

/// Scores of the rows of one tensor, recorded.
pub(super) struct RecordedScores {
    scorer: Scorer,
    recording: Recording,
    /// What is to be read.
    all: DeviceTensor,
}

impl RecordedScores {
    /// Of `logits`, `[rows, vocab]`, for the tokens that `targets` holds then, or those that are written to its own.
    pub(super) fn new(
        device: &Device,
        logits: &DeviceTensor,
        targets: Option<&DeviceTensor>,
        most: usize,
    ) -> Result<Self> {
        let scorer = Scorer::new(device, logits.shape.rows(), told(most, logits.shape.cols()))?;
        let mut plan = Plan::new(device);
        let all = scorer.add(&mut plan, logits, targets.unwrap_or(&scorer.targets))?;
        Ok(Self { recording: plan.record()?, scorer, all })
    }

    /// Is this what tells of `most` in a vocabulary of `vocab`?
    pub(super) fn tells(&self, most: usize, vocab: usize) -> bool {
        self.scorer.most == told(most, vocab)
    }

    /// Asks about a token, where targets are its own, of one row.
    pub(super) fn ask(&self, device: &Device, id: u32) -> Result<()> {
        device.write(&self.scorer.targets, &[id])
    }

    /// Sends `submission` off with the scores behind it, of which `most` are wanted.
    pub(super) fn submit(&self, mut submission: Submission, most: usize) -> Result<Scoring> {
        submission.run(&self.recording)?;
        Ok(Scoring { reading: submission.read(&self.all)?, held: self.scorer.most, asked: most })
    }
}

/// Scores that the device is making.
pub struct Scoring {
    reading: Reading,
    /// Of the likeliest, as many as the device tells of.
    held: usize,
    /// And as were asked for.
    asked: usize,
}

impl Scoring {
    /// What is said of each row's token, once it is there.
    ///
    /// # Errors
    /// As [`Reading::words`].
    pub async fn rows(self) -> Result<Vec<LogProbs>> {
        Ok(parse(&self.reading.words().await?, self.held, self.asked))
    }
}

/// The words of a [`Scorer`] that tells of `held` of the likeliest, of which `asked` are wanted.
fn parse(words: &[u32], held: usize, asked: usize) -> Vec<LogProbs> {
    let rows = words.len() / (2 + 2 * held);
    let (targets, rest) = words.split_at(rows);
    let (values, ids) = rest.split_at(rows * (1 + held));
    let said = |id: u32, bits: u32| LogProb { id, value: f64::from(f32::from_bits(bits)) };
    let row = |(target, (values, ids)): (&u32, (&[u32], &[u32]))| LogProbs {
        token: said(*target, values[0]),
        top: ids.iter().zip(&values[1..]).take(asked).map(|(id, value)| said(*id, *value)).collect(),
    };
    targets.iter().zip(values.chunks_exact(1 + held).zip(ids.chunks_exact(held))).map(row).collect()
}
