//! The search tables held against others that were folded from the same rows: table by table, in the order of their keys, a page
//! at a time. It finds the first record of each table that differs, and changes nothing.

use super::{Place, Projection};
use crate::database::Database;
use crate::fault::StoreFault;
use crate::record::Cell;
use florin_core::hex;
use florin_core::id::{Digest, Seq};
use std::cmp::Ordering;
use std::collections::VecDeque;

/// Records read at once from each side: enough to hide the latency, and few enough that records of a megabyte fit memory.
const PAGE: usize = 256;

/// How a table is read: its key's columns first, then all others.
#[derive(Debug)]
struct Layout {
    table: &'static str,
    key: &'static [&'static str],
    rest: &'static [&'static str],
}

const LAYOUTS: &[Layout] = &[
    Layout { table: "events", key: &["place"], rest: &["at_ms", "command", "payload"] },
    Layout { table: "mentions", key: &["subject", "place"], rest: &[] },
    Layout {
        table: "accounts",
        key: &["id"],
        rest: &[
            "owner",
            "customer",
            "asset",
            "rule",
            "debits_posted",
            "credits_posted",
            "debits_pending",
            "credits_pending",
        ],
    },
    Layout { table: "transfers", key: &["place"], rest: &["at_ms", "debit", "credit", "amount", "reason"] },
    Layout { table: "holds", key: &["id"], rest: &["debit", "credit", "amount", "reason"] },
    Layout {
        table: "deposits",
        key: &["chain", "txid", "vout"],
        rest: &[
            "place", "changed", "customer", "amount", "status", "height", "block", "seen_ms", "debited", "wallet",
            "branch", "address",
        ],
    },
    Layout {
        table: "withdrawals",
        key: &["id"],
        rest: &[
            "place",
            "changed",
            "customer",
            "asset",
            "amount",
            "fee",
            "script",
            "status",
            "plan",
            "requested_ms",
            "txid",
            "height",
            "block",
        ],
    },
    Layout { table: "plans", key: &["id"], rest: &["place", "changed", "wallet", "status", "txid"] },
    Layout { table: "blocks", key: &["chain", "hash"], rest: &["place", "height", "previous", "time_s", "connected"] },
    Layout { table: "quotes", key: &["id"], rest: &["place", "customer", "payload", "status"] },
    Layout { table: "addresses", key: &["customer", "path"], rest: &["place"] },
];

/// In what a table differs from what the journal says.
#[derive(Debug, thiserror::Error)]
pub enum TableFault {
    /// It can't be read, or holds what was never written by us.
    #[error("it can't be read")]
    Unreadable(#[source] StoreFault),
    /// A record is not there.
    #[error("the record {key} is missing")]
    Missing {
        /// The record's key, in words.
        key: String,
    },
    /// A record is there that the journal does not say.
    #[error("the record {key} is not of the journal")]
    Unexpected {
        /// The record's key, in words.
        key: String,
    },
    /// A record says something else.
    #[error("the record {key} has another {column} than the journal says")]
    Differs {
        /// The record's key, in words.
        key: String,
        /// The first column that differs.
        column: &'static str,
    },
}

impl TableFault {
    /// The stable code of this fault.
    pub fn code(&self) -> &'static str {
        match self {
            TableFault::Unreadable(fault) => fault.code(),
            TableFault::Missing { .. } => "table_record_missing",
            TableFault::Unexpected { .. } => "table_record_unexpected",
            TableFault::Differs { .. } => "table_record_differs",
        }
    }
}

/// What one table was found to be.
#[derive(Debug)]
pub struct TableReport {
    /// Its name.
    pub table: &'static str,
    /// How many records agree; or the first that does not.
    pub found: Result<u64, TableFault>,
}

impl Projection {
    /// From now on this handle reads the tables as they are at one moment, whatever the projector writes; it can write no more.
    ///
    /// # Errors
    /// Where the store fails.
    pub fn begin_view(&mut self) -> Result<(), StoreFault> {
        self.database.begin_view()
    }

