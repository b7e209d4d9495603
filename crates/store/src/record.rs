//! Table cells, the same for both databases, and the journal's row in them. What comes out of a table is never trusted.

use crate::fault::StoreFault;
use florin_core::amount::Amount;
use florin_core::id::{Digest, Epoch, LedgerTime, Seq};
use florin_core::journal::{ROW_BYTES_MAX, Row};
use florin_core::wire::Message;

/// The largest number that both databases hold: SQLite's integers are signed.
pub(crate) const NUMBER_MAX: u64 = Seq::MAX.0;

/// One value in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    /// Nothing.
    Null,
    /// A whole number, at most [`NUMBER_MAX`].
    Number(u64),
    /// Bytes. Text comes back as bytes too, because one of the drivers does not tell them apart.
    Bytes(Vec<u8>),
    /// Text that is written.
    Text(String),
    /// What no table of ours may hold: a float, a date, a negative number.
    Foreign,
}

impl Cell {
    /// An amount: sixteen bytes, big-endian, so that they sort as the amounts do.
    pub(crate) fn amount(amount: Amount) -> Cell {
        Cell::Bytes(amount.units().to_be_bytes().to_vec())
    }

    pub(crate) fn bytes(bytes: &[u8]) -> Cell {
        Cell::Bytes(bytes.to_vec())
    }

    pub(crate) fn optional<T>(value: Option<T>, cell: impl FnOnce(T) -> Cell) -> Cell {
        value.map_or(Cell::Null, cell)
    }
}

/// One row of a result, read from left to right.
#[derive(Debug)]
pub(crate) struct Cells {
    table: &'static str,
    cells: std::vec::IntoIter<Cell>,
}

impl Cells {
    pub(crate) fn new(table: &'static str, cells: Vec<Cell>) -> Cells {
        Cells { table, cells: cells.into_iter() }
    }

    /// All of them as they are.
    pub(crate) fn into_cells(self) -> Vec<Cell> {
        self.cells.collect()
    }

    fn malformed(&self, column: &'static str) -> StoreFault {
        StoreFault::Malformed { table: self.table, column }
    }

    pub(crate) fn number(&mut self, column: &'static str) -> Result<u64, StoreFault> {
        match self.cells.next() {
            Some(Cell::Number(number)) if number <= NUMBER_MAX => Ok(number),
            _ => Err(self.malformed(column)),
        }
    }

    pub(crate) fn bytes(&mut self, column: &'static str) -> Result<Vec<u8>, StoreFault> {
        match self.cells.next() {
            Some(Cell::Bytes(bytes)) => Ok(bytes),
            _ => Err(self.malformed(column)),
        }
    }

    pub(crate) fn fixed<const N: usize>(&mut self, column: &'static str) -> Result<[u8; N], StoreFault> {
        self.bytes(column)?.try_into().map_err(|_| self.malformed(column))
    }

    /// What `read` makes of the next value; `None` where it is null.
    pub(crate) fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, StoreFault>,
    ) -> Result<Option<T>, StoreFault> {
        if self.cells.as_slice().first() == Some(&Cell::Null) {
            self.cells.next();
            return Ok(None);
        }
        read(self).map(Some)
    }

    pub(crate) fn small(&mut self, column: &'static str) -> Result<u32, StoreFault> {
        u32::try_from(self.number(column)?).map_err(|_| self.malformed(column))
    }

    pub(crate) fn text(&mut self, column: &'static str) -> Result<String, StoreFault> {
        String::from_utf8(self.bytes(column)?).map_err(|_| self.malformed(column))
    }

    pub(crate) fn amount(&mut self, column: &'static str) -> Result<Amount, StoreFault> {
        Ok(Amount::new(u128::from_be_bytes(self.fixed(column)?)))
    }

    /// A member of a closed list, stored as its number.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        column: &'static str,
        all: &[T],
        number: impl Fn(T) -> u64,
    ) -> Result<T, StoreFault> {
        let found = self.number(column)?;
        all.iter().copied().find(|member| number(*member) == found).ok_or(self.malformed(column))
    }

    /// Bytes that have to be a canonical message.
    pub(crate) fn message<T: Message>(&mut self, column: &'static str) -> Result<T, StoreFault> {
        T::decode(&self.bytes(column)?).map_err(|_| self.malformed(column))
    }

    /// A journal row from the columns `seq, epoch, time_ms, previous, hash, payload`. Lengths are checked here; whether the
    /// hash is right is for whoever folds the row.
    pub(crate) fn row(mut self) -> Result<Row, StoreFault> {
        let row = Row {
            seq: Seq(self.number("seq")?),
            epoch: Epoch(self.number("epoch")?),
            time: LedgerTime(self.number("time_ms")?),
            previous: Digest(self.fixed("previous")?),
            hash: Digest(self.fixed("hash")?),
            payload: self.bytes("payload")?,
        };
        if row.payload.len() > ROW_BYTES_MAX { Err(self.malformed("payload")) } else { Ok(row) }
    }
}

/// Whether a row may stand in a journal at all, whatever stands before it: its hash is its own, it fits, and only the
/// first row has no predecessor. A row that fails here is a defect of the writer and can never be appended.
pub(crate) fn is_sound(row: &Row) -> bool {
    row.payload.len() <= ROW_BYTES_MAX
        && (1..=NUMBER_MAX).contains(&row.seq.0)
        && row.epoch.0 <= NUMBER_MAX
        && row.time.0 <= NUMBER_MAX
        && (row.seq != Seq(1) || row.previous == Digest::ZERO)
        && row.hash == row.computed_hash()
}
