//! Which rows a program was given, and which it has answered.

use super::CommandError;
use decode::{
    Answer, Asking, Batch, DecodeError, Reject,
    budget::{Budget, Reservation},
};

/// What a reject takes beside its texts, in bytes.
const REJECT_BYTES: usize = 256;

/// The rows of one object.
pub struct Account {
    fan_out: bool,
    asked: Bits,
    answered: Bits,
    /// Of them, those that may have no other answer.
    closed: Bits,
    /// Of them, those one of whose answers was refused.
    refused: Bits,
    /// Rows that cannot be read, and so are not asked about.
    rejects: Vec<Reject>,
    rejects_bytes: usize,
    reserved: Reservation,
}

impl Account {
    /// Returns an account of no rows; with `fan_out` a row may have several answers.
    pub fn new(fan_out: bool, budget: &Budget) -> Self {
        let (asked, answered, closed, refused) = Default::default();
        let (rejects, rejects_bytes, reserved) = (Vec::new(), 0, budget.nothing());
        Self { fan_out, asked, answered, closed, refused, rejects, rejects_bytes, reserved }
    }

    /// Notes rows that are about to be handed over.
    ///
    /// # Errors
    /// [`DecodeError::Limits`] or [`DecodeError::Busy`] when there is no memory to keep account of them.
    pub fn ask(&mut self, asking: Asking) -> Result<(), DecodeError> {
        self.rejects_bytes += asking.rejects.iter().map(size).sum::<usize>();
        let last = asking.rows.last().copied().unwrap_or(0);
        let n_bits = 4 * usize::try_from(last / 8 + 8).unwrap_or(usize::MAX);
        // A list grows by doubling.
        self.reserved.grow_to("the account of the command's rows", 2 * (n_bits + self.rejects_bytes))?;
        asking.rows.iter().for_each(|row| self.asked.set(*row));
        self.rejects.extend(asking.rejects);
        Ok(())
    }

    /// Notes an answer, and returns which of its row it is; `is_only` when it may have no other.
    ///
    /// # Errors
    /// [`CommandError::Failed`] when the row was not given, or has its answer.
    pub fn answer(&mut self, row: u64, is_only: bool) -> Result<Answer, CommandError> {
        if !self.asked.has(row) {
            return Err(CommandError::failed(format!("answered row {row}, which it was not given")));
        }
        let is_first = !self.answered.has(row);
        if !is_first && !self.fan_out {
            return Err(CommandError::failed(format!("answered row {row} twice, which needs fan_out = true")));
        }
        if !is_first && (is_only || self.closed.has(row)) {
            return Err(CommandError::failed(format!("answered row {row}, and filtered or refused it")));
        }
        self.answered.set(row);
        if is_only {
            self.closed.set(row);
        }
        Ok(match is_first {
            true => Answer::First,
            false if self.refused.has(row) => Answer::OfReject,
            false => Answer::Further,
        })
    }

    /// Notes that an answer was refused, and so its row.
    pub fn refuse(&mut self, row: u64) {
        self.refused.set(row);
    }

    /// Adds the rejects so far to a batch.
    pub fn take_rejects(&mut self, batch: &mut Batch) {
        batch.n_read += self.rejects.len() as u64;
        batch.reject_bytes += std::mem::take(&mut self.rejects_bytes);
        batch.rejects.append(&mut self.rejects);
    }

    /// Checks that every row has an answer.
    ///
    /// # Errors
    /// [`CommandError::Failed`] when one has none.
    pub fn check_whole(&self) -> Result<(), CommandError> {
        match self.asked.first_not_in(&self.answered) {
            None => Ok(()),
            Some(row) => Err(CommandError::failed(format!("did not answer row {row}"))),
        }
    }
}

fn size(reject: &Reject) -> usize {
    reject.payload.len() + reject.message.len() + REJECT_BYTES
}

/// A set of row numbers, a bit for each.
#[derive(Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn set(&mut self, row: u64) {
        let (word, bit) = place(row);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= bit;
    }

    fn has(&self, row: u64) -> bool {
        let (word, bit) = place(row);
        self.0.get(word).is_some_and(|bits| bits & bit != 0)
    }

    fn first_not_in(&self, other: &Self) -> Option<u64> {
        let missing = self.0.iter().enumerate().map(|(word, bits)| bits & !other.0.get(word).copied().unwrap_or(0));
        let (word, bits) = missing.enumerate().find(|(_, bits)| *bits != 0)?;
        Some(word as u64 * 64 + u64::from(bits.trailing_zeros()))
    }
}

fn place(row: u64) -> (usize, u64) {
    (usize::try_from(row / 64).unwrap_or(usize::MAX), 1 << (row % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(fan_out: bool) -> Account {
        let mut account = Account::new(fan_out, &Budget::default());
        let rows = vec![1, 2, 64, 200];
        account.ask(Asking { rows, ..Asking::default() }).expect("memory");
        account
    }

    #[test]
    fn every_row_has_to_be_answered_and_no_other() {
        let mut account = asked(false);
        assert_eq!(account.check_whole().expect_err("none yet").to_string(), "the command did not answer row 1");
        for row in [200, 1, 64] {
            assert_eq!(account.answer(row, false).expect("asked"), Answer::First);
        }
        assert_eq!(account.check_whole().expect_err("one is left").to_string(), "the command did not answer row 2");
        account.answer(2, true).expect("asked");
        account.check_whole().expect("all are answered");
        for row in [0, 3, 63, 201, u64::MAX] {
            account.answer(row, false).expect_err("was not asked");
        }
    }

    #[test]
    fn a_second_answer_needs_fan_out() {
        let mut account = asked(false);
        account.answer(1, false).expect("the first");
        account.answer(1, false).expect_err("the second");
        let mut account = asked(true);
        assert_eq!(account.answer(1, false).expect("the first"), Answer::First);
        assert_eq!(account.answer(1, false).expect("the second"), Answer::Further);
        account.answer(1, true).expect_err("it has rows");
        account.refuse(1);
        assert_eq!(account.answer(1, false).expect("the third"), Answer::OfReject);
        assert_eq!(account.answer(2, false).expect("another row"), Answer::First);
    }
}