    /// As [`Projection::cursor`], and refuses a table of cursors that holds anything else.
    ///
    /// # Errors
    /// Where the store fails, or where there is not exactly one cursor.
    pub fn only_cursor(&mut self) -> Result<(Seq, Digest), StoreFault> {
        let rows = self.database.query("reader", "SELECT id FROM reader LIMIT 2", Vec::new())?;
        match rows.len() {
            1 => self.cursor(),
            _ => Err(StoreFault::Malformed { table: "reader", column: "id" }),
        }
    }

    /// Compares all tables with `expected`, which was folded up to the same row. `progress` hears a table's name and how many of
    /// its records were compared.
    ///
    /// # Errors
    /// Where `expected` can't be read. What is wrong with the tables themselves is in the reports.
    pub fn compare_with(
        &mut self,
        expected: &mut Projection,
        mut progress: impl FnMut(&'static str, u64),
    ) -> Result<Vec<TableReport>, StoreFault> {
        let compare = |layout: &'static Layout| {
            let mut progress = |count| progress(layout.table, count);
            let found = compare_table(layout, &mut self.database, &mut expected.database, &mut progress)?;
            Ok(TableReport { table: layout.table, found })
        };
        LAYOUTS.iter().map(compare).collect()
    }
}

/// The outer fault is of the expected side.
fn compare_table(
    layout: &'static Layout,
    found: &mut Database,
    expected: &mut Database,
    progress: &mut dyn FnMut(u64),
) -> Result<Result<u64, TableFault>, StoreFault> {
    let (mut found, mut expected) = (Walk::new(layout, found), Walk::new(layout, expected));
    let mut count = 0;
    loop {
        let right = expected.next()?;
        let left = match found.next() {
            Ok(left) => left,
            Err(fault) => return Ok(Err(TableFault::Unreadable(fault))),
        };
        let (left, right) = match (left, right) {
            (None, None) => return Ok(Ok(count)),
            (None, Some(right)) => return Ok(Err(TableFault::Missing { key: layout.words(&right) })),
            (Some(left), None) => return Ok(Err(TableFault::Unexpected { key: layout.words(&left) })),
            (Some(left), Some(right)) => (left, right),
        };
        let keys = layout.key.len();
        match order(&left[..keys], &right[..keys]) {
            Ordering::Less => return Ok(Err(TableFault::Unexpected { key: layout.words(&left) })),
            Ordering::Greater => return Ok(Err(TableFault::Missing { key: layout.words(&right) })),
            Ordering::Equal => {}
        }
        if let Some(index) = (0..layout.rest.len()).find(|index| left[keys + index] != right[keys + index]) {
            return Ok(Err(TableFault::Differs { key: layout.words(&left), column: layout.rest[index] }));
        }
        count += 1;
        if count % PAGE as u64 == 0 {
            progress(count);
        }
    }
}

/// The order in which both databases sort keys. Their cells are numbers and bytes: [`Walk::next`] lets nothing else through.
fn order(left: &[Cell], right: &[Cell]) -> Ordering {
    let order_of = |pair: (&Cell, &Cell)| match pair {
        (Cell::Number(left), Cell::Number(right)) => left.cmp(right),
        (Cell::Bytes(left), Cell::Bytes(right)) => left.cmp(right),
        (Cell::Number(_), _) => Ordering::Less,
        _ => Ordering::Greater,
    };
    left.iter().zip(right).map(order_of).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

impl Layout {
    /// A record's key as people name it.
    fn words(&self, record: &[Cell]) -> String {
        let word = |(name, cell): (&&str, &Cell)| match (*name, cell) {
            ("place", Cell::Number(number)) => match Place::from_number(*number) {
                Some(place) => format!("of row {}, position {}", place.seq(), place.position()),
                None => format!("at {number}"),
            },
            // Ids of blocks and transactions are shown from their last byte on.
            ("txid" | "hash", Cell::Bytes(bytes)) => {
                format!("{name} {}", hex::encode(&bytes.iter().rev().copied().collect::<Vec<u8>>()))
            }
            (name, Cell::Bytes(bytes)) => format!("{name} {}", hex::encode(bytes)),
            (name, Cell::Number(number)) => format!("{name} {number}"),
            (name, Cell::Null | Cell::Text(_) | Cell::Foreign) => format!("{name} ?"),
        };
        self.key.iter().zip(record).map(word).collect::<Vec<String>>().join(", ")
    }
}

/// A walk through a table in the order of its keys.
struct Walk<'a> {
    database: &'a mut Database,
    layout: &'static Layout,
    page: VecDeque<Vec<Cell>>,
    after: Option<Vec<Cell>>,
    is_last_page: bool,
}

impl<'a> Walk<'a> {
    fn new(layout: &'static Layout, database: &'a mut Database) -> Walk<'a> {
        Walk { database, layout, page: VecDeque::new(), after: None, is_last_page: false }
    }

    fn next(&mut self) -> Result<Option<Vec<Cell>>, StoreFault> {
        if self.page.is_empty() && !self.is_last_page {
            self.read()?;
        }
        let Some(record) = self.page.pop_front() else { return Ok(None) };
        let key = &record[..self.layout.key.len()];
        if let Some(index) = key.iter().position(|cell| !matches!(cell, Cell::Number(_) | Cell::Bytes(_))) {
            return Err(StoreFault::Malformed { table: self.layout.table, column: self.layout.key[index] });
        }
        if self.page.is_empty() {
            self.after = Some(key.to_vec());
        }
        Ok(Some(record))
    }

    fn read(&mut self) -> Result<(), StoreFault> {
        let Layout { table, key, rest } = self.layout;
        let columns = [*key, *rest].concat().join(", ");
        let (condition, values) = match &self.after {
            None => (String::new(), Vec::new()),
            Some(after) => beyond(self.database, key, after),
        };
        let order = key.join(", ");
        let sql = format!("SELECT {columns} FROM {table}{condition} ORDER BY {order} LIMIT {PAGE}");
        let rows = self.database.query(table, &sql, values)?;
        self.is_last_page = rows.len() < PAGE;
        self.page = rows.into_iter().map(crate::record::Cells::into_cells).collect();
        Ok(())
    }
}

/// The condition for keys beyond one, said so that each database walks down the key's index for it.
fn beyond(database: &Database, key: &[&str], after: &[Cell]) -> (String, Vec<Cell>) {
    match database {
        Database::Sqlite(_) => {
            let marks = vec!["?"; key.len()].join(", ");
            (format!(" WHERE ({}) > ({marks})", key.join(", ")), after.to_vec())
        }
        // MariaDB compares tuples without the index.
        Database::Maria(_) => {
            let mut alternatives = Vec::new();
            let mut values = Vec::new();
            for index in 0..key.len() {
                let equal = key[..index].iter().map(|name| format!("{name} = ?"));
                let terms: Vec<String> = equal.chain([format!("{} > ?", key[index])]).collect();
                alternatives.push(format!("({})", terms.join(" AND ")));
                values.extend_from_slice(&after[..=index]);
            }
            (format!(" WHERE {}", alternatives.join(" OR ")), values)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::projection::schema::TABLES;

    #[test]
    fn every_column_of_every_table_is_compared_by_the_tables_own_key() {
        let tables = Projection::temporary().expect("there is room");
        let Database::Sqlite(connection) = &tables.database else { panic!("it is SQLite") };
        assert_eq!(LAYOUTS.iter().map(|layout| layout.table).collect::<Vec<_>>(), TABLES);
        for layout in LAYOUTS {
            let sql = format!("SELECT name, pk FROM pragma_table_info('{}')", layout.table);
            let mut statement = connection.prepare(&sql).expect("a statement");
            let columns = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("columns");
            let columns: Vec<(String, u32)> = columns.collect::<Result<_, _>>().expect("columns");
            let mut key: Vec<&(String, u32)> = columns.iter().filter(|(_, place)| *place > 0).collect();
            key.sort_by_key(|(_, place)| *place);
            assert_eq!(key.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), layout.key, "{}", layout.table);
            let mut all: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
            let mut compared = [layout.key, layout.rest].concat();
            all.sort_unstable();
            compared.sort_unstable();
            assert_eq!(compared, all, "{}", layout.table);
        }
    }
}
